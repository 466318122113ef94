"""From codes to the one file that ships, and the bytes of code that go with it."""
