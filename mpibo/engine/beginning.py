"""What a run begins with: start configs, and another run's results (``warm_start``), settled once at its first start.

The results become ``add`` lines of our journal, the start configs are in its ``open`` line: the other run is never read
again, by a later start or by a replay.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from mpibo.budgets import budget_range
from mpibo.settings import Settings
from mpibo.store.journal import NAME, event_of
from mpibo.trial import Event

log = logging.getLogger("mpibo")


@dataclass(frozen=True)
class Beginning:
    """How a run begins, or once began.

    Attributes:
        settings: The person's, with all start configs.
        results: ``add`` events for the first start.
        warm: What the ``open`` line says of a warm start: ``run``, ``results`` (their number), ``start``.
    """

    settings: Settings
    results: Sequence[Event] = ()
    warm: Mapping[str, Any] | None = None

    def check(self, events: Sequence[Event]) -> None:
        """Say so where the first start was killed before all results of the other run were written."""
        added = sum(event["kind"] == "add" for event in events)
        if events and self.warm and added < self.warm["results"]:
            told = "only %d of the %d results of %s are in the journal: the first start was killed while it wrote them"
            log.warning(told, added, self.warm["results"], self.warm["run"])


def beginning(space: Mapping[str, Any], settings: Settings) -> Beginning:
    """Settle what a run in ``settings.out`` begins with.

    Args:
        space: JSON form of its space.
        settings: The person's.

    Raises:
        ValueError: The other run can't be read, has no results, nothing in common with ours, or the other sign.
    """
    first = _first_line(settings.out)
    if first is None and settings.warm_start is None:
        return Beginning(settings)
    if first is not None:
        warm = first.get("warm")
        if settings.warm_start is not None:
            was = f"that of {warm['run']} is in its journal" if warm else "it began without one"
            log.warning("warm_start is for a run's first start; this one goes on: %s", was)
        more = warm["start"] if warm else []
        return Beginning(replace(settings, start=(*settings.start, *more)), (), warm)
    from mpibo.space import Space
    from mpibo.warm import prior

    assert settings.warm_start is not None
    found = prior(
        settings.warm_start, Space.from_json(space), settings.aims, seed=settings.seed,
        budget=budget_range(settings.budget or 1)[1],
    )  # fmt: skip
    log.info("warm start from %s: %s", settings.warm_start, found.told)
    warm = {"run": settings.warm_start, "results": len(found.results), "start": found.start}
    return Beginning(replace(settings, start=(*settings.start, *found.start)), found.results, warm)


def _first_line(out: str | None) -> Event | None:
    """The first line of the journal of a run that goes on."""
    if out is None or not (path := Path(out, NAME)).is_file():
        return None
    try:
        with open(path, "rb") as file:
            return event_of(file.readline())
    except OSError as error:
        raise ValueError(f"can't read {path}: {error.strerror}") from error
