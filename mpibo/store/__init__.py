"""What lies in a run folder: the journal, which is the truth, its lock, and the files made from it."""
