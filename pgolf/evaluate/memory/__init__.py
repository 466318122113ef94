"""Eval-time memory: what is remembered of scored text beside the network, always as a distribution."""
