"""What is in one of two sets, without a copy of them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Set


class Either(Set[bytes]):
    """The union of two sets that may still grow; for keys of rows, of which a long run has many."""

    def __init__(self, first: Set[bytes], second: Set[bytes]) -> None:
        self._first = first
        self._second = second

    def __contains__(self, name: object) -> bool:
        return name in self._first or name in self._second

    def __iter__(self) -> Iterator[bytes]:
        yield from self._first
        yield from self._second - self._first

    def __len__(self) -> int:
        return len(self._first) + len(self._second - self._first)

    @classmethod
    def _from_iterable(cls, names: Iterable[bytes]) -> set[bytes]:  # type: ignore[override]
        return set(names)  # of ``|``, ``&`` and ``-``
