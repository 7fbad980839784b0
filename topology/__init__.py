"""How it is wired: settings, topics, broker, workers, jobs, command line."""
