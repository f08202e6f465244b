"""What is to be searched."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Job:
    """What is to be searched: an objective as a child loads it, and its space.

    Attributes:
        name: For the run folder and for people.
        objective: Its description (engine/loading.py).
        space: JSON form.
        source: Hash of the objective's source, where it has one.
        strategy: A pickled strategy object in place of ``settings.method``.
        text: The space in words.
        budget: The budget of its trials when nobody says one.
        schedule: A pickled schedule object in place of ``settings.schedule``.
    """

    name: str
    objective: Mapping[str, Any]
    space: Mapping[str, Any]
    source: str | None = None
    strategy: bytes | None = None
    text: str = ""
    budget: int = 1
    schedule: bytes | None = None
