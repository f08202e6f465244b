"""Adapters of the peers: one module each, with the class ``Optimiser`` that ``drive.Optimiser`` describes."""
