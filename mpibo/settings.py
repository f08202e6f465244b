"""The settings of a run: one frozen record, from defaults, a TOML file, and flags or keywords of the same names."""

from __future__ import annotations

import dataclasses
import json
import math
import os
import re
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from mpibo.budgets import budget_range, scheduled
from mpibo.goals import Aims, aims_of, goals_of, limits_of

TRIALS_OF_A_BUILT_IN = 64

_UNITS = {"": 1.0, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0, "d": 86400.0}
_BYTES = {"": 1, "b": 1, "k": 2**10, "m": 2**20, "g": 2**30, "t": 2**40}


def seconds(value: float | str) -> float:
    """A duration in seconds from a number, ``90s 30m 2h 1d`` or ``[D-]HH:MM:SS``.

    Raises:
        ValueError: Not a positive duration.
    """
    text = str(value).strip()
    total = math.nan
    if match := re.fullmatch(r"(?:(\d+)-)?(\d+):(\d\d):(\d\d)", text):
        days, hours, minutes, rest = (int(part or 0) for part in match.groups())
        total = 86400.0 * days + 3600.0 * hours + 60.0 * minutes + rest
    elif match := re.fullmatch(r"(\d+(?:\.\d*)?(?:e[+-]?\d+)?|\.\d+)\s*(s|m|min|h|d|)", text):
        total = float(match[1]) * _UNITS[match[2]]
    if not (math.isfinite(total) and total > 0):
        raise ValueError(f"expected a duration such as 90s, 30m, 2h, 1d or 1-12:00:00, got {value!r}")
    return total


def date(value: float | str | datetime, now: datetime | None = None) -> str:
    """A point in time as ISO text in UTC, from a date and time (local where it names no zone) or a duration from now.

    Raises:
        ValueError: Neither, or it has passed.
    """
    now = now or datetime.now(UTC)
    point = value
    if not isinstance(value, datetime):
        if not re.match(r"\d{4}-\d\d-\d\d", str(value).strip()):
            return (now + timedelta(seconds=seconds(value))).isoformat(timespec="milliseconds")
        try:
            point = datetime.fromisoformat(str(value).strip())
        except ValueError as error:
            raise ValueError(f"expected a date such as 2026-01-31T18:00, got {value!r} ({error})") from None
    assert isinstance(point, datetime)
    if point.astimezone(UTC) <= now:
        raise ValueError(f"{value} has passed")
    return point.astimezone(UTC).isoformat(timespec="milliseconds")


def size(value: int | str) -> int:
    """A size in bytes from a number or ``500M``, ``2G``, ``2GB``, ``1.5GiB`` (powers of 1024).

    Raises:
        ValueError: Not a positive size.
    """
    match = re.fullmatch(r"(\d+(?:\.\d*)?)\s*([bkmgt]?)(?:i?b)?", str(value).strip().lower())
    if not match or float(match[1]) <= 0:
        raise ValueError(f"expected a size such as 500M or 2G, got {value!r}")
    return int(float(match[1]) * _BYTES[match[2]])


def _timeout(value: float | str) -> float | str:
    """Seconds, or ``3x``: so many times the median duration."""
    if match := re.fullmatch(r"(\d+(?:\.\d*)?|\.\d+)\s*x", str(value).strip()):
        if not float(match[1]) > 1:
            raise ValueError(f"expected a multiple of the median above 1 such as 3x, got {value!r}")
        return f"{float(match[1]):g}x"
    return seconds(value)


def _gpus(value: Any) -> float:
    number = _finite(value)
    if number < 0 or (number > 1 and not number.is_integer()):
        raise ValueError(f"expected 0, a part of a GPU such as 0.125, or a whole number of them, got {value!r}")
    return number


def literal(text: str) -> Any:
    """The value of ``NAME=VALUE`` on a command line: what TOML reads, else the text itself."""
    if text in ("None", "none"):
        return None
    if text in ("True", "False"):
        return text == "True"
    if re.fullmatch(r"[+-]?(\d+\.|\.\d+)([eE][+-]?\d+)?", text):
        return float(text)  # .5 and 5. are no numbers of TOML
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


def _at_least(low: int) -> Any:
    def check(value: Any) -> int:
        whole = value
        if isinstance(value, str) and re.fullmatch(r"[+-]?\d+", value.strip()):
            whole = int(value)
        if isinstance(value, float) and value.is_integer():
            whole = int(value)
        if isinstance(whole, (bool, str, float)) or not hasattr(whole, "__index__") or whole < low:
            raise ValueError(f"expected a whole number of at least {low}, got {value!r}")
        return int(whole)

    return check


_positive, _whole = _at_least(1), _at_least(0)


def _finite(value: Any) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = math.nan
    if isinstance(value, bool) or not math.isfinite(number):
        raise ValueError(f"expected a finite number, got {value!r}")
    return number


def _one_of(*names: str) -> Any:
    def check(value: Any) -> str:
        if value not in names:
            raise ValueError(f"expected one of {', '.join(names)}, got {value!r}")
        return str(value)

    return check


def _truth(value: Any) -> bool:
    if not isinstance(value, bool):
        raise ValueError(f"expected true or false, got {value!r}")
    return value


def _text(value: Any) -> str:
    if not isinstance(value, (str, os.PathLike)):
        raise ValueError(f"expected text, got {value!r}")
    return os.fspath(value)


def _place(value: Any) -> str:
    """A place in S3. The text given is not repeated: a key in it would end in a log."""
    match = re.fullmatch(r"s3://[a-z0-9][a-z0-9.-]{1,61}[a-z0-9](/[\w.=+-]+)*/?", str(value), re.ASCII)
    if not match or any(part in (".", "..") for part in match[0].split("/")):
        raise ValueError(
            "expected s3://BUCKET/PREFIX of letters, digits and .-_=+ (credentials are taken from the environment, "
            "~/.aws or the machine's role, never from here)"
        )
    return match[0].rstrip("/")


def _configs(value: Any) -> tuple[dict[str, Any], ...]:
    if isinstance(value, (str, os.PathLike)):
        value = start_configs(os.fspath(value))
    if isinstance(value, Mapping):
        value = [value]
    if not isinstance(value, (list, tuple)) or not all(isinstance(item, Mapping) for item in value):
        raise ValueError(f"expected a list of configs (dicts of names and values), got {value!r}")
    return tuple(_names(item) for item in value)


def _budget(value: Any) -> int | tuple[int, int]:
    low, high = budget_range(value)
    return high if low == high else (low, high)


def _goals(value: Any) -> tuple[str, ...]:
    return tuple(map(str, goals_of(value)))


def _limits(value: Any) -> tuple[str, ...]:
    return tuple(map(str, limits_of(value)))


def _names(value: Any) -> dict[str, Any]:
    """Names and values as JSON can say them; TOML's ``{none = true}`` is None."""
    if not isinstance(value, Mapping):
        raise ValueError(f"expected names and values, got {value!r}")
    plain = {str(name): None if item == {"none": True} else item for name, item in value.items()}
    for name, item in plain.items():
        try:
            json.dumps(item, allow_nan=False)
        except (TypeError, ValueError):
            raise ValueError(
                f"expected numbers, text, lists or dicts, got {type(item).__name__} for {name!r}"
            ) from None
    return plain


def start_configs(path: str) -> Any:
    """Start configs from a JSON list, or from TOML tables ``[[start]]``.

    Raises:
        ValueError: The file can't be read, or says something else.
    """
    if not path.endswith(".json"):
        return load_toml(path).get("start")
    try:
        return json.loads(Path(path).read_text())
    except OSError as error:
        raise ValueError(f"can't read {path}: {error.strerror}") from error
    except ValueError as error:
        raise ValueError(f"{path} is not JSON: {error}") from error


def _setting(group: str, help: str, parse: Any, default: Any = None, metavar: str | None = None) -> Any:
    about = {"group": group, "help": help, "parse": parse, "metavar": metavar}
    if isinstance(default, dict):
        return field(default_factory=dict, metadata=about)
    return field(default=default, metadata=about)


@dataclass(frozen=True)
class Settings:
    """Everything that a run is told. Each field is a flag, a TOML key and a keyword of ``minimize``."""

    max_trials: int | None = _setting("goal", "number of configs to evaluate, over all starts", _positive, None, "N")
    walltime: float | None = _setting(
        "goal", "total time of the run, over all starts (90s 30m 2h 1d)", seconds, None, "TIME"
    )
    deadline: str | None = _setting(
        "goal", "end of this allocation: a time from now, or a date as 2026-01-31T18:00 (default: the scheduler's)",
        date, None, "TIME|DATE",
    )  # fmt: skip
    target: float | None = _setting("goal", "end when a value at least this good is found", _finite, None, "VALUE")
    maximize: bool = _setting("goal", "larger values are better", _truth, False)
    goals: tuple[str, ...] = _setting(
        "goal", "metrics of the returned dict to make small or large, as in 'min error, max recall'", _goals, (),
        "'min NAME, max NAME'",
    )  # fmt: skip
    limits: tuple[str, ...] = _setting(
        "goal", "metrics of the returned dict that must keep a limit, as in 'megabytes <= 20'", _limits, (),
        "'NAME <= NUMBER'",
    )  # fmt: skip
    noise: bool = _setting("goal", "values are noisy: repeat the best configs, judge by a model", _truth, False)
    space: str | None = _setting(
        "search", "space file (TOML or JSON); wins over the objective's own", _text, None, "FILE"
    )
    fix: dict[str, Any] = _setting("search", "hold an argument of the objective", _names, {}, "NAME=VALUE")
    method: str = _setting("search", "strategy and its options, as in ambs:kappa=1.96,pending=lie-worst", _text,
                           "auto", "NAME[:k=v,..]")  # fmt: skip
    schedule: str | None = _setting(
        "search", "how much of its budget a config gets: asha (what a range of budgets means), sha, hyperband, bohb, "
        "median, curve", _text, None, "NAME[:k=v,..]",
    )  # fmt: skip
    budget: int | tuple[int, int] | None = _setting(
        "search", "budget of every trial (what trial.budget says); with a schedule the smallest and the largest",
        _budget, None, "N|LOW:HIGH",
    )  # fmt: skip
    start: tuple[dict[str, Any], ...] = _setting(
        "search", "configs to run first (TOML or JSON file)", _configs, (), "FILE"
    )
    warm_start: str | None = _setting(
        "search", "another run's folder, or a CSV of results: what is known before the first trial", _text, None, "RUN"
    )
    seed: int = _setting("search", "the run's seed", _whole, 0, "N")
    trial_timeout: float | str | None = _setting(
        "trials", "longest time of one trial: a time, or a multiple of the median as in 3x", _timeout, None, "TIME|Nx"
    )
    attempts: int = _setting("trials", "starts of one config whose worker dies", _positive, 3, "N")
    isolation: str = _setting(
        "trials",
        "evaluate in a child process, a fresh one for each trial, or in the rank itself",
        _one_of("process", "fresh", "none"),
        "process",
        "process|fresh|none",
    )
    checkpoint_every: float | None = _setting(
        "trials", "save trials that can resume after so much time (default: when the run needs it)", seconds, None,
        "TIME",
    )  # fmt: skip
    memory_per_worker: int | None = _setting("trials", "memory limit of one evaluation (500M 2G)", size, None, "SIZE")
    workers: int | None = _setting(
        "workers", "evaluations at once without MPI (under MPI the ranks count)", _positive, None, "N"
    )
    cores_per_worker: int | None = _setting(
        "workers", "cores of one evaluation: its threads, and where it is bound (default: a fair share)", _positive,
        None, "N",
    )  # fmt: skip
    gpus_per_worker: float | None = _setting(
        "workers", "GPUs of one evaluation; 0.125: eight workers share one (default: a fair share)", _gpus, None, "N"
    )
    ranks_per_worker: int = _setting(
        "workers", "ranks that evaluate one trial together (trial.comm, or torch.distributed)", _positive, 1, "N"
    )
    out: str | None = _setting("output", "run folder; an existing one goes on", _text, None, "FOLDER")
    sync: str | None = _setting(
        "output", "mirror the run folder there while it runs: s3://BUCKET/PREFIX", _place, None, "URL"
    )
    progress: str = _setting("output", "what to show while it runs", _one_of("auto", "live", "plain", "none"), "auto",
                             "auto|live|plain|none")  # fmt: skip
    debug: bool = _setting("output", "show the traceback of an error", _truth, False)

    @property
    def aims(self) -> Aims:
        """Sign, goals and limits."""
        return aims_of(self.maximize, self.goals, self.limits)

    def plain(self) -> dict[str, Any]:
        """The settings that are set, as TOML and the journal keep them."""
        values = {each.name: getattr(self, each.name) for each in dataclasses.fields(self)}
        for name, value in values.items():
            if isinstance(value, tuple):
                values[name] = list(value)
        return {name: value for name, value in values.items() if value is not None and value not in ([], {})}


FIELDS = {each.name: each for each in dataclasses.fields(Settings)}


def settings_from(*sources: Mapping[str, Any]) -> Settings:
    """Merge sources, later ones first in rank; None means not given.

    Raises:
        ValueError: An unknown name (with the nearest known one), or a value that does not fit.
    """
    merged: dict[str, Any] = {}
    for source in sources:
        for name, value in source.items():
            if name not in FIELDS:
                raise ValueError(f"unknown setting {name!r}{_nearest(name, FIELDS)}")
            if value is None:
                continue
            try:
                merged[name] = FIELDS[name].metadata["parse"](value)
            except (TypeError, ValueError, OverflowError) as error:
                raise ValueError(f"{name}: {error}") from error
    settings = Settings(**merged)
    if settings.budget is not None or settings.schedule is not None:
        try:
            schedule = scheduled(settings.schedule, settings.budget or 1)[0]
        except ValueError as error:
            raise ValueError(f"budget: {error}") from error
        settings = dataclasses.replace(settings, schedule=schedule)
    if settings.schedule is not None and settings.aims.several:
        raise ValueError("schedule: it compares trials by one value; not with several goals")
    if settings.isolation == "none" and settings.memory_per_worker is not None:
        raise ValueError("memory_per_worker needs a process of its own: not with isolation none")
    if settings.aims.several and settings.target is not None:
        raise ValueError(
            f"target is for one value; with the goals {', '.join(settings.goals)} give max_trials or walltime"
        )
    return settings


def load_toml(path: str | Path) -> dict[str, Any]:
    """Read a TOML file.

    Raises:
        ValueError: It can't be read or is not TOML; names the file.
    """
    try:
        with open(path, "rb") as file:
            return tomllib.load(file)
    except OSError as error:
        raise ValueError(f"can't read {path}: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is not TOML: {error}") from error


def _nearest(name: str, known: Iterable[str]) -> str:
    import difflib

    close = difflib.get_close_matches(name, list(known), 1)
    return f"; did you mean {close[0]!r}?" if close else f"; known: {', '.join(sorted(known))}"
