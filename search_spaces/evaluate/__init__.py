"""Ranges of the techniques of pgolf/evaluate, one function each under the same name."""
