"""The engine: one manager, its proposer and scribe, and workers whose children evaluate the objective."""
