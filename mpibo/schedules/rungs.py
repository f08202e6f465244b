"""Rung arithmetic in whole numbers: ``floor(log R / log eta)`` in floats loses a bracket at (243, 3) and (1000, 10)."""

from __future__ import annotations

from typing import NamedTuple


class Rung(NamedTuple):
    """``size`` configs trained to ``budget`` in all."""

    size: int
    budget: int


def deepest(low: int, high: int, eta: int) -> int:
    """The largest ``s`` with ``eta**s <= high // low``: how often the lowest budget can grow by ``eta``.

    Raises:
        ValueError: Not ``1 <= low <= high`` and ``eta >= 2``.
    """
    if not 1 <= low <= high:
        raise ValueError(f"expected a budget from 1 on, the smaller first, got {low}:{high}")
    if eta < 2:
        raise ValueError(f"expected eta >= 2, got {eta}")
    s = 0
    while eta ** (s + 1) <= high // low:
        s += 1
    return s


def budgets(low: int, high: int, eta: int, s: int | None = None) -> list[int]:
    """The budgets of the rungs of bracket ``s`` (default the deepest), the lowest first; the last one is ``high``."""
    s = deepest(low, high, eta) if s is None else s
    return [max(1, high // eta ** (s - rung)) for rung in range(s + 1)]


def bracket(low: int, high: int, eta: int, s: int) -> list[Rung]:
    """The rungs of Hyperband's bracket ``s``: of the configs of each, one in ``eta`` goes on.

    References:
        Li et al. 2017, Hyperband, JMLR 18:185, algorithm 1: n = ceil((s_max + 1) eta^s / (s + 1)).
    """
    s_max = deepest(low, high, eta)
    if not 0 <= s <= s_max:
        raise ValueError(f"expected a bracket from 0 to {s_max}, got {s}")
    n = -(-(s_max + 1) * eta**s // (s + 1))
    return [Rung(n // eta**rung, budget) for rung, budget in enumerate(budgets(low, high, eta, s))]


def brackets(low: int, high: int, eta: int) -> list[list[Rung]]:
    """Hyperband's brackets, the one with the most configs first."""
    return [bracket(low, high, eta, s) for s in range(deepest(low, high, eta), -1, -1)]
