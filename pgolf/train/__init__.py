"""The training loop, its budget, and how ranks share it."""
