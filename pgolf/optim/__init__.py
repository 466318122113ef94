"""Optimizers, schedules and averaging: one idea per file, assembled by role in optimizer.py."""
