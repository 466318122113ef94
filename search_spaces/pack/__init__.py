"""Ranges of the techniques of pgolf/pack, one function each under the same name."""
