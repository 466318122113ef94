"""The zoo: every known way to a score that is none, each as small as it can be, and what convicts it."""
