"""Corpora, tokenizers, shards, loaders, and the byte counts that every score is divided by."""
