"""The messages between manager and workers: small dicts, JSON on the wire, each naming its trial.

=========  ================  ===========================================================================
run        manager, worker   ``id config budget seed``: evaluate this trial; where there are some ``checkpoints`` to
                             go on from, best first, each ``id step sha256``; ``rung``: the end of the budget is saved
cancel     manager, worker   ``id why grace text``: end this trial; a request, the worker's answer decides. ``why``:
                             end (the run ends: LOST), stop (a rule: STOPPED), timeout, abandon. Killed after ``grace``
quit       manager, worker   end the child and serve no more in this run
ready      worker, manager   ``host pid resources``: give me something to do
loading    worker, manager   ``id``: the objective is loaded first
began      worker, manager   ``id``: now it is evaluated; its time counts from here
report     worker, manager   ``id points``: each with ``step value metrics``, and ``checkpoint`` (``step sha256 bytes``)
                             where one was saved
note       worker, manager   ``id text``: what a person should know of this trial
finished   worker, manager   ``id outcome``
broken     worker, manager   ``line error``: the objective can't be loaded here
beat       both              I am here
gone       the transport     ``why``: this worker's rank is dead for sure
=========  ================  ===========================================================================
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from mpibo.outcome import MESSAGE_BYTES
from mpibo.strict import encoder
from mpibo.trial import Outcome, State, Trial

Message = dict[str, Any]

_encode = msgspec.json.Encoder().encode  # a tenth of the time of json, which a trial's cost is mostly made of
_decode = msgspec.json.Decoder().decode
_strict = encoder(",", ":")


def pack(message: Mapping[str, Any]) -> bytes:
    """A message as bytes.

    Raises:
        ValueError: It is larger than 64 KB, or holds NaN.
    """
    try:
        data = _encode(message)
    except UnicodeEncodeError:  # half of a surrogate pair
        data = _strict(message).encode()
    else:
        data = _strict(message).encode() if b"null" in data else data  # null is what it makes of NaN
    if len(data) > MESSAGE_BYTES:
        raise ValueError(f"a message of {len(data)} bytes is larger than {MESSAGE_BYTES}: {data[:80]!r}")
    return data


def unpack(data: bytes | bytearray) -> Message:
    """The message that these bytes say."""
    try:
        message: Message = _decode(data)
    except ValueError:  # what is strict JSON all the same, such as half of a surrogate pair
        message = json.loads(data)
    return message


def run(trial: Trial, checkpoints: Sequence[Mapping[str, Any]] = (), rung: bool = False) -> Message:
    """Ask a worker to evaluate a trial.

    Args:
        trial: The trial.
        checkpoints: What it may go on from, best first.
        rung: Whether the run has a schedule: the end of the budget is saved.
    """
    message = {"kind": "run", "id": trial.id, "config": trial.config, "budget": trial.budget, "seed": trial.seed}
    return message | ({"checkpoints": list(checkpoints)} if checkpoints else {}) | ({"rung": True} if rung else {})


def cancel(number: int, why: str, grace: float | None, text: str = "") -> Message:
    """Ask a worker to end a trial, and to kill it ``grace`` seconds later; never with None."""
    message = {"kind": "cancel", "id": number, "why": why, "text": text}
    return message if grace is None else message | {"grace": grace}


def finished(number: int, outcome: Outcome) -> Message:
    """Tell how a trial ended."""
    names = ("state", "value", "reason", "error", "duration", "host")
    told = {name: item for name in names if (item := getattr(outcome, name)) is not None}
    return {"kind": "finished", "id": number, "outcome": told | {"metrics": dict(outcome.metrics)}}


def outcome(message: Mapping[str, Any]) -> Outcome:
    """The outcome in a ``finished`` message."""
    told = message["outcome"]
    return Outcome(**{**told, "state": State(told["state"])})
