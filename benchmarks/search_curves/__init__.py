"""Searches with schedules in virtual time: objectives with learning curves, the driver, the scores."""
