"""The journal in S3: pieces of whole lines whose names say which owner put which lines, and their hash.

``journal/0003/000000000812-000000000840-HASH.jsonl`` holds lines 812 to 840, put by the third owner of the place. An
owner's first piece begins where it took over (an empty one says so at once), and from that line on the pieces of
earlier owners do not count: what an owner that does not know yet that it was fenced off still puts harms nobody.

The last pieces, of earlier owners too, become one: a piece of the owner's that begins where the first of them begins
and ends where the last one does. By the same rule they do not count from the moment on at which it is there, all at
once.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

FOLDER = "journal/"
MERGE = 32  # pieces that become one, at least,
GROWTH = 4  # in one so many times as large as each of them,
LARGEST = 8 * 2**20  # bytes, at most: one put, so it is there whole or not at all
_NAME = re.compile(r"journal/(\d+)/(\d+)-(\d+)-([0-9a-f]{64})\.jsonl")
_CHECKPOINT = re.compile(r"checkpoints/(\d+)/(\d+)-([0-9a-f]{64})\.ckpt")


class Gap(ValueError):
    """Lines are missing between pieces."""


@dataclass(frozen=True, order=True)
class Piece:
    """Lines ``first`` to ``last`` of a journal, as one object."""

    generation: int
    first: int
    last: int
    sha256: str

    @property
    def name(self) -> str:
        """Its name."""
        return f"{FOLDER}{self.generation:04}/{self.first:012}-{self.last:012}-{self.sha256}.jsonl"

    @classmethod
    def parse(cls, name: str) -> Piece | None:
        """The piece of this name; None if it is none."""
        match = _NAME.fullmatch(name)
        return cls(int(match[1]), int(match[2]), int(match[3]), match[4]) if match else None


@dataclass(frozen=True)
class Chosen:
    """A piece whose lines up to ``last`` belong to the journal."""

    piece: Piece
    last: int


def pieces_of(names: Iterable[str]) -> list[Piece]:
    """The pieces among some names."""
    return sorted(piece for name in names if (piece := Piece.parse(name)) is not None)


def chain(pieces: Iterable[Piece]) -> list[Chosen]:
    """The pieces that make up the journal, in order.

    Raises:
        Gap: Lines are missing.
    """
    owners: dict[int, dict[int, Piece]] = {}  # of each owner, by their first line; the longest where there are several
    for piece in sorted(pieces):
        owners.setdefault(piece.generation, {})[piece.first] = piece
    chosen: list[Chosen] = []
    end: int | None = None  # the line before which the later owners' pieces begin
    for _, own in sorted(owners.items(), reverse=True):
        begin = min(own)
        if end is not None and begin > end:
            continue  # it was fenced off before it put anything
        taken, line = _walk(own, begin, end)
        if end is not None and line < end:
            raise Gap(f"lines {line} to {end - 1} are missing")
        chosen[:0] = taken
        end = begin
        if begin == 1:
            break
    if end not in (None, 1):
        raise Gap(f"lines 1 to {end - 1 if end else 0} are missing")
    return chosen


def _walk(own: dict[int, Piece], begin: int, end: int | None) -> tuple[list[Chosen], int]:
    """One owner's pieces from ``begin`` on to before ``end``, and the line behind the last one."""
    taken: list[Chosen] = []
    line = begin
    while line in own and (end is None or line < end):
        piece = own[line]
        if piece.last < piece.first:
            break  # nothing but where it began
        last = piece.last if end is None else min(piece.last, end - 1)
        taken.append(Chosen(piece, last))
        line = last + 1
    if end is None and (beyond := [first for first in own if first > line]):
        raise Gap(f"lines {line} to {min(beyond) - 1} are missing")
    return taken, line


def tail(sizes: Sequence[int]) -> int:
    """How many of the last pieces are to become one now; 0 for none.

    Since a line goes each time into a piece ``GROWTH`` times as large, it is sent few times. It takes nothing but sizes
    to know, so a start goes on with what the starts before it have left.

    Args:
        sizes: Bytes of each piece, in the order of their lines.
    """
    chosen = total = most = 0
    for count, size in enumerate(reversed(sizes), start=1):
        total, most = total + size, max(most, size)
        if total > LARGEST:
            break
        if count >= MERGE and total >= GROWTH * most:
            chosen = count
    return chosen


def last_line(chosen: Iterable[Chosen]) -> int:
    """The number of the last line that they hold; 0 of none."""
    return max((each.last for each in chosen), default=0)


def checkpoint_name(trial: int, step: int, sha256: str) -> str:
    """What a checkpoint is called in S3: two of the same name have the same bytes."""
    return f"checkpoints/{trial}/{step}-{sha256}.ckpt"


def is_checkpoint(name: str) -> bool:
    """Whether an object is a checkpoint."""
    return _CHECKPOINT.fullmatch(name) is not None
