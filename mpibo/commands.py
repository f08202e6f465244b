"""The small commands: try an objective once, read what a trial printed."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from mpibo.budgets import budget_range
from mpibo.cli import Parser, describe, from_flags, parser, split_command
from mpibo.engine import messages
from mpibo.engine.environment import fair_threads
from mpibo.engine.launch import fixed_timeout
from mpibo.engine.probe import Probe
from mpibo.engine.transport import Local
from mpibo.engine.working.log import path_of, printed_by
from mpibo.settings import load_toml, settings_from
from mpibo.store.journal import read
from mpibo.trial import State, Trial, trial_seed


def check(argv: Sequence[str]) -> int:
    """``mpibo check``: print the space as understood and evaluate one config of it."""
    argv, command = split_command(argv)
    given = parser("mpibo check").parse_args(argv)
    name, description, _ = describe(given.objective, command)
    file = load_toml(given.settings) if given.settings else {}
    settings = settings_from({key.replace("-", "_"): value for key, value in file.items()}, from_flags(given))
    signed = given.maximize is not None or "maximize" in file or bool(settings.goals)
    found = Probe(description, name, settings.space, settings.fix, settings.schedule is not None).result()
    aims = settings.aims if signed else settings.aims._replace(maximize=found["maximize"])
    print(f"{name}: {aims} over\n{found['text']}")
    config = _a_config(found["space"], settings.seed, settings.start)
    print(f"\none trial: {config}", flush=True)
    setup = {
        "objective": description, "fix": settings.fix, "folder": None, "argv": sys.argv,
        "isolation": settings.isolation, "trial_timeout": fixed_timeout(settings),
        "memory": settings.memory_per_worker, "threads": fair_threads(1), "goals": list(settings.goals),
        "limits": list(settings.limits),
    }  # fmt: skip
    budget = budget_range(settings.budget or found["budget"])[0]
    trial = Trial(id=0, config=config, budget=budget, seed=trial_seed(settings.seed, 0))
    with Local(1, setup, echo=sys.stdout.buffer) as transport:
        for message in _said(transport):
            match message["kind"]:
                case "ready":
                    transport.send(1, messages.run(trial))
                case "report":
                    for point in message["points"]:
                        print(f"  step {point['step']}: {point['value']}", flush=True)
                case "broken":
                    print(message["error"], file=sys.stderr)
                    return 1
                case "finished":
                    return _verdict(messages.outcome(message))
    return 1


def _said(transport: Local) -> Iterator[Mapping[str, Any]]:
    while True:
        arrived = transport.receive(time.monotonic() + 60)
        if arrived:
            yield arrived[1]


def _verdict(outcome: Any) -> int:
    sys.stdout.flush()
    if outcome.state is State.DONE:
        extra = "".join(f", {key} {value}" for key, value in outcome.metrics.items())
        value = "done" if outcome.value is None else f"value {outcome.value:.6g}"
        print(f"{value} after {outcome.duration:.2f} s{extra}")
        return 0
    print(f"{outcome.state}: {outcome.reason}\n{outcome.error}", file=sys.stderr)
    return 1


def _a_config(form: Mapping[str, Any], seed: int, start: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    import numpy as np

    from mpibo.space import Space

    config: dict[str, Any] = Space.from_json(dict(form)).complete(
        dict(start[0]) if start else {}, np.random.default_rng(seed)
    )
    return config


def show_log(argv: Sequence[str]) -> int:
    """``mpibo log RUN ID``: what a trial printed, and how it ended."""
    made = Parser(prog="mpibo log", description="What a trial printed, and how it ended.")
    made.add_argument("run", metavar="RUN", help="the run's folder")
    made.add_argument("id", metavar="ID", type=int, help="the trial's number")
    made.add_argument("--debug", action="store_true", help="show the traceback of an error")
    given = made.parse_args(argv)
    folder = Path(given.run)
    if not (folder / "journal.jsonl").exists():
        raise ValueError(f"{folder} is no run folder: it holds no journal.jsonl")
    events = [event for event in read(folder).events if event.get("id") == given.id]
    starts = [event for event in events if event["kind"] == "start"]
    for event in events:
        if event["kind"] == "add":
            told = {} if event.get("value") is None else {"value": event["value"]}
            told |= event.get("metrics", {})
            print(f"trial {given.id} was told, not run: {event['config']}")
            print("  ".join(f"{name} {value:.6g}" if isinstance(value, float) else f"{name} {value}"
                            for name, value in told.items()))  # fmt: skip
            return 0
    if not starts:
        raise ValueError(f"{folder} has no trial {given.id} that was started")
    worker = starts[0].get("worker", 0)
    print(f"trial {given.id} on worker {worker} ({starts[0].get('host', '?')}): {starts[0]['config']}")
    printed = printed_by(path_of(folder, worker), given.id)
    sys.stdout.flush()
    os.write(1, printed or b"(it printed nothing)\n")
    for event in events:
        if event["kind"] == "end":
            value = "" if event.get("value") is None else f" {event['value']:.6g}"
            numbers = {} if value else event.get("metrics", {})
            value += "".join(f"  {key}={told}" for key, told in numbers.items() if isinstance(told, (int, float)))
            print(f"{event['state']}{value} after {event['duration']:.2f} s")
            if event.get("error"):
                print(f"{event['reason']}: {event['error']}")
        elif event["kind"] in ("lost", "abandon"):
            print(f"{event['kind']}: {event['why']}")
    return 0
