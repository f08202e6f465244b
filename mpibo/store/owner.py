"""owner.json in S3: one cluster at a time mirrors a run to a place, held by conditional puts.

As run.lock, but nobody's file system is needed. The object says who owns the place; it is put anew every 30 s, each
time only in the place of the one that we put before. Whoever takes it over does the same, so of two exactly one
succeeds, and the other one learns of it at its next put. Each owner has a number of its own, its *generation*; what it
writes bears that number (pieces.py).
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict

from mpibo.store.lock import REFRESH, SILENCE, Holder, Locked, start_time
from mpibo.store.s3 import Conflict, Found, Missing, Place, Trouble

NAME = "owner.json"
TRIES = 20


class Lost(Trouble):
    """Our object is gone though nobody took it over: somebody has cleared the place. Acquire it anew."""


class Owner:
    """The owner of a place in S3.

    Args:
        place: The place.
        me: Who we are; a holder with the same token is ourselves.
        silence: Seconds without a put after which an owner is taken for dead, by the server's clock.
        every: Seconds between our puts.

    Attributes:
        generation: Our number; 0 until we own the place.
    """

    def __init__(
        self, place: Place, me: Holder, silence: float = SILENCE, every: float = REFRESH,
        now: Callable[[], float] = time.monotonic,
    ) -> None:  # fmt: skip
        self.generation = 0
        self._place = place
        self._me = me
        self._silence = silence
        self._every = every
        self._now = now
        self._tag = ""
        self._beat = 0
        self._due = 0.0

    def acquire(self, least: int = 0) -> None:
        """Become the owner, in the place of one that is gone too; our generation is above ``least``.

        Raises:
            Locked: Another one lives.
            Trouble: S3 can't be asked, or knows no conditional puts.
        """
        for _ in range(TRIES):
            found = self._look()
            if found is None:
                self._tag, self.generation = "", least + 1
            else:
                self._check_gone(found)
                self._tag, self.generation = found.tag, max(least, _generation(found.data)) + 1
            if self._put():
                self._try_conditions()
                return
        self.generation = 0
        raise Locked(f"{self._place.url} keeps changing hands: several runs want it; start one of them")

    def check(self) -> None:
        """Look only.

        Raises:
            Locked: Another one lives.
        """
        if (found := self._look()) is not None:
            self._check_gone(found)

    def refresh(self, now: bool = False) -> bool:
        """Say that we live, where it is due; False when another one has taken over.

        Raises:
            Lost: The place was cleared. Trouble: S3 does not answer.
        """
        if not self.generation or (not now and self._now() < self._due):
            return True
        return self._put()

    def release(self) -> None:
        """Give the place back; one that is no longer ours is left alone."""
        if self.generation:
            with suppress(Trouble):
                self._put(released=True)
            self.generation = 0

    def _look(self) -> Found | None:
        try:
            return self._place.get(NAME)
        except Missing:
            return None

    def _put(self, released: bool = False) -> bool:
        """Put the object in the place of our last one (the first: of none); False when it was another's."""
        self._beat += 1
        told = {"holder": asdict(self._me), "generation": self.generation, "beat": self._beat, "released": released}
        try:
            self._tag = self._place.put(NAME, json.dumps(told).encode(), match=self._tag or None, new=not self._tag)
        except Conflict:
            found = self._look()
            if found is None or _token(found.data) != self._me.token or _generation(found.data) != self.generation:
                return False
            self._tag = found.tag  # the answer to a put that worked was lost
        except Missing:
            raise Lost(f"{self._place.url}/{NAME} was deleted") from None
        self._due = self._now() + self._every
        return True

    def _try_conditions(self) -> None:
        """A store that puts whatever the condition says can't keep two clusters apart."""
        for match in (None, f'"{"0" * 32}"'):
            try:
                self._place.put(NAME, b"{}", match=match, new=match is None)
            except (Conflict, Missing):
                continue
            with suppress(Trouble):
                self._place.delete([NAME])
            told = "this store knows no conditional puts: it can't keep a second cluster from writing there"
            raise Trouble(f"{self._place.url}: {told}", hopeless=True)

    def _check_gone(self, found: Found) -> None:
        try:
            told = json.loads(found.data)
            holder = Holder(**told["holder"])
            if told["released"] or holder.token == self._me.token:
                return
        except (ValueError, TypeError, KeyError):
            holder = None
        if found.age < self._silence and not (holder and _is_gone(holder, self._me)):
            who = f"process {holder.pid} on {holder.host}" if holder else "a process that it does not name"
            raise Locked(
                f"{self._place.url} is the mirror of {who}, last heard of {found.age:.0f} s ago: wait for that run to "
                f"end (one that is gone can be taken over after {self._silence:.0f} s)"
            )


def _is_gone(holder: Holder, me: Holder) -> bool:
    """As for run.lock, but hosts of two clusters may have the same name: only the same boot of it says something."""
    if holder.job is not None and holder.job == me.job and holder.restarts < me.restarts:
        return True
    if holder.boot is None or holder.boot != me.boot or holder.namespace != me.namespace:
        return False
    now = start_time(holder.pid)
    return now is None if holder.started is None else now != holder.started


def _generation(data: bytes) -> int:
    try:
        return int(json.loads(data)["generation"])
    except (ValueError, TypeError, KeyError):
        return 0


def _token(data: bytes) -> str | None:
    try:
        return str(json.loads(data)["holder"]["token"])
    except (ValueError, TypeError, KeyError):
        return None
