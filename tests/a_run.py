"""A small run, as the lines of its journal have it, for the tests of what is made from them."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from mpibo.trial import Event

TRACEBACK = """Traceback (most recent call last):
  File "train.py", line 3, in train
    raise ValueError("no\\nway")
ValueError: no
way
(worker 2 on node1)"""


def open_line(utc: float = 1e9, pid: int = 1, **settings: Any) -> Event:
    """The first line of a start, at ``utc`` seconds since the epoch."""
    space = {"parameters": [{"name": "lr"}, {"name": "opt"}], "forbid": []}
    utc_text = datetime.fromtimestamp(utc, UTC).isoformat()
    return {"kind": "open", "t": 0.0, "utc": utc_text, "host": "node1", "pid": pid, "settings": settings,
            "space": space, "objective": {"name": "digits"}, "versions": {"mpibo": "0"}}  # fmt: skip


def start(t: float, number: int, worker: int = 1, **more: Any) -> Event:
    config = {"lr": 10.0**-number if number < 9 else 0.5, "opt": "sgd" if number % 2 else "1"}
    return {"kind": "start", "t": t, "id": number, "config": config, "budget": 1, "worker": worker, "host": "node1",
            "origin": "model", "seed": number, **more}  # fmt: skip


def end(t: float, number: int, value: float, duration: float) -> Event:
    return {"kind": "end", "t": t, "id": number, "state": "DONE", "value": value, "duration": duration}


def fail(t: float, number: int, error: str = TRACEBACK) -> Event:
    return {"kind": "end", "t": t, "id": number, "state": "FAILED", "reason": "exception", "error": error,
            "duration": 1.0}  # fmt: skip


RUN = [
    open_line(max_trials=8, walltime=1000.0, workers=2, method="random", seed=3),
    start(2.0, 0, 1), start(2.0, 1, 2), end(6.0, 0, 0.5, 3.9), start(6.0, 2, 1), fail(8.0, 1), start(8.0, 3, 2),
    end(10.0, 2, 0.25, 4.0),
    {"kind": "lost", "t": 10.0, "id": 3, "why": "worker 2 is gone", "death": True},
    start(11.0, 4, 1, retry_of=3),
    {"kind": "report", "t": 12.0, "id": 4, "step": 1, "value": 0.9},
]  # fmt: skip
CLOSE = {"kind": "close", "t": 16.0, "why": "max_trials reached", "exit_code": 0}
