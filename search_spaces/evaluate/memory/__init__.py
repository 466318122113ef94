"""Ranges of eval-time memory."""
