"""Ranges of the techniques of pgolf/quantize, one function each under the same name."""
