"""The manager's word with the mirror's child: one short message at a time, so that neither ever waits for the other."""

from __future__ import annotations

import logging
import select
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from mpibo.engine.children import Child
from mpibo.engine.environment import child_environment
from mpibo.store.journal import Journal
from mpibo.store.lock import Holder

log = logging.getLogger("mpibo")

FIRST = 90.0  # seconds for boto3 to be loaded and S3 to answer for the first time
START = 20.0  # seconds to become the owner
PATIENCE = 60.0  # seconds without an answer of S3 after which the end of a run waits no longer,
HURRY = 8.0  # and seconds in all where the run was told to end
RESTART = 60.0  # seconds between two children


class Mirrored:
    """A run's mirror in S3, made by a child.

    Args:
        url: Where.
        cores: Where to bind the child.

    Attributes:
        taken: Why the run has to end: another cluster owns the place. None as long as that is not so.
        hurry: Whether the end may not take long.
    """

    def __init__(self, url: str, cores: Sequence[int] | None = None) -> None:
        self.url = url
        self.taken: str | None = None
        self.hurry = False
        self._cores = cores
        self._child = self._started()
        self._restarted = time.monotonic()
        self._begin: dict[str, Any] = {}
        self._over = False
        self._idle = True  # it has taken in what it was told last
        self._told = 0
        self._behind = False  # S3 did not answer when it was asked last
        self._done = False
        self._heard = 0.0

    def check(self) -> None:
        """Wait until it is known whether the place can be used at all.

        Raises:
            ValueError: No boto3, no credentials, no such bucket; one line.
        """
        try:
            self._first(("ready", "away"), FIRST)  # where it is away ``begin`` decides
        except Away as error:
            log.warning("--sync: %s", error)

    def begin(self, folder: Path, me: Holder, fresh: bool) -> None:
        """Let it become the owner of the place and go to work.

        Args:
            folder: The run folder, locked.
            me: Who we are.
            fresh: Whether the run begins: then S3 has to be there. A run that goes on can do without for a while.

        Raises:
            ValueError: Another run is there, or another cluster works on it, or a fresh run's S3 is away; one line.
        """
        self._begin = {"folder": str(folder), "me": asdict(me)}
        self._child.send(self._begin)
        try:
            self._first(("owner",), START)
        except Away as error:
            if fresh or error.hopeless:
                raise ValueError(f"--sync: {error}") from None
            log.warning("--sync: %s; the run goes on and catches up", error)
            self._behind = True

    def poll(self, synced: int) -> str | None:
        """Tell it how much of the journal is on the disk; gives a reason to end the run, or None. Never waits."""
        if self._over:
            return self.taken
        for message in self._child.receive():
            self._take(message)
        if self.taken is None and self._child.ended and time.monotonic() >= self._restarted + RESTART:
            log.warning("the mirror's process ended by itself; it is started again")
            self._child.kill()
            self._child, self._restarted = self._started(), time.monotonic()
            self._child.send(self._begin)
            self._idle, self._told = True, 0
        if self._idle and synced > self._told and not self._child.ended:
            self._idle, self._told = False, synced
            self._child.send({"synced": synced})
        return self.taken

    def finish(self, journal: Journal) -> None:
        """Let it bring up the rest and give the place back; S3 that does not answer is not waited for long."""
        if self._over:
            return
        self._over = True
        began = self._heard = time.monotonic()
        self._child.send({"synced": journal.synced, "finish": True})
        while not (self._done or self.taken or self._child.ended):
            now = time.monotonic()
            if now >= (began + HURRY if self.hurry else self._heard + PATIENCE):
                break
            select.select([self._child], [], [], 0.2)
            for message in self._child.receive():
                self._take(message)
        if not (self._done or self.taken):
            log.warning(
                "%s lacks the end of this run: start it again with the same --out once S3 answers (a run that is "
                "finished says so, and is brought up)", self.url,
            )  # fmt: skip

    def abandon(self) -> None:
        """The run folder is another manager's: give the place back to it."""
        self._over = True
        self._child.send({"leave": True})
        self._child.finish()
        self._child.wait(3.0)

    def close(self) -> None:
        """End the child; one that is in a hurry may go on for a while by itself."""
        self._over = True
        self._child.finish()
        if not self.hurry or self._child.wait(0) is not None:
            self._child.kill()

    def _started(self) -> Child:
        child = Child("mpibo.engine.mirroring.mirror_child", environment=child_environment(1), cores=self._cores)
        child.send({"url": self.url})
        return child

    def _first(self, wanted: Sequence[str], seconds: float) -> Mapping[str, Any]:
        """Wait for one of these words.

        Raises:
            ValueError: It refuses.
            Away: S3 does not answer.
        """
        until, trouble, hopeless = time.monotonic() + seconds, "", False
        while True:
            select.select([self._child], [], [], 0.2)
            for message in self._child.receive():
                match message["kind"]:
                    case "refused":
                        raise ValueError(f"--sync: {message['line']}")
                    case "broken":
                        raise ValueError(f"--sync: the mirror's process failed: {message['line']}")
                    case "trouble":
                        trouble, hopeless = message["line"], message["hopeless"]
                if message["kind"] in wanted:
                    return message
            if self._child.ended:
                raise ValueError("--sync: the mirror's process ended by itself; see its output above")
            if time.monotonic() > until or hopeless:
                raise Away(trouble or f"{self.url} does not answer", hopeless)

    def _take(self, message: Mapping[str, Any]) -> None:
        self._heard = self._heard if message["kind"] == "trouble" else time.monotonic()
        match message["kind"]:
            case "seen":
                self._idle = True
            case "taken" | "refused":
                self.taken = message["line"]
            case "trouble":
                if not self._behind:
                    log.warning("--sync: %s; the run goes on and catches up", message["line"])
                self._behind = True
            case "well" | "owner":
                if self._behind:
                    log.info("--sync: %s", message["line"] or "S3 answers again")
                self._behind = False
            case "warning" | "broken":
                log.warning("--sync: %s", message["line"])
            case "done":
                self._done = True


class Away(Exception):
    """S3 does not answer, or refuses (``hopeless``)."""

    def __init__(self, line: str, hopeless: bool) -> None:
        super().__init__(line)
        self.hopeless = hopeless
