"""Ratios against a reference, both measured in one run: `make bench`. Never a timed test."""
