"""A run's trials as results.csv, one row each.

One rule holds for every cell, so that nothing changes its type on the way: an empty cell is absent; a cell that reads
as JSON is that value; any other cell is that text. A string that would be taken for something else (``1``, ``true``,
``null``, the empty one) is therefore written as a JSON string. Tuples are JSON arrays.
"""

from __future__ import annotations

import csv
import json
import os
import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any

from mpibo.store import atomic
from mpibo.trial import State, Trial, config_of

COLUMNS = ("id", "state", "value", "reason", "error", "budget", "parent", "retry_of", "bracket", "rung", "origin",
           "seed", "worker", "host", "started", "finished")  # fmt: skip
TEXTS = frozenset({"state", "reason", "error", "origin", "host"})
NUMBERS = frozenset({"value", "started", "finished"})

_MAY_BE_JSON = frozenset('{["-0123456789tfnNI \t\r\n')
_NEEDS_QUOTES = re.compile(r'[",\r\n]')


def to_cell(value: Any) -> str:
    """The text of one value: JSON, but a string that can't be taken for anything else stands as it is."""
    if isinstance(value, str) and value and "\0" not in value and not _is_json(value) and _is_unicode(value):
        return value
    return json.dumps(value)


def from_cell(text: str) -> Any:
    """The value of one cell that is not empty: ``from_cell(to_cell(value)) == value``, tuples as lists."""
    if text[0] not in _MAY_BE_JSON:
        return text
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text


def _is_json(text: str) -> bool:
    if text[0] not in _MAY_BE_JSON:
        return False
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:  # lone surrogates: bytes that were no UTF-8
        return False
    return True


def names_of(trials: Iterable[Trial], names: Iterable[str] = ()) -> tuple[list[str], list[str]]:
    """The config names (those given first) and the metrics' names that occur, in order of appearance."""
    config = dict.fromkeys(names)
    metrics: dict[str, None] = {}
    for trial in trials:
        for name in trial.config:
            config.setdefault(name)
        for name in trial.metrics:
            metrics.setdefault(name)
    return list(config), list(metrics)


def write(path: str | os.PathLike[str], trials: Sequence[Trial], names: Iterable[str] = ()) -> None:
    """Write ``trials`` as a CSV file with a header, whole or not at all.

    Args:
        path: The file, ``results.csv``.
        trials: One row each, in this order. Times are rounded to microseconds.
        names: The space's parameters, in the order of their columns.

    Raises:
        OSError: The file can't be written; an earlier one is still as it was.
    """
    atomic.write(path, "".join(_lines(trials, names)))


def _lines(trials: Sequence[Trial], names: Iterable[str]) -> Iterator[str]:
    config, metrics = names_of(trials, names)
    header = [*COLUMNS, *(f"config.{name}" for name in config), *(f"metrics.{name}" for name in metrics)]
    yield _line(name if _is_unicode(name) else name.encode(errors="backslashreplace").decode() for name in header)
    for trial in trials:
        cells = [_fixed(trial, name) for name in COLUMNS]
        cells += [to_cell(trial.config[name]) if name in trial.config else "" for name in config]
        cells += [to_cell(trial.metrics[name]) if name in trial.metrics else "" for name in metrics]
        yield _line(cells)


def _fixed(trial: Trial, name: str) -> str:
    value = getattr(trial, name)
    if value is None:
        return ""
    if name == "state":
        return str(value)
    return to_cell(round(value, 6) if name in ("started", "finished") else value)


def _line(cells: Iterable[str]) -> str:
    # The csv module leaves a bare \r unquoted when lines end in \n.
    quoted = ('"' + cell.replace('"', '""') + '"' if _NEEDS_QUOTES.search(cell) else cell for cell in cells)
    return ",".join(quoted) + "\n"


def read(path: str | os.PathLike[str], names: Collection[str] = (), **default: Any) -> list[Trial]:
    """The trials of a CSV file: one that `write` made, or one made by hand with some of its columns.

    Without ``id`` the rows are numbered from 0; without ``state`` a row with a value is DONE and one without is
    FAILED. Other columns are left alone. Arrays in config are tuples, as choices are.

    Args:
        path: The file.
        names: Parameters that may have a column of their plain name, in a file without any ``config.NAME``.
        **default: What a row has where its cell is empty, such as ``budget``.

    Raises:
        OSError: The file can't be read.
        ValueError: It is no such file; names the line.
    """
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:
            rows = csv.reader(file, strict=True)
            header = next(rows, [])
            if any(name.startswith("config.") for name in header):
                names = ()
            ours = [name for name in header if name in COLUMNS or name in names or name.startswith("config.")]
            if not ours or len(set(header)) != len(header):
                raise ValueError(f"{path} line 1: expected distinct columns as in results.csv, got {header}")
            header = [f"config.{name}" if name in names and name != "value" else name for name in header]
            return [_trial(dict(_present(path, rows.line_num, header, row)), number, f"{path} line {rows.line_num}",
                           default) for number, row in enumerate(row for row in rows if row)]  # fmt: skip
    except csv.Error as error:
        raise ValueError(f"{path} line {rows.line_num}: not a CSV file: {error}") from None
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: expected UTF-8 text, got {error.reason} at byte {error.start}") from None


def _present(path: Any, line: int, header: list[str], row: list[str]) -> Iterator[tuple[str, str]]:
    if len(row) != len(header):
        raise ValueError(f"{path} line {line}: expected {len(header)} cells, got {len(row)}")
    return ((name, cell) for name, cell in zip(header, row, strict=True) if cell)


def _trial(cells: dict[str, str], number: int, where: str, default: Mapping[str, Any]) -> Trial:
    fields: dict[str, Any] = {"id": number, "state": "DONE" if "value" in cells else "FAILED", **default}
    config: dict[str, Any] = {}
    metrics: dict[str, Any] = {}
    for name, cell in cells.items():
        if name in COLUMNS:
            fields[name] = _value(name, cell, where)
        elif name.startswith("config."):
            config[name.removeprefix("config.")] = from_cell(cell)
        elif name.startswith("metrics."):
            metrics[name.removeprefix("metrics.")] = from_cell(cell)
    try:
        fields["state"] = State(fields["state"])
    except ValueError:
        raise ValueError(f"{where}: state must be one of {', '.join(State)}, got {fields['state']}") from None
    return Trial(**fields, config=config_of(config), metrics=metrics)


def _value(name: str, cell: str, where: str) -> Any:
    value = from_cell(cell)
    if name in TEXTS:
        return value if isinstance(value, str) else cell
    if type(value) is int or name in NUMBERS and type(value) is float:
        return value
    raise ValueError(f"{where}: {name} must be a {'' if name in NUMBERS else 'whole '}number, got {cell[:40]!r}")
