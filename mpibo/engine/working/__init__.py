"""A worker: it passes trials to its child and watches it; several ranks may be one worker."""
