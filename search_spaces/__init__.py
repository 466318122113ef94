"""What to search: one function per technique, composed into rounds; the study that asks and tells."""
