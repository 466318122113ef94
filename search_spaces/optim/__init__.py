"""Ranges of the techniques of pgolf/optim, one function each under the same name."""
