"""Between a Space and what a peer speaks: numbers, indices of levels, and spaces with or without conditions."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from mpibo import Constant, Space
from mpibo.expression import names
from mpibo.parameters import Parameter

Config = dict[str, Any]
TRIES = 200  # proposals that obey no `forbid` before a peer is given up


def top(p: Parameter) -> Any:
    """The highest value of a number; ``high`` of a number with steps may lie above it."""
    assert not p.levels
    return p.high if p.count is None else p.level_codes(p.count - 1).item()  # type: ignore[attr-defined]


def nearest(p: Parameter, number: float) -> Any:
    """The legal value nearest to a peer's number, which for a choice is the index of a level."""
    if p.levels is not None:
        return p.levels[min(max(round(number), 0), len(p.levels) - 1)]
    if p.count is None:
        return min(max(float(number), p.low), p.high)  # type: ignore[attr-defined]
    return p.level_codes(p.place(number)).item()


def assemble(space: Space, values: Mapping[str, Any]) -> Config:
    """The config of these values: what is inactive is left out, and what is missing stands at its middle."""
    row: list[float] = []
    for name, p in space.parameters.items():
        if isinstance(p, Constant):
            continue
        row += p.row(p.code(values[name])) if name in values else p.blank
        row += [1.0] if p.when is not None else []
    return space.decode(np.array([row]))[0]


def settle(space: Space, suggest: Callable[[str, Parameter], Any]) -> Config:
    """Ask for one value after the other, those of active parameters alone, parents before children."""
    values: Config = {}
    waiting = list(space.names)
    while waiting:
        for name in waiting:
            parents = names(space.conditions[name]) if name in space.conditions else ()
            if not any(parent in waiting for parent in parents):
                break
        waiting.remove(name)
        p = space.parameters[name]
        if not isinstance(p, Constant) and name in assemble(space, values):
            values[name] = suggest(name, p)
    return assemble(space, values)


def flat(space: Space) -> Space:
    """The space without its conditions and forbidden combinations: every parameter is always there."""
    return Space({name: replace_when(p) for name, p in space.parameters.items()})


def replace_when(p: Parameter) -> Parameter:
    """The parameter without its condition."""
    return p if p.when is None else replace(p, when=None)  # type: ignore[type-var]


def legal(space: Space, config: Config) -> bool:
    """No forbidden combination is true of the config."""
    return not space.forbid or bool(space.legal(space.encode([config]))[0])


def known(space: Space, found: Mapping[str, Any]) -> Config:
    """The config in a peer's dict, in which what is inactive may stand as NaN or None, or as any value."""
    values = {}
    for name, value in found.items():
        p = space.parameters[name]
        if isinstance(p, Constant) or value != value or (value is None and None not in (p.levels or ())):
            continue
        values[name] = p.value_of(p.code(value))
    return assemble(space, values)
