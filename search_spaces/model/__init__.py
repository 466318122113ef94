"""Ranges of the techniques of pgolf/model, one function each under the same name."""
