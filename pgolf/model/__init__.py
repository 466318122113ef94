"""The network: gpt.py assembles it and holds the one forward; every technique is a file of its own."""
