"""What a point is worth: scores, pending points, and the candidates over which scores are maximised."""
