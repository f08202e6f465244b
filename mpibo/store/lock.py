"""run.lock: one manager at a time works in a run folder.

The lock is a small file made by ``link()``, which either makes the name or finds it taken, on network file systems
too. It says who holds it; its time of change says when the holder last spoke, by the file system's own clock.
"""

from __future__ import annotations

import json
import os
import socket
import time
import uuid
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Self

from mpibo.store.atomic import sync_folder

REFRESH = 30.0  # seconds between the holder's refreshes
SILENCE = 300.0  # seconds without one after which a holder is taken for dead

TRIES = 100  # of 20 ms, while others take over


class Locked(Exception):
    """Another manager works in this run folder; the message names its host and process."""


@dataclass(frozen=True)
class Holder:
    """Who holds a lock: all that tells a living process from a dead one.

    ``started`` is the process's start in clock ticks since boot; ``namespace`` its process-id namespace: in another
    one its id means nothing; ``restarts`` counts how often the scheduler has requeued ``job``.
    """

    host: str
    pid: int
    started: int | None = None
    boot: str | None = None
    namespace: str | None = None
    job: str | None = None
    restarts: int = 0
    token: str = ""

    @classmethod
    def me(cls, environ: Mapping[str, str] = os.environ) -> Holder:
        """This process."""
        job = environ.get("SLURM_JOB_ID")
        restarts = environ.get("SLURM_RESTART_COUNT", "")
        return cls(
            host=socket.gethostname(),
            pid=os.getpid(),
            started=start_time(os.getpid()),
            boot=_text("/proc/sys/kernel/random/boot_id"),
            namespace=_link("/proc/self/ns/pid"),
            job=f"slurm:{environ.get('SLURM_CLUSTER_NAME', '')}:{job}" if job else None,
            restarts=int(restarts) if restarts.isdigit() else 0,
            token=uuid.uuid4().hex,
        )

    @classmethod
    def parse(cls, text: str | bytes) -> Holder | None:
        """The holder that a lock file names; None when it names none."""
        try:
            holder = cls(**json.loads(text))
        except (ValueError, TypeError):
            return None
        return holder if type(holder.pid) is int and type(holder.restarts) is int else None

    def is_gone(self, me: Holder) -> bool:
        """Whether ``me`` can tell for sure that this process is no more."""
        if self.job is not None and self.job == me.job and self.restarts < me.restarts:
            return True  # the scheduler ended that job before it requeued it
        if self.host != me.host:
            return False
        if self.boot != me.boot:
            return True
        if self.namespace != me.namespace:
            return False
        now = start_time(self.pid)
        return now is None if self.started is None else now != self.started


def start_time(pid: int) -> int | None:
    """When a process of this machine started, in clock ticks since boot; None when there is no such process.

    Where there is no ``/proc`` it is 0 for every living process.
    """
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()
    except OSError:
        return 0 if not os.path.exists("/proc/self/stat") and _answers(pid) else None
    return None if fields[0] in "ZX" else int(fields[19])  # a zombie is dead


def _answers(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except PermissionError:
        return True
    except OSError:
        return False
    return True


def _text(path: str) -> str | None:
    try:
        return Path(path).read_text().strip()
    except OSError:
        return None


def _link(path: str) -> str | None:
    try:
        return os.readlink(path)
    except OSError:
        return None


class Lock:
    """The lock of a run folder: ``with Lock(folder / "run.lock"): ...``.

    Args:
        path: The lock file.
        environ: Where the scheduler's job is looked up.
    """

    def __init__(self, path: str | os.PathLike[str], environ: Mapping[str, str] = os.environ) -> None:
        self.path = Path(path)
        self.me = Holder.me(environ)

    def acquire(self) -> Self:
        """Take the lock, from a holder that is gone too.

        Raises:
            Locked: Another manager holds it.
            OSError: The folder is not there or not writable.
        """
        mine = self._written()
        try:
            for _ in range(TRIES):
                if self._linked(mine, self.path):
                    return self
                with suppress(FileNotFoundError):  # just given back
                    self._check_dead(*self._look(mine))
                    self._clear(mine)
            raise Locked(f"{self.path} keeps changing hands: several runs want this folder; start one of them")
        finally:
            mine.unlink(missing_ok=True)

    def held(self) -> bool:
        """Whether the lock is still ours, as far as can be told. One that somebody deleted is made again."""
        try:
            return self._owner() == self.me.token
        except FileNotFoundError:
            return self._again()
        except OSError:
            return True  # a file system that fails for a while takes no lock away

    def refresh(self) -> bool:
        """Say that we live, every `REFRESH` seconds; False when the lock has been taken over."""
        if not self.held():
            return False
        with suppress(OSError):
            os.utime(self.path)
        return True

    def release(self) -> None:
        """Give the lock back; one that is no longer ours is left alone."""
        with suppress(OSError):
            if self._owner() == self.me.token:
                self.path.unlink()

    def __enter__(self) -> Self:
        return self.acquire()

    def __exit__(self, *_: object) -> None:
        self.release()

    def _owner(self) -> str | None:
        holder = Holder.parse(self.path.read_bytes())
        return holder.token if holder else None

    def _written(self) -> Path:
        """A file of our own with what the lock will say: a lock is never seen half written."""
        mine = self.path.with_name(f".{self.path.name}.{self.me.token}")
        with open(mine, "x") as file:
            json.dump(asdict(self.me), file)
            file.flush()
            os.fsync(file.fileno())
        os.utime(mine)  # the server's clock, over NFS too
        return mine

    def _linked(self, mine: Path, name: Path) -> bool:
        """Make ``name`` ours, if nobody has it."""
        try:
            os.link(mine, name)
        except FileExistsError:
            with suppress(FileNotFoundError):
                return os.path.samefile(mine, name)  # over NFS the answer to a link that worked may be lost
            return False
        except OSError:
            if not os.access(name.parent, os.W_OK):
                raise
            return self._made(name)
        sync_folder(name.parent)
        return True

    def _made(self, name: Path) -> bool:
        """Make ``name`` ours where the file system knows no links."""
        try:
            with open(name, "x") as file:
                json.dump(asdict(self.me), file)
        except FileExistsError:
            return False
        return True

    def _look(self, mine: Path, name: Path | None = None) -> tuple[Holder | None, float]:
        """Who holds the lock, and for how many seconds of the file system's clock it has been silent."""
        with open(name or self.path, "rb") as file:
            os.utime(mine)
            silence = os.stat(mine).st_mtime - os.fstat(file.fileno()).st_mtime
            return Holder.parse(file.read()), silence

    def _check_dead(self, other: Holder | None, silence: float) -> None:
        """Raise Locked unless the holder is gone."""
        if silence < SILENCE and not (other and other.is_gone(self.me)):
            who = f"process {other.pid} on {other.host}" if other else "a process that it does not name"
            raise Locked(
                f"{self.path} is held by {who}, last heard of {max(silence, 0):.0f} s ago: wait for that run to end "
                f"(if it is gone for sure, delete the file)"
            )

    def _clear(self, mine: Path) -> None:
        """Remove a dead holder's lock. Several may have found it dead: one at a time has the claim, and looks again."""
        claim = self.path.with_name(f".{self.path.name}.claim")
        if not self._linked(mine, claim):
            time.sleep(0.02)
            with suppress(Locked):
                self._check_dead(*self._look(mine, claim))
                claim.unlink(missing_ok=True)  # its holder died in these few lines
            return
        try:
            self._check_dead(*self._look(mine))
            self.path.unlink()
        finally:
            claim.unlink(missing_ok=True)

    def _again(self) -> bool:
        """Make our lock again after somebody deleted it; False when another manager was faster."""
        try:
            mine = self._written()
            try:
                return self._linked(mine, self.path) or self._owner() == self.me.token
            finally:
                mine.unlink(missing_ok=True)
        except OSError:
            return True
