"""Ranges of the techniques of pgolf/data, one function each under the same name."""
