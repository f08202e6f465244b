"""The manager: what it knows of the run, of the workers and of the proposals, and its message loop."""
