"""Ranges of test-time training."""
