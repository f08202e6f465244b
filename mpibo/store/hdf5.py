"""A run's trials, curves, space and settings as results.h5, written anew each time.

Layout: one dataset per column of `COLUMNS`, ``config/NAME`` and ``metrics/NAME`` with one element per trial, and
``curves/id``, ``curves/step``, ``curves/value`` with one element per report. Missing is -1 in whole numbers, NaN in
numbers, the empty text in texts. A config or metrics column is whole numbers, truth values or numbers where all its
values are (a metric that is None is missing there); else texts, cells as in results.csv. In a name ``/`` is ``%2F``
and ``%`` is ``%25``. The file's attributes hold the space, the settings and more, each as JSON.

The file is put together in memory: HDF5 meets no disk that is full, no lock and no kill half way.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple
from urllib.parse import unquote

import numpy as np

from mpibo.store import atomic
from mpibo.store.csv import from_cell, names_of, to_cell
from mpibo.trial import State, Trial, config_of

WHOLE = ("id", "budget", "parent", "retry_of", "bracket", "rung", "seed", "ask", "place", "order", "worker")
NUMBERS = ("value", "started", "finished", "duration")
TEXTS = ("state", "reason", "error", "origin", "host")
COLUMNS = WHOLE + NUMBERS + TEXTS

_ABSENT = object()
_NOT_IN_NAMES = re.compile(r"[%/\0\ud800-\udfff]|^\.+$")


@dataclass
class Curves:
    """All reports of a run, one after the other: the trial's id, the step and the value (person's sign)."""

    id: Sequence[int] = field(default_factory=list)
    step: Sequence[float] = field(default_factory=list)
    value: Sequence[float] = field(default_factory=list)


class Contents(NamedTuple):
    """What a results file holds."""

    trials: list[Trial]
    curves: Curves
    attributes: dict[str, Any]


def write(
    path: str | os.PathLike[str],
    trials: Sequence[Trial],
    names: Iterable[str] = (),
    curves: Curves | None = None,
    attributes: Mapping[str, Any] | None = None,
) -> None:
    """Write the results, whole or not at all.

    Args:
        path: The file, ``results.h5``.
        trials: One element of each column, in this order.
        names: The space's parameters: each gets a column even if no trial has it.
        curves: The reports.
        attributes: By name, anything that JSON can say: ``space``, ``settings``, ``versions``, ...

    Raises:
        OSError: The file can't be written; an earlier one is still as it was.
    """
    import h5py

    config, metrics = names_of(trials, names)
    curves = curves or Curves()
    with h5py.File("results", "w", driver="core", backing_store=False, block_size=1 << 20) as file:
        text = h5py.string_dtype()
        for name in WHOLE:
            file[name] = np.array([_or(getattr(trial, name), -1) for trial in trials], dtype=np.int64)
        for name in NUMBERS:
            file[name] = np.array([_or(getattr(trial, name), np.nan) for trial in trials], dtype=float)
        for name in TEXTS:
            texts = [getattr(trial, name) for trial in trials]
            file[name] = np.array(["" if item is None else to_cell(str(item)) for item in texts], dtype=text)
        for group, keys in (("config", config), ("metrics", metrics)):
            file.create_group(group, track_order=True)
            for key in keys:
                values = _column([getattr(trial, group).get(key, _ABSENT) for trial in trials], group == "metrics")
                file[group][_link(key)] = np.array(values, dtype=text) if isinstance(values, list) else values
        file["curves/id"] = np.asarray(curves.id, dtype=np.int64)
        file["curves/step"] = np.asarray(curves.step, dtype=float)
        file["curves/value"] = np.asarray(curves.value, dtype=float)
        for key, value in (attributes or {}).items():
            file.attrs[key] = json.dumps(value)  # of variable length: not bound to 64 KB as others are
        file.attrs["format"] = "1"
        file.flush()
        image = file.id.get_file_image()
    atomic.write(path, image)


def _or(value: Any, missing: Any) -> Any:
    return missing if value is None else value


def _column(values: list[Any], none_is_missing: bool) -> np.ndarray | list[str]:
    """The values as an array of whole numbers, truth values or numbers where that tells all; else as cells."""
    if none_is_missing and {type(value) for value in values} <= {int, float, type(None), type(_ABSENT)}:
        values = [_ABSENT if value is None else value for value in values]
    present = [value for value in values if value is not _ABSENT]
    types = {type(value) for value in present}
    whole = len(present) == len(values)
    if types == {bool} and whole:
        return np.array(values, dtype=bool)
    if types == {int} and whole and max(map(abs, present)) < 2**63:
        return np.array(values, dtype=np.int64)
    if types and types <= {int, float} and all(type(v) is float and v == v or abs(v) <= 2**53 for v in present):
        return np.array([np.nan if value is _ABSENT else value for value in values], dtype=float)
    return ["" if value is _ABSENT else to_cell(value) for value in values]


def _link(name: str) -> str:
    """A name that HDF5 takes: no slash, not only dots, not empty."""
    return _NOT_IN_NAMES.sub(
        lambda found: "".join(f"%{byte:02X}" for byte in found[0].encode(errors="surrogatepass")), name
    ) or "%"  # fmt: skip


def _name(link: str) -> str:
    return "" if link == "%" else unquote(link, errors="surrogatepass")


def read(path: str | os.PathLike[str]) -> Contents:
    """The trials, curves and attributes of a file that `write` made (a whole number may come back as a float).

    Raises:
        OSError: The file can't be read or is no HDF5 file.
        ValueError: It is not one of ours.
    """
    import h5py

    with h5py.File(path, "r", locking=False) as file:
        if file.attrs.get("format") != "1":
            raise ValueError(f"{path}: expected results of format 1, got {file.attrs.get('format')!r}")
        columns: dict[str, list[Any]] = {name: _values(file[name]) for name in COLUMNS}
        groups = {group: {_name(link): _values(file[group][link]) for link in file[group]}
                  for group in ("config", "metrics")}  # fmt: skip
        curves = Curves(*(file[f"curves/{name}"][()].tolist() for name in ("id", "step", "value")))
        attributes = {key: json.loads(value) for key, value in file.attrs.items()}
    for name in WHOLE:
        columns[name] = [None if value == -1 else value for value in columns[name]]
    trials = []
    for row in range(len(columns["id"])):
        fields: dict[str, Any] = {
            name: None if column[row] is _ABSENT else column[row] for name, column in columns.items()
        }
        config, metrics = ({name: column[row] for name, column in groups[group].items() if column[row] is not _ABSENT}
                           for group in ("config", "metrics"))  # fmt: skip
        fields["state"] = State(fields["state"])
        trials.append(Trial(**fields, config=config_of(config), metrics=metrics))
    return Contents(trials, curves, attributes)


def _values(dataset: Any) -> list[Any]:
    if dataset.dtype.kind == "O":
        return [from_cell(text) if text else _ABSENT for text in dataset.asstr()[()]]
    return [_ABSENT if value != value else value for value in dataset[()].tolist()]
