"""What the demo streams: short-video uploads written for it, and viewers who watch them."""
