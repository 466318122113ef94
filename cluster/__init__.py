"""Where trials run: Ray Tune drives gangs of ranks; the study, the store and the record outlive it."""
