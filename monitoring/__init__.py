"""What we see: every metric in one place."""
