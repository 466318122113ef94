"""Proof that a score is what it says: laws checked on the artifact, and a lossless round trip."""
