"""What decides: features, student, bands, annotators."""
