"""Pieces of the journal in S3 become few; whatever is cut, killed or fenced off, the run is readable all the while."""

from __future__ import annotations

import hashlib
import itertools
from dataclasses import replace
from functools import partial

import pytest
from a_run import RUN
from hypothesis import given, settings
from hypothesis import strategies as st

from mpibo.engine.mirroring.mirror import Mirror, Other, Taken
from mpibo.store import journal, pieces
from mpibo.store.lock import Holder
from mpibo.store.owner import Owner
from mpibo.store.pieces import GROWTH, MERGE, chain, pieces_of, tail
from mpibo.store.s3 import Conflict, Found, Missing, Trouble

# --- when pieces become one -------------------------------------------------------------------------------------------


def put_all(sizes):
    """The pieces in the end, each with how often each of its parts was sent."""
    there = []
    for size in sizes:
        there.append((size, [(size, 1)]))
        if count := tail([each for each, _ in there]):
            parts = there[-count:]
            whole = sum(each for each, _ in parts)
            assert count >= MERGE and all(whole >= GROWTH * each for each, _ in parts)
            there[-count:] = [(whole, [(each, sent + 1) for _, inner in parts for each, sent in inner])]
    return there


@given(st.lists(st.integers(100, 2000), max_size=1500))
@settings(deadline=None, max_examples=20)
def test_many_puts_are_few_pieces_and_each_is_sent_few_times(sizes):
    there = put_all(sizes)
    assert sum(size for size, _ in there) == sum(sizes) and len(there) < 5 * MERGE
    for size, parts in there:
        for own, sent in parts:
            assert own * GROWTH ** (sent - 1) <= size


def test_pieces_of_any_number_of_starts_are_few():
    """500 starts of 5 passes each, the first of which has the long lines."""
    there = put_all([6000, 500, 500, 500, 500] * 500)
    assert len(there) < 2 * MERGE and max(sent for _, parts in there for _, sent in parts) <= 6


def test_a_piece_is_never_larger_than_one_put(monkeypatch):
    monkeypatch.setattr(pieces, "LARGEST", 100_000)
    there = put_all([400] * 20_000)
    assert max(size for size, _ in there) <= 100_000
    assert len(there) < 2 * MERGE + 20_000 * 400 / (100_000 / GROWTH / 2)


# --- any number of starts, cut anywhere -------------------------------------------------------------------------------


class Memory:
    """Stands for a place: a request is done, not done, or done without an answer."""

    url = "s3://memory/run"

    def __init__(self, objects, seen):
        self.before = lambda: None
        self.objects = objects  # shared by all that look at the place
        self.left = None  # requests until one fails; and whether that is done all the same
        self._seen = seen

    def _ask(self, change):
        self.before()
        if self.left is None:
            answer = change()
        else:
            count, is_done = self.left
            self.left = (count - 1, is_done) if count else None
            answer = change() if count or is_done else None
            if not count:
                self._seen()
                raise Trouble("cut")
        self._seen()
        return answer

    def names(self, under=""):
        return self._ask(lambda: {name: len(data) for name, data in self.objects.items() if name.startswith(under)})

    def get(self, name):
        def change():
            if name not in self.objects:
                raise Missing(name)
            return Found(self.objects[name], hashlib.sha256(self.objects[name]).hexdigest(), 0.0)

        return self._ask(change)

    def put(self, name, data, match=None, new=False):
        def change():
            there = self.objects.get(name)
            if (new and there is not None) or (match and there is None):
                raise Conflict if new else Missing(name)
            if match and hashlib.sha256(there).hexdigest() != match:
                raise Conflict
            self.objects[name] = data
            return hashlib.sha256(data).hexdigest()

        return self._ask(change)

    def send(self, name, file, start, size, sha256):
        file.seek(start)
        self.put(name, file.read(size))

    def delete(self, names):
        for name in names:
            self._ask(partial(self.objects.pop, name, None))

    def sweep(self, under, keep):
        pass


class World:
    """A place, and the starts of a run that mirror to it, of which the last one is the rightful owner."""

    def __init__(self, folder):
        self.folder, self.objects, self.starts, self.data = folder, {}, [], b""
        self.count = itertools.count()
        self.busy = None  # the start that makes requests just now

    def read(self):
        """What a reader finds, who looks at this instant."""
        chosen = chain(pieces_of(self.objects))
        parts = [self.objects[each.piece.name].splitlines(keepends=True) for each in chosen]
        for each, part in zip(chosen, parts, strict=True):
            assert len(part) == each.piece.last - each.piece.first + 1
        return b"".join(
            b"".join(part[: each.last - each.piece.first + 1]) for each, part in zip(chosen, parts, strict=True)
        )

    def look(self):
        """After each request: a reader finds all that it has found before, and nothing of one that was fenced off."""
        found, owner = self.read(), self.starts[-1]
        if self.busy is owner and not owner.is_there:
            folder = f"journal/{owner.owner.generation:04}/"
            owner.is_there = any(name.startswith(folder) for name in self.objects)
            if owner.is_there:  # what a former owner has put in the last moment is gone
                assert self.data.startswith(found) and found == owner.file.read_bytes()[: len(found)]
                self.data = found
        assert found.startswith(self.data)
        assert found == self.data or self.busy is owner or not owner.is_there
        self.data = found

    def start(self, cut):
        start = Start(self, len(self.starts))
        self.starts.append(start)
        if not self.act(start, cut, start.mirror.begin):
            self.starts.remove(start)

    def act(self, start, cut, what):
        self.busy, start.place.left = start, cut
        try:
            what()
        except (Trouble, Other, Taken):
            return False
        finally:
            start.place.left = None
        return True


class Start:
    def __init__(self, world, number):
        folder = world.folder / str(next(world.count))
        folder.mkdir()
        self.file = folder / journal.NAME
        self.file.write_bytes(world.read())
        self.number, self.is_there = number, False
        self.journal = journal.Journal(folder, sync=False)
        self.place = Memory(world.objects, world.look)
        me = replace(Holder.me(), host="elsewhere", boot="other", token=folder.name)
        self.owner = Owner(self.place, me, silence=-1.0)
        self.owner._try_conditions = lambda: None
        self.mirror = Mirror(folder, self.place, self.owner, lambda: self.journal.number, lambda line: None)

    def write(self, count):
        if not self.journal.number:
            self.journal.append(RUN[0])
        for _ in range(count):
            self.journal.append({"kind": "note", "t": 1.0, "text": f"by start {self.number}"})
        self.journal.write()


CUT = st.sampled_from([None] * 4 + [(count, is_done) for count in range(8) for is_done in (False, True)])
PASS = st.tuples(st.sampled_from([0, 0, 0, 0, 1, 2]), st.integers(0, 2), CUT)  # whose, lines before it, where it is cut
START = st.tuples(st.just("start"), st.none(), CUT)


@given(st.lists(st.one_of(PASS, PASS, PASS, START), min_size=15, max_size=40))
@settings(deadline=None, max_examples=15)
def test_the_run_is_readable_at_every_instant(tmp_path_factory, acts):
    """By any number of starts, each of which takes the place over and may be cut between any two requests or in one,
    while those before it do not know yet: no line is ever missing, and none is of a start that was fenced off."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pieces, "MERGE", 3)
        patch.setattr(pieces, "GROWTH", 2)
        patch.setattr(pieces, "LARGEST", 1000)  # about eight lines: what is merged next is not always more of the same
        world = World(tmp_path_factory.mktemp("world"))
        for which, lines, cut in [("start", 0, None), (0, 1, None), *acts]:
            if which == "start":
                world.start(cut)
            elif which < len(world.starts):
                start = world.starts[-1 - which]
                start.write(lines)
                world.act(start, cut, start.mirror.step)
        world.start(None)
        last = world.starts[-1]
        last.write(1)
        for _ in range(3):
            assert world.act(last, None, last.mirror.step)
        assert world.read() == last.file.read_bytes()
        assert len(world.objects) <= len(last.mirror._parts) + 2  # owner.json, and the piece that says where it began


@pytest.mark.parametrize("count", range(4))
def test_a_piece_that_may_be_there_is_not_passed_over(tmp_path, monkeypatch, count):
    """No answer came to a put; the lines that came since would begin the next one later, and their pieces would go."""
    monkeypatch.setattr(pieces, "GROWTH", 1)
    world = World(tmp_path)
    world.start(None)
    (start,) = world.starts
    for _ in range(3):
        start.write(1)
        assert world.act(start, None, start.mirror.step)
    monkeypatch.setattr(pieces, "MERGE", 3)
    monkeypatch.setattr(pieces, "LARGEST", sum(part.size for part in start.mirror._parts) + 10)
    world.act(start, (count, True), start.mirror.step)
    for _ in range(3):
        start.write(1)
        assert world.act(start, None, start.mirror.step)
    assert world.read() == start.file.read_bytes()
    assert len(pieces_of(world.objects)) <= 5


def test_what_earlier_starts_have_left_becomes_one_at_once(tmp_path, monkeypatch):
    """Of many starts, none of which had enough pieces of its own; before anything new is put, and by a few requests."""
    world = World(tmp_path)
    for _ in range(20):
        world.start(None)
        for _ in range(3):
            monkeypatch.setattr(pieces, "MERGE", 1000)
            world.starts[-1].write(2)
            assert world.act(world.starts[-1], None, world.starts[-1].mirror.step)
    assert len(pieces_of(world.objects)) == 61  # with the empty one that says where the last start began
    monkeypatch.undo()
    world.start(None)
    last = world.starts[-1]
    assert world.act(last, None, last.mirror.step)
    (whole, began) = pieces_of(world.objects)
    assert (whole.generation, whole.first, whole.last) == (began.generation, 1, 121) and began.first == 122
