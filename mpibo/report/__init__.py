"""What a person sees of a run, made from its journal."""
