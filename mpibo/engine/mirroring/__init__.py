"""The mirror: the run folder in S3 while the run goes on, by a child of rank 0."""
