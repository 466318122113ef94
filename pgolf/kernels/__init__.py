"""One operation per file: the fast form, and its plain reference beside it."""
