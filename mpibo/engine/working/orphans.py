"""Outcomes whose manager was gone when they came: kept in the run folder until the run is resumed."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from mpibo.engine import messages
from mpibo.engine.messages import Message
from mpibo.store import atomic
from mpibo.trial import State

FOLDER = "orphans"


def keep(folder: str | Path, message: Mapping[str, Any]) -> Path:
    """Write a ``finished`` message to ``orphans/ID.json`` in the run folder; gives the file.

    Raises:
        OSError: The folder is not writable, the disk is full.
    """
    path = Path(folder, FOLDER, f"{int(message['id'])}.json")
    path.parent.mkdir(exist_ok=True)  # never the run folder itself: it may be gone for good
    atomic.write(path, messages.pack(message) + b"\n")
    return path


def take(folder: str | Path, complain: Callable[[str], None] = lambda line: None) -> dict[int, Message]:
    """The ``finished`` messages that lie in a run folder, by trial; the files stay.

    Args:
        folder: The run folder; one without orphans gives none.
        complain: Is told, in one line, of each file that can't be read; it is left out.
    """
    found = {}
    for path in sorted(_files(folder)):
        try:
            message = _checked(json.loads(path.read_bytes()))
            if str(message["id"]) != path.stem:
                raise ValueError(f"it holds the outcome of trial {message['id']}")
        except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
            complain(f"{path} is no outcome of a trial and is left out: {error or type(error).__name__}")
            continue
        found[message["id"]] = message
    return found


def clear(folder: str | Path, ids: Iterable[int]) -> None:
    """Remove the files of these trials, and the folder ``orphans`` when it is empty then."""
    for number in ids:
        with suppress(OSError):
            Path(folder, FOLDER, f"{number}.json").unlink()
    with suppress(OSError):
        Path(folder, FOLDER).rmdir()


def _files(folder: str | Path) -> list[Path]:
    with suppress(OSError):
        return [path for path in Path(folder, FOLDER).iterdir() if path.suffix == ".json" and path.name[0] != "."]
    return []


def _checked(message: Any) -> Message:
    """The message itself when it is a whole ``finished`` message.

    Raises:
        ValueError, KeyError, TypeError: It is not.
    """
    if not isinstance(message, dict) or message["kind"] != "finished" or type(message["id"]) is not int:
        raise ValueError("no `finished` message")
    outcome = messages.outcome(message)
    number = outcome.value
    if outcome.state is State.RUNNING or not isinstance(outcome.metrics, dict):
        raise ValueError(f"state {outcome.state}, metrics {type(outcome.metrics).__name__}")
    if number is not None and (type(number) not in (int, float) or not math.isfinite(number)):
        raise ValueError(f"the value is {number!r}")
    messages.pack(message)  # NaN in the metrics: no line of a journal
    if type(outcome.duration) not in (int, float):
        raise ValueError(f"the duration is {outcome.duration!r}")
    return message
