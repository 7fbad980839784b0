"""What happens, in order: stages without Kafka or settings, and what they keep."""
