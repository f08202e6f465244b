"""Mirror a run folder to S3 while it grows: what is up there is, at any time, a run that can go on.

One pass takes the journal's lines up to the last one that is on the disk, brings up the checkpoints that are of use
after that line, then the lines as one piece, and only then removes checkpoints that these lines made useless. At last
it makes one piece of many, where there are many (pieces.py), and removes them when that is there.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import IO, NamedTuple

from mpibo.engine.keeping import place as file_of
from mpibo.engine.managing.account import Earlier, take_in
from mpibo.goals import aims_in
from mpibo.store import pieces
from mpibo.store.journal import NAME, event_of
from mpibo.store.owner import Owner
from mpibo.store.pieces import Gap, Piece, checkpoint_name
from mpibo.store.s3 import PART, TOGETHER, Changed, Place, Trouble
from mpibo.trial import Event

VIEWS = ("settings.toml", "status.json", "results.csv")
LAST_VIEWS = ("results.h5", "report.html")  # large, and made from the journal: once, at the end
FOLDERS = ("logs", "objective")
VIEWS_EVERY = 30.0  # seconds between two copies of the views, at least,
VIEWS_SHARE = 20.0  # and as many times as long as the last one took
AGAIN = 3  # tries to get a hold of checkpoints before they are replaced


class Taken(Exception):
    """Another cluster owns the place now; one line."""


class Other(ValueError):
    """What is in S3 and the run folder are not one run, or S3 holds more of it; one line."""


class Part(NamedTuple):
    """A piece that is up: where in the journal file the lines are that it is there for, the last one, their hash."""

    piece: Piece
    last: int
    offset: int
    size: int
    sha256: str


class Mirror:
    """One owner's mirror of a run folder.

    Args:
        folder: The run folder.
        place: Where to; this object becomes what it calls before each request.
        owner: To be acquired.
        synced: Gives the number of the last line known to be on the disk.
        warn: Is told, in one line, what is left out.

    Attributes:
        line: Of the journal, up to which all is up.
    """

    def __init__(
        self, folder: Path, place: Place, owner: Owner, synced: Callable[[], int], warn: Callable[[str], None],
        now: Callable[[], float] = time.monotonic,
    ) -> None:  # fmt: skip
        self.line = 0
        self._folder = folder
        self._place = place
        self._owner = owner
        self._synced = synced
        self._warn = warn
        self._now = now
        self._reader = Reader(folder / NAME)
        self._offset = 0  # of the journal file, behind ``line``
        self._parts: list[Part] = []  # all of the journal that is up
        self._merging: tuple[int, int] | None = None  # which of them are to be one: it may be up, and we not know
        self._replaced: list[str] = []  # pieces that count no more, to be removed
        self._there: set[str] = set()  # checkpoints
        self._views: dict[str, tuple[int, int]] = {}  # time of change and size, when sent
        self._views_due = now()
        self._swept = False
        self._postponed = False
        self._bad: set[str] = set()  # checkpoints whose file has another hash

    def begin(self) -> None:
        """Become the owner, and hold what is there against the run folder.

        Raises:
            Locked: Another cluster mirrors to this place.
            Other: Another run is there, or more of this one.
        """
        self._place.before = lambda: None
        before = pieces.pieces_of(self._place.names(pieces.FOLDER))
        self._owner.acquire(max((piece.generation for piece in before), default=0))
        try:
            self._compare()
        except BaseException:
            self._owner.release()
            raise
        anchor = Piece(self._owner.generation, self.line + 1, self.line, hashlib.sha256(b"").hexdigest())
        self._place.put(anchor.name, b"")
        self._place.before = self._keep
        self._there = set(filter(pieces.is_checkpoint, self._place.names("checkpoints/")))

    def step(self, last: bool = False) -> None:
        """One pass; the ``last`` one takes all views along.

        Raises:
            Taken: Another cluster owns the place.
            Trouble: S3 is away, or refuses; call it again.
        """
        self._keep()
        lacking = False
        for _ in range(AGAIN):
            self._reader.read(self._synced())
            lacking = self._send_checkpoints()
            if not lacking or self._synced() <= self._reader.line:
                break
        self._postponed = lacking and not self._postponed
        if self._postponed:
            return  # the line that made the file useless will be told of in a moment
        self._send_lines()
        if not lacking:
            self._remove_useless()
        if last or self._now() >= self._views_due:
            began = self._now()
            self._send_views(last)
            took = self._now() - began
            self._views_due = self._now() + max(VIEWS_EVERY, VIEWS_SHARE * took)
        if not last:  # there may be little time
            self._merge()
            self._remove_replaced()

    @property
    def behind(self) -> int:
        """How many lines that are on the disk are not up."""
        return max(0, self._synced() - self.line)

    def _keep(self, now: bool = False) -> None:
        """Before each request: an owner that was taken over writes nothing more."""
        self._place.before = lambda: None  # the owner's own requests
        try:
            if not self._owner.refresh(now):
                raise Taken(
                    f"another cluster has taken {self._place.url} over; this run ends (that one goes on; its results: "
                    f"mpibo pull {self._place.url})"
                )
        finally:
            self._place.before = self._keep

    def _compare(self) -> None:
        """Take in the local lines that are up already; they must be the same."""
        url, reader = self._place.url, Reader(self._reader.path)
        try:
            found = pieces.pieces_of(self._place.names(pieces.FOLDER))
            chosen = pieces.chain(found)
        except Gap as error:
            raise Other(f"{url} is damaged: {error} (give another place with --sync)") from None
        total = pieces.last_line(chosen)
        parts: list[Part] = []
        for each in chosen:
            start = reader.offset
            digest = reader.read(each.last)
            if reader.line < each.last:
                if reader.line == 0 and not reader.path.exists():
                    raise Other(f"{url} holds a run already: mpibo resume {url} goes on with it, or give another place")
                raise Other(
                    f"{url} holds more of this run than {reader.path.parent} ({total} lines, here {reader.line}): "
                    f"mpibo resume {url} goes on from there"
                )
            if each.last == each.piece.last and digest != each.piece.sha256:
                raise Other(f"{url} holds another run than {reader.path.parent}; give another place with --sync")
            parts.append(Part(each.piece, each.last, start, reader.offset - start, digest))
        self._parts = parts
        self._replaced = [piece.name for piece in sorted({*found} - {each.piece for each in chosen})]
        self._reader = reader
        self.line, self._offset = reader.line, reader.offset

    # --- what is sent ---------------------------------------------------------------------------------------------

    def _wanted(self) -> dict[str, tuple[str, str]]:
        """The checkpoints that are of use, by their names in S3: file and hash."""
        shelf = self._reader.earlier.shelf if self._reader.earlier else None
        if shelf is None:
            return {}
        return {
            checkpoint_name(trial, each["step"], each["sha256"]): (file_of(trial, each["step"]), each["sha256"])
            for trial, each in shelf.kept.items()
        }

    def _send_checkpoints(self) -> bool:
        """Bring up what is not there; gives whether a file is gone, replaced by lines that were not read yet."""
        lacking = False
        for name, (where, sha256) in self._wanted().items():
            if name in self._there or name in self._bad:
                continue
            try:
                with open(self._folder / where, "rb") as file:
                    self._place.send(name, file, 0, os.fstat(file.fileno()).st_size, sha256)
            except FileNotFoundError:
                lacking = True
            except Changed:
                self._bad.add(name)
                self._warn(f"{where} is damaged (its hash differs): it is not mirrored")
            else:
                self._there.add(name)
        return lacking

    def _send_lines(self) -> None:
        if self._reader.line <= self.line:
            return
        start, size = self._offset, self._reader.offset - self._offset
        with open(self._reader.path, "rb") as file:
            digest = _hash(file, start, size)
            self._parts.append(self._put_piece(file, self.line + 1, self._reader.line, start, size, digest))
        self.line, self._offset = self._reader.line, self._reader.offset

    def _merge(self) -> None:
        """Make one piece of the last ones, where they are many; it ends where they do, so nothing is ever missing.

        What is up is good; it is replaced only by a file that still holds the same.
        """
        if self._merging is None:
            if not (count := pieces.tail([part.size for part in self._parts])):
                return
            self._merging = len(self._parts) - count, len(self._parts)
        parts = self._parts[slice(*self._merging)]
        start, size = parts[0].offset, sum(part.size for part in parts)
        with open(self._reader.path, "rb") as file:
            if any(_hash(file, part.offset, part.size) != part.sha256 for part in parts):
                self._parts.clear()
                self._merging = None
                self._warn(f"{self._reader.path} is damaged (what is in {self._place.url} stays as it is)")
                return
            digest = _hash(file, start, size)
            merged = self._put_piece(file, parts[0].piece.first, parts[-1].last, start, size, digest)
        self._parts[slice(*self._merging)] = [merged]
        self._merging = None
        self._replaced += [part.piece.name for part in parts]

    def _remove_replaced(self) -> None:
        """Remove pieces that count no more; those that stay are in nobody's way, and are tried again."""
        if self._replaced:
            self._keep(now=True)
            with suppress(Trouble):
                self._place.delete(self._replaced[:TOGETHER])
                del self._replaced[:TOGETHER]

    def _put_piece(self, file: IO[bytes], first: int, last: int, start: int, size: int, digest: str) -> Part:
        piece = Piece(self._owner.generation, first, last, digest)
        self._place.send(piece.name, file, start, size, digest)
        return Part(piece, last, start, size, digest)

    def _remove_useless(self) -> None:
        useless = self._there - self._wanted().keys()
        if useless:
            self._keep(now=True)
            self._place.delete(sorted(useless))
            self._there -= useless
        if not self._swept:
            self._place.sweep("", self._wanted())
            self._swept = True

    def _send_views(self, last: bool) -> None:
        """Copy what has changed since it was sent."""
        names = [*VIEWS, *(LAST_VIEWS if last else ())]
        for folder in FOLDERS:
            with suppress(OSError):
                names += sorted(f"{folder}/{name}" for name in os.listdir(self._folder / folder) if name[0] != ".")
        for name in names:
            try:
                file = open(self._folder / name, "rb")  # noqa: SIM115
            except OSError:
                continue
            with file:
                about = os.fstat(file.fileno())
                if self._views.get(name) == (about.st_mtime_ns, about.st_size):
                    continue
                digest = _hash(file, 0, about.st_size)
                if about.st_size > PART:
                    self._place.sweep(name, ())  # what an earlier try has sent of it may be of another version
                with suppress(Changed):  # written while it was read: the next copy has it
                    self._place.send(name, file, 0, about.st_size, digest)
                    self._views[name] = about.st_mtime_ns, about.st_size


class Reader:
    """Read a journal up to a given line; keeps what its lines say of checkpoints.

    Attributes:
        line: The last one that was read. offset: of the file, behind it. earlier: what they say; None before the first.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.line = 0
        self.offset = 0
        self.earlier: Earlier | None = None

    def read(self, until: int) -> str:
        """Take in the lines up to ``until``, as far as they are there and good; gives the hash of their bytes."""
        digest = hashlib.sha256()
        if self.line >= until:
            return digest.hexdigest()
        try:
            file = open(self.path, "rb")  # noqa: SIM115
        except FileNotFoundError:
            return digest.hexdigest()
        with file:
            file.seek(self.offset)
            while self.line < until:
                line = file.readline()
                event = event_of(line)
                if event is None or event["n"] != self.line + 1:
                    break
                self._apply(event)
                digest.update(line)
                self.line += 1
                self.offset += len(line)
        return digest.hexdigest()

    def _apply(self, event: Event) -> None:
        if self.earlier is None:
            settings = event.get("settings", {})
            self.earlier = take_in([], aims_in(settings), settings.get("schedule") is not None)
        self.earlier.ledger.apply(event)
        self.earlier.shelf.apply(event)


def _hash(file: IO[bytes], start: int, size: int) -> str:
    digest = hashlib.sha256()
    file.seek(start)
    while size > 0 and (data := file.read(min(size, 1 << 20))):
        size -= len(data)
        digest.update(data)
    return digest.hexdigest()
