"""The library's face: minimize or maximize a function, and load what a run found."""

from __future__ import annotations

import dataclasses
import logging
import os
import sys
from collections.abc import Callable, Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mpibo.engine import launch, loading, mpi
from mpibo.engine.environment import is_worker
from mpibo.engine.job import Job
from mpibo.goals import NO_BEST, Aims, aims_in
from mpibo.report.notebook import NotebookLine, in_notebook
from mpibo.settings import Settings, settings_from
from mpibo.store.journal import read
from mpibo.trial import Outcome, State, Trial, end_event, start_event, trials_of

if TYPE_CHECKING:
    from mpibo.recommend import Recommended

log = logging.getLogger("mpibo")

NESTED = (
    "this script calls mpibo.minimize while a worker's child imports it: put what starts the search under "
    "`if __name__ == '__main__':`, as with multiprocessing"
)


@dataclasses.dataclass(frozen=True)
class Result:
    """What a run found.

    Attributes:
        trials: All trials in the order of their ids; values have the person's sign.
        why_ended: ``max_trials``, ``target``, ``walltime``, ``exhausted``, a signal's name, ...
        folder: The run folder.
        aims: What was good: the sign of the value or the goals, and the limits.
        space: The space's JSON form.
        noise: Whether values were declared noisy.
    """

    trials: list[Trial]
    why_ended: str | None
    folder: Path
    aims: Aims = Aims()
    space: Mapping[str, Any] = dataclasses.field(default_factory=dict, repr=False)
    noise: bool = False

    @property
    def best(self) -> Trial | None:
        """The incumbent: the best DONE trial within the limits at the highest budget; None when there is none.

        With ``noise`` it is the first trial of the config of which a model of all results expects most.

        Raises:
            ValueError: There are several goals.
        """
        if self.aims.several:
            raise ValueError(NO_BEST)
        if self.noise:
            return None if self._recommended is None else self.trials[self._recommended.row]
        return next(iter(self._leading), None)

    @property
    def best_anywhere(self) -> Trial | None:
        """The best value at whatever budget, STOPPED trials included; None without one.

        Raises:
            ValueError: There are several goals.
        """
        if self.aims.several:
            raise ValueError(NO_BEST)
        valued = [
            trial for trial in self.trials if trial.value is not None and trial.state in (State.DONE, State.STOPPED)
        ]
        kept = [trial for trial in valued if self.aims.keep(trial.metrics)]
        return min(kept, key=lambda trial: (self.aims.costs(trial.value, trial.metrics), trial.id), default=None)

    @property
    def expected(self) -> float | None:
        """The value to expect of the best config: a model's with ``noise``, else its own."""
        if self.noise and not self.aims.several:
            return None if self._recommended is None else self._recommended.expected
        return None if self.best is None else self.best.value

    @property
    def front(self) -> list[Trial]:
        """With several goals the trials that no other beats in all of them, by the first goal; else the best alone."""
        if self.aims.several:
            return self._leading
        return [] if self.best is None else [self.best]

    @cached_property
    def _leading(self) -> list[Trial]:
        from mpibo.front import front_of  # it needs NumPy: a rank that only serves does without

        return front_of(self.trials, self.aims)

    @cached_property
    def _recommended(self) -> Recommended | None:
        from mpibo.recommend import recommend
        from mpibo.space import Space
        from mpibo.table import Trials

        table = Trials(Space.from_json(dict(self.space)), *self.aims)
        for trial in self.trials:
            table.apply(start_event(trial))
            if trial.state in (State.DONE, State.STOPPED):
                table.apply(end_event(trial.id, Outcome(trial.state, trial.value, metrics=trial.metrics)))
        return recommend(table)

    def to_pandas(self) -> Any:
        """The trials as a ``pandas.DataFrame``, with columns ``config.NAME`` and ``metrics.NAME``."""
        import pandas

        rows = []
        for trial in self.trials:
            row = {each.name: getattr(trial, each.name) for each in dataclasses.fields(trial)}
            row["state"] = trial.state.value
            row |= {f"config.{name}": value for name, value in row.pop("config").items()}
            row |= {f"metrics.{name}": value for name, value in row.pop("metrics").items()}
            rows.append(row)
        return pandas.DataFrame(rows)


def minimize(function: Callable[..., Any], space: Any, **settings: Any) -> Result:
    """Search for the config at which ``function`` returns the smallest value.

    Under ``mpirun`` or ``srun`` rank 0 alone returns; the other ranks evaluate until rank 0's program ends. Without MPI
    ``workers`` local children evaluate (default 1).

    Args:
        function: Takes the config's names as keywords; ``trial`` (a ``RunningTrial``) and ``config`` if it has them.
            Returns a number, or a dict with ``value`` and metrics, or None if it reported; where there are goals or
            limits a dict with their names.
        space: A ``Space``, a dict of parameters, or a ``ConfigurationSpace``.
        **settings: ``max_trials walltime deadline target maximize goals limits noise method schedule budget start
            seed fix trial_timeout attempts isolation checkpoint_every memory_per_worker workers cores_per_worker
            gpus_per_worker ranks_per_worker out sync progress`` as in ``mpibo run --help``; ``method`` may be a
            strategy object.
            One of max_trials, walltime and target is required.

    Raises:
        ValueError: Bad input; one line.
        SystemExit: The script lacks its ``__main__`` guard, code 2; the scheduler ended the run, code 75.
        KeyboardInterrupt: Ctrl-C, after the run was closed in order.
    """
    if is_worker():
        from mpibo.engine.serving import serve

        serve()
    if loading.loading:
        raise ValueError(NESTED)
    world = mpi.join()
    pickles = {name: _pickled(settings, name) for name in ("method", "schedule")}
    checked = settings_from({"maximize": bool(settings.pop("maximize", False))}, settings)
    require_end(checked)
    job = _job(function, space, checked, **pickles)
    notebook = checked.progress == "auto" and in_notebook()
    if notebook:
        checked = dataclasses.replace(checked, progress="none")
    finished = launch.run(job, checked, world, NotebookLine if notebook else None)
    ended = finished.ended
    if ended.why == "SIGINT":
        raise KeyboardInterrupt
    if ended.exit_code == 75:
        raise SystemExit(75)
    if NESTED in ended.line:
        print(f"mpibo: {NESTED}", file=sys.stderr)
        raise SystemExit(2)
    if ended.line:
        raise (ValueError if ended.exit_code == 2 else RuntimeError)(f"{ended.line}\n{ended.details}".strip())
    return load(finished.folder)


def maximize(function: Callable[..., Any], space: Any, **settings: Any) -> Result:
    """As ``minimize``, for the largest value. Everything that is written or read keeps the function's own sign."""
    return minimize(function, space, **{**settings, "maximize": True})


def load(run: str | os.PathLike[str]) -> Result:
    """The result of a run, from its folder's journal; works while it runs, too.

    Raises:
        FileNotFoundError: The folder holds no journal.
        mpibo.store.journal.Damaged: A line of the journal has been changed.
    """
    folder = Path(run)
    events = read(folder).events
    opens = [event for event in events if event["kind"] == "open"]
    settings, space = (opens[-1]["settings"], opens[-1]["space"]) if opens else ({}, {})
    closes = [event for event in events if event["kind"] == "close"]
    still = not closes or closes[-1]["n"] < opens[-1]["n"]
    why = None if still else closes[-1]["why"]
    return Result(trials_of(events), why, folder, aims_in(settings), space, bool(settings.get("noise", False)))


def require_end(settings: Settings) -> None:
    """One of ``max_trials``, ``walltime`` and ``target`` must be set.

    Raises:
        ValueError: None is.
    """
    if settings.max_trials is None and settings.walltime is None and settings.target is None:
        raise ValueError("when is the search to end? give max_trials, walltime or target")


def _pickled(settings: dict[str, Any], name: str) -> bytes | None:
    """An object in place of a method or a schedule as a pickle; in the settings stays its class's name."""
    given = settings.get(name) or ""
    if isinstance(given, str):
        return None
    if not isinstance(given, type) and hasattr(given, "propose"):
        settings[name] = type(given).__name__
        return loading.dump(given)
    raise TypeError(f"{name}: expected a name or an object with propose, got {given!r}")


def _job(
    function: Callable[..., Any], space: Any, settings: Settings, method: bytes | None, schedule: bytes | None
) -> Job:  # fmt: skip
    from mpibo.engine.probe import as_space

    if not callable(function):
        raise TypeError(f"expected a function to search over, got {type(function).__name__}")
    full = as_space(space)
    form = full.to_json()
    name = getattr(function, "__name__", type(function).__name__)
    name = name if name.isidentifier() else "run"
    loading.check_signature(loading.parameters_of(function), form, settings.fix, name)
    if settings.schedule is not None:
        loading.check_budget(function, name)
    description = loading.describe(function)
    if description["kind"] == "pickle" and len(description["data"]) > loading.PICKLE_WARNING_BYTES:
        size = len(description["data"]) * 3 / 4 / 2**20
        log.warning("the objective's pickle is %.0f MB: load large data inside it (functools.cache), not outside", size)
    source = loading.source_hash(description, function)
    budget = int(getattr(function, "budget", 1))
    return Job(name, description, form, source, method, full.describe(), budget, schedule)
