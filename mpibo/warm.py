"""A warm start: what another run, or a table of results, says about a space that is to be searched.

Where the space is the same, its results become rows of ours; where it only overlaps, its best configs are tried first.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from mpibo.goals import Aims, aims_in
from mpibo.outcome import outcome_of
from mpibo.parameters import Parameter
from mpibo.space import Space
from mpibo.store import csv, journal
from mpibo.trial import Config, Event, State, Trial, trials_of

STARTS = 5  # best configs of an overlapping space that are tried


@dataclass(frozen=True)
class Prior:
    """What a search starts from.

    Attributes:
        results: ``add`` events without ids, in the other run's order.
        start: Whole configs to try first, best first.
        told: What this is, in words.
    """

    results: list[Event]
    start: list[Config]
    told: str


@dataclass(frozen=True)
class _Found:
    """What a file holds: trials, and where known the space's JSON form and what the values mean."""

    trials: list[Trial]
    form: Mapping[str, Any] | None = None
    aims: Aims | None = None


def prior(
    run: str | os.PathLike[str], space: Space, aims: Aims | None = None, *, seed: int = 0, budget: int = 1
) -> Prior:  # fmt: skip
    """Read another run's results for a search over ``space``.

    DONE and STOPPED trials count. Of a CSV file without a journal beside it nobody knows the space: rows that are whole
    legal configs of ours are results, and its values are taken to have our sign.

    Args:
        run: A run folder, its ``journal.jsonl``, its ``results.csv``, or any CSV file with columns ``value`` (for
            goals ``metrics.NAME``) and ``config.NAME`` or ``NAME``.
        space: What is to be searched.
        aims: Our sign, goals and limits.
        seed: Of what is sampled for names that an overlapping space lacks.
        budget: Of a CSV file's rows, where it has no column ``budget``.

    Raises:
        ValueError: No such file, no result in it, nothing in common with the space, or the other sign.
    """
    aims = aims or Aims()
    path = Path(run)
    found = _read(path, space, budget)
    if found.aims and not aims.goals and found.aims.maximize != aims.maximize:
        ways = ("minimises", "maximises")
        raise ValueError(
            f"{path} {ways[found.aims.maximize]} and this search {ways[aims.maximize]}: their values don't compare"
        )
    trials = list(_with_results(found.trials, aims))
    if not trials:
        wanted = "a value" if not aims.names else f"the metrics {', '.join(aims.names)}"
        raise ValueError(f"{path} has no trial that is done and has {wanted}: nothing to start from")
    if found.form is not None and _meaning(found.form) == _meaning(space.to_json()):
        rows = [replace(trial, config=_ordered(space, trial.config)) for trial in trials]
        return Prior(list(map(_added, rows)), [], f"{len(rows)} results of the same space")
    if found.form is None:
        rows = [replace(trial, config=config) for trial in trials if (config := _whole(space, trial.config))]
        if rows:
            rest = f", {len(trials) - len(rows)} rows do not fit the space" if len(rows) < len(trials) else ""
            return Prior(list(map(_added, rows)), [], f"{len(rows)} results{rest}")
    start = _best_legal(trials, space, aims, seed)
    if not start:
        names = ", ".join(space.names)
        raise ValueError(f"{path} has no parameter with legal values in common with this space: {names}")
    told = f"another space; the {len(start)} best of its configs come first, as far as they fit"
    return Prior([], start, told)


def _read(path: Path, space: Space, budget: int) -> _Found:
    try:
        if path.suffix == ".csv":
            trials = csv.read(path, space.names, budget=budget)
            beside = path.parent / journal.NAME
            about = _opening(beside) if path.name == "results.csv" and beside.exists() else None
        else:
            if path.is_dir() and not (path / journal.NAME).exists():
                raise ValueError(f"{path} is no run folder: it holds no {journal.NAME}")
            events = journal.read(path).events
            trials = trials_of(events)
            about = next((event for event in events if event["kind"] == "open"), None)
    except OSError as error:
        raise ValueError(f"can't read {path}: {error.strerror}") from error
    if about is None:
        return _Found(trials)
    return _Found(trials, about["space"], aims_in(about["settings"]))


def _opening(path: Path) -> Event | None:
    """The first line of a journal."""
    with open(path, "rb") as file:
        return journal.event_of(file.readline())


def _with_results(trials: Sequence[Trial], aims: Aims) -> Iterator[Trial]:
    """The trials that have what the aims ask for, with the value that it means to us."""
    for trial in trials:
        if trial.state not in (State.DONE, State.STOPPED):
            continue
        told = dict(trial.metrics) if aims.goals else {**trial.metrics, "value": trial.value}
        outcome = outcome_of(told, aims=aims)
        if outcome.state is State.DONE:
            yield replace(trial, value=outcome.value, metrics=outcome.metrics)


def _meaning(form: Mapping[str, Any]) -> Any:
    """What of a space's JSON form says which configs it has: not the order, nor the defaults."""
    plain = json.loads(json.dumps(form))
    parameters = {each["name"]: {name: item for name, item in each.items() if name != "default"}
                  for each in plain["parameters"]}  # fmt: skip
    return parameters, sorted(plain.get("forbid", ()))


def _ordered(space: Space, config: Config) -> Config:
    return {name: config[name] for name in space.names if name in config}


def _added(trial: Trial) -> Event:
    event: Event = {"kind": "add", "config": trial.config, "budget": trial.budget}
    if trial.value is not None:
        event["value"] = trial.value
    return event | {"metrics": dict(trial.metrics)} if trial.metrics else event


def _whole(space: Space, config: Config) -> Config | None:
    """A row of a table as a config of the space: every active name has a legal value, and no name is unknown to it.

    What stands in the cells of inactive parameters does not count.
    """
    if not set(config) <= set(space.names):
        return None
    try:
        return space.trim(_legal(space, config))
    except ValueError:
        return None


def _legal(space: Space, config: Config) -> Config:
    """What of a config has a name and a value that the space knows."""
    legal = {}
    for name, value in config.items():
        if name in space.parameters:
            for reading in _readings(space.parameters[name], value):
                try:
                    code = space.parameters[name].code(reading)
                except ValueError:
                    continue
                legal[name] = space.parameters[name].value_of(code)
                break
    return legal


def _readings(parameter: Parameter, value: Any) -> Iterator[Any]:
    """The value, then what other programs may have meant by it: 3.0 for 3, True for true."""
    yield value
    if isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value):
        yield from (float(value), int(value)) if value == int(value) else ()
    yield from (level for level in parameter.levels or () if str(level) == str(value))


def _best_legal(trials: Sequence[Trial], space: Space, aims: Aims, seed: int) -> list[Config]:
    """The best configs, distinct, as far as our space knows their names and values; the rest is sampled."""
    free = {name for name, each in space.parameters.items() if each.kind != "constant"}
    found: list[Config] = []
    for number, trial in enumerate(sorted(trials, key=_rank(trials, aims))):
        legal = _legal(space, trial.config)
        if free & set(legal):
            try:
                config = space.complete(legal, np.random.default_rng((seed, 3, number)))
            except ValueError:
                continue
            if config not in found:
                found.append(config)
            if len(found) == STARTS:
                break
    return found


def _rank(trials: Sequence[Trial], aims: Aims) -> Callable[[Trial], tuple[Any, ...]]:
    """A key that sorts within limits first, then by budget, then by value; with several goals by their mean place."""
    costs = {trial.id: aims.costs(trial.value, trial.metrics) or () for trial in trials}
    goals = zip(*costs.values(), strict=True)
    columns = [{cost: place for place, cost in enumerate(sorted(set(goal)))} for goal in goals]

    def key(trial: Trial) -> tuple[Any, ...]:
        places = [places[cost] for places, cost in zip(columns, costs[trial.id], strict=True)]
        return not aims.keep(trial.metrics), -trial.budget, sum(places), trial.id

    return key
