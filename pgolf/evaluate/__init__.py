"""Bits per byte as deployed: one scorer, its window plans, and the fresh process that runs it."""
