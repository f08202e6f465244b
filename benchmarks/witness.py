"""A witness of a run that trusts nobody: an objective that notes its own evaluations, and a reading of the journal.

Nothing of the library is used here: the journal's lines are read anew, from their bytes alone, and held against the
notes. ``Witness`` finds lines that went missing, evaluations that were done twice, and results that nobody told.
"""

from __future__ import annotations

import json
import os
import time
import zlib
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

space = {"x": (0.0, 1.0), "y": (0.0, 1.0)}
FINAL = {"end", "lost", "abandon"}


def noted(config: dict[str, Any], *, seconds: float = 0.01, notes: str, trial: Any) -> float:
    """Sleep for a moment; write into the file ``notes`` that this trial begins, and its value before it is told."""
    value: float = (config["x"] - 0.3) ** 2 + (config["y"] - 0.6) ** 2
    _note(notes, {"begin": trial.id, "key": key(config)})
    trial.report(2 * value, step=1)
    time.sleep(seconds * (0.5 + (trial.seed % 1000) / 1000))
    _note(notes, {"told": trial.id, "value": value})
    return value


def _note(path: str, words: dict[str, Any]) -> None:
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.write(file, json.dumps(words).encode() + b"\n")
    os.close(file)


def key(config: dict[str, Any]) -> str:
    """A config as text: equal for equal configs."""
    return json.dumps(config, sort_keys=True)


@dataclass
class Row:
    """A trial, as the journal's lines tell it."""

    id: int
    config: dict[str, Any]
    budget: int
    origin: str
    seed: int
    worker: int | None
    retry_of: int | None
    opened: int  # the start of the run in which it began, from 1
    state: str = "RUNNING"
    value: float | None = None
    reason: str | None = None
    duration: float | None = None
    order: int | None = None
    reports: list[tuple[float, float]] = field(default_factory=list)


def good_lines(data: bytes, lines: int = 0) -> list[bytes]:
    """The lines up to the first that is not whole, numbered from ``lines + 1`` on, and true to its checksum."""
    found: list[bytes] = []
    for line in data.splitlines(keepends=True):
        at = line.rfind(b', "crc": "')
        if at < 0 or line[at:] != b', "crc": "%08x"}\n' % zlib.crc32(line[:at]):
            break
        if not line.startswith(b'{"n": %d, ' % (lines + len(found) + 1)):
            break
        found.append(line)
    return found


class Witness:
    """What a journal and the notes of its objective say, followed over all kills and starts of the run.

    Attributes:
        rows: Trials by id.
        kept: The bytes of all good lines seen so far: they must stay where they are.
        kinds: Number of lines of each kind.
        lost: Lines that were there once and are not any more, and told values that another one replaced.
        doubled: Trials begun twice, configs evaluated after their result, second results, second retries.
        differences: Whatever else does not fit, the library's tables included.
        findings: Each of these in words.
    """

    def __init__(self) -> None:
        self.rows: dict[int, Row] = {}
        self.kept = b""
        self.lines = 0
        self.kinds: Counter[str] = Counter()
        self.lost = self.doubled = self.differences = 0
        self.findings: list[str] = []
        self.opens: list[dict[str, Any]] = []
        self.begun: dict[int, str] = {}
        self.told: dict[int, float] = {}
        self._ended = 0
        self._done: dict[str, int] = {}  # trial by the key of a config that is DONE
        self._retried: dict[int, int] = {}
        self._heard = 0  # bytes of the notes

    # --- the journal ------------------------------------------------------------------------------------------------

    def read(self, data: bytes) -> None:
        """Take in a journal file that has grown; all that was good in it before must still stand there."""
        if not data.startswith(self.kept):
            before, now = self.kept.splitlines(), data.splitlines()
            same = next((i for i, line in enumerate(before) if now[i : i + 1] != [line]), len(before))
            self.lost += len(before) - same
            self.findings.append(f"{len(before) - same} lines from line {same + 1} on are missing or changed")
            return
        fresh = good_lines(data[len(self.kept) :], self.lines)
        for line in fresh:
            self._take(json.loads(line))
        self.lines += len(fresh)
        self.kept += b"".join(fresh)

    def _take(self, event: dict[str, Any]) -> None:
        kind = event["kind"]
        self.kinds[kind] += 1
        if kind == "open":
            self.opens.append(event)
        elif kind == "start":
            self._start(event)
        elif kind == "report":
            self.rows[event["id"]].reports.append((event["step"], event["value"]))
        elif kind == "retire":
            for number in event["ids"]:
                self.rows[number].state = "LOST"
        elif kind in FINAL:
            self._final(event)

    def _start(self, event: dict[str, Any]) -> None:
        number, again = event["id"], event.get("retry_of")
        if number != len(self.rows):
            self.differs(f"trial {number} starts as row {len(self.rows)}")
        row = Row(number, event["config"], event["budget"], event["origin"], event["seed"], event["worker"], again,
                  len(self.opens))  # fmt: skip
        self.rows[number] = row
        if (earlier := self._done.get(key(row.config))) is not None:
            self._twice(f"trial {number} starts the config of trial {earlier}, which is DONE")
        if again is None:
            return
        if again in self._retried:
            self._twice(f"trial {again} is asked again as {self._retried[again]} and as {number}")
        self._retried[again] = number
        first = self.rows[again]
        if (first.state, first.config, first.seed, first.budget) != ("LOST", row.config, row.seed, row.budget):
            self.differs(f"trial {number} is said to be trial {again} again, which is {first}")

    def _final(self, event: dict[str, Any]) -> None:
        row = self.rows[event["id"]]
        if row.state != "RUNNING":
            return  # the first such line stands
        row.order, self._ended = self._ended, self._ended + 1
        row.state = {"lost": "LOST", "abandon": "ABANDONED"}.get(event["kind"]) or event["state"]
        row.value, row.duration = event.get("value"), event.get("duration")
        row.reason = "lost" if event["kind"] == "lost" else event.get("reason")
        if row.state == "DONE":
            text = key(row.config)
            if text in self._done:
                self._twice(f"trials {self._done[text]} and {row.id} are both DONE and have the same config")
            self._done.setdefault(text, row.id)

    # --- the notes --------------------------------------------------------------------------------------------------

    def hear(self, notes: bytes) -> None:
        """Take in the objective's notes. Call it after ``read`` of a journal that is not older."""
        whole = notes[: notes.rfind(b"\n") + 1]
        for line in whole[self._heard :].splitlines():
            words = json.loads(line)
            if "told" in words:
                self.told[words["told"]] = words["value"]
                continue
            number, text = words["begin"], words["key"]
            if number not in self.rows:
                self.differs(f"trial {number} was evaluated, but the journal has no start line of it")
            elif key(self.rows[number].config) != text:
                self.differs(f"trial {number} was evaluated with {text}, its line says {self.rows[number].config}")
            if number in self.begun:
                self._twice(f"trial {number} was evaluated twice")
            self.begun[number] = text
        self._heard = len(whole)

    def settle(self, final: bool = False) -> None:
        """Hold results against the notes; at the end of a run every LOST trial must have been asked again."""
        for row in self.rows.values():
            if row.state == "DONE" and self.told.get(row.id) != row.value:
                self.differs(f"trial {row.id} is DONE with {row.value}, the objective told {self.told.get(row.id)}")
            if final and row.state == "LOST" and row.id not in self._retried:
                self.differs(f"trial {row.id} is LOST and was never asked again")
            if final and row.state == "RUNNING":
                self.differs(f"trial {row.id} still runs, at the end")

    def resumed(self) -> None:
        """Call after the first lines of a new start: what ran before it must have come to an end in the journal."""
        for row in self.rows.values():
            if row.state == "RUNNING" and row.opened < len(self.opens):
                self.differs(f"trial {row.id} ran when the manager was killed and is neither ended nor LOST")

    def compare(self, told: list[dict[str, Any]], what: str) -> None:
        """Hold a table of the library against our rows.

        Args:
            told: One dict for each trial, in the order of ids; only the names that it has are compared.
            what: Its name, for the finding.
        """
        if len(told) != len(self.rows):
            self.differs(f"{what} has {len(told)} rows, the journal's lines give {len(self.rows)}")
            return
        for row, other in zip(self.rows.values(), told, strict=True):
            wrong = {name: (getattr(row, name), value) for name, value in other.items() if getattr(row, name) != value}
            if wrong:
                self.differs(f"{what}, trial {row.id}: (lines, {what}) {wrong}")

    def differs(self, words: str) -> None:
        """Something does not fit."""
        self.differences += 1
        self.findings.append(words)

    def _twice(self, words: str) -> None:
        self.doubled += 1
        self.findings.append(words)
