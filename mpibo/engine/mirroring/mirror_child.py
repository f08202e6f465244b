"""The mirror's child of rank 0: one pass after the other, whatever S3 does, and never in the run's way."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from mpibo.engine.mirroring.mirror import Mirror, Other, Taken
from mpibo.engine.sandbox import Pipe, parse
from mpibo.store.journal import Damaged
from mpibo.store.lock import Holder, Locked
from mpibo.store.owner import NAME, Lost, Owner
from mpibo.store.s3 import Changed, Place, Trouble, back_off

EVERY = 5.0  # seconds between two passes
ALIVE = 1.0  # seconds between two words that something goes on
ALONE = 60.0  # seconds that it goes on without a manager


class Orders:
    """What the manager says, taken in beside the work by a thread: else its pipe could fill up and hold it."""

    def __init__(self, pipe: Pipe) -> None:
        self.synced = 0
        self.finish = False
        self.leave = False
        self.alone: float | None = None  # since when the manager is gone
        self._pipe = pipe
        self._news = threading.Condition()
        threading.Thread(target=self._listen, name="orders", daemon=True).start()

    def wait(self, seconds: float, beyond: int | None = None) -> None:
        """Wait so long; less when the run ends meanwhile, or lines ``beyond`` one are on the disk."""
        until = time.monotonic() + seconds
        with self._news:
            was = self.ending, self.leave
            while (left := until - time.monotonic()) > 0:
                if (self.ending, self.leave) != was or (beyond is not None and self.synced > beyond):
                    return
                self._news.wait(left)

    @property
    def ending(self) -> bool:
        """Whether the run is over."""
        return self.finish or self.alone is not None

    def _listen(self) -> None:
        while True:
            try:
                message = self._pipe.receive()
            except (OSError, ValueError):
                message = None
            with self._news:
                if message is None:
                    self.alone = time.monotonic()
                else:
                    self.synced = max(self.synced, message.get("synced", 0))
                    self.finish = self.finish or message.get("finish", False)
                    self.leave = self.leave or message.get("leave", False)
                self._news.notify_all()
            if message is None:
                return
            with contextlib.suppress(OSError):
                self._pipe.send({"kind": "seen"})


def serve(pipe: Pipe) -> None:
    """Say whether the place can be used; then mirror until the manager has what it wants or is gone."""
    first = pipe.receive()
    if first is None:
        return None
    try:
        place = Place(first["url"])
        place.names(NAME)
        pipe.send({"kind": "ready"})
    except Trouble as error:
        pipe.send({"kind": "refused" if error.hopeless else "away", "line": str(error)})
        if error.hopeless:
            return None
    begin = pipe.receive()
    if begin is None:
        return None
    said: list[float] = [0.0]

    def say(kind: str, line: str = "", **more: Any) -> None:
        with contextlib.suppress(OSError):  # the manager is gone
            pipe.send({"kind": kind, "line": line} | more)

    def alive() -> None:
        if time.monotonic() >= said[0] + ALIVE:
            said[0] = time.monotonic()
            say("alive")

    place.after = alive
    orders = Orders(pipe)
    owner = Owner(place, Holder(**begin["me"]))
    folder = Path(begin["folder"])
    try:
        line = _go_on(lambda: Mirror(folder, place, owner, lambda: orders.synced, partial(say, "warning")), orders, say)
    except Taken as error:
        return say("taken", str(error))
    except (Locked, Other, Damaged) as error:
        return say("refused", str(error))
    place.before = lambda: None
    owner.release()
    say("done" if line is not None else "left")
    return None


def _go_on(make: Callable[[], Mirror], orders: Orders, say: Any) -> int | None:
    """Pass after pass, until the last one has brought all up; gives the last line, None where it has not."""
    mirror, begun, failures, owned = make(), False, 0, False
    while not orders.leave:
        wait, beyond = EVERY, None
        ending = orders.ending
        try:
            if not begun:
                mirror = make()
                mirror.begin()
                begun = owned = True
                say("owner")
            mirror.step(last=ending)
            if failures:
                say("well", f"S3 answers again; {mirror.behind or 'no'} lines are behind")
            failures = 0
            if ending and not mirror.behind:
                return mirror.line
            wait, beyond = (0.2, mirror.line) if ending else (EVERY, None)
        except (Trouble, Changed, Other, OSError) as error:
            if isinstance(error, Other) and not owned:
                raise
            failures += 1
            begun = begun and not isinstance(error, Lost)  # the place was cleared: all is sent once more
            told = (error.strerror if isinstance(error, OSError) else None) or str(error) or type(error).__name__
            say("trouble", told, first=failures == 1, hopeless=getattr(error, "hopeless", False))
            wait = back_off(failures)
        if orders.alone is not None and time.monotonic() > orders.alone + ALONE:
            break
        orders.wait(wait, beyond)
    return None


def main() -> None:
    """Run as a child of rank 0; the end of stdin says that the manager is gone."""
    arguments = parse()
    for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGUSR1", "SIGUSR2"):
        signal.signal(getattr(signal, name), signal.SIG_IGN)  # the manager ends us
    with contextlib.suppress(OSError):
        os.nice(10)
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000")  # when memory runs out: we before the run
    pipe = Pipe(arguments.answers)
    try:
        serve(pipe)
    except Exception as error:  # its text could name what nobody may read
        with contextlib.suppress(OSError):
            pipe.send({"kind": "broken", "line": f"{type(error).__name__} at {_where(error)}"})


def _where(error: BaseException) -> str:
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return f"{Path(trace.tb_frame.f_code.co_filename).name}:{trace.tb_lineno}" if trace else "?"


if __name__ == "__main__":
    main()
