"""Test-time training: what of the network learns from text that has been scored."""
