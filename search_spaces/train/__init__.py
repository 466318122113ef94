"""Ranges of the techniques of pgolf/train, one function each under the same name."""
