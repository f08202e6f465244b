"""What benchmarks of searches in virtual time are told on the command line, and the searches that follow from it."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable
from pathlib import Path

from search_curves.runs import Line, run_missing


def parser(description: str | None, problem: str, out: str, plot: str) -> argparse.ArgumentParser:
    """A parser with the flags that all have.

    Args:
        description: The script's docstring.
        problem: Default objectives. out: Default file. plot: What ``--plot`` draws.
    """
    made = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = made.add_argument
    add("--problem", default=problem, help="objectives, or files of curves, with commas")
    add("--seeds", default="10", help="N, or FIRST:END (default 10)")
    add("--workers", type=int, default=7)
    add("--trainings", type=float, default=32.0, help="virtual time, in full trainings of random configs (default 32)")
    add("--out", type=Path, default=Path(out), help="file of searches, appended to")
    add("--table", action="store_true", help="only print what the file has")
    add("--json", type=Path, default=None, metavar="FILE", help="the tables' figures")
    add("--plot", type=Path, default=None, metavar="FILE", help=f"draw {plot} against time")
    return made


def tasks(chosen: argparse.Namespace, kinds: Iterable[tuple[str, str, str]]) -> list[Line]:
    """The searches: each seed, objective and kind, ``method schedule shown``."""
    first, _, last = chosen.seeds.rpartition(":")
    every = list(kinds)
    return [
        {
            "problem": problem, "method": method, "schedule": schedule, "shown": shown, "seed": seed,
            "workers": chosen.workers, "trainings_worth": chosen.trainings,
        }
        for seed in range(int(first or 0), int(last))
        for problem in chosen.problem.split(",")
        for method, schedule, shown in every
    ]  # fmt: skip


def done(chosen: argparse.Namespace, wanted: list[Line], name: str) -> bool:
    """Do the searches that are missing, unless only a table is wanted; False where one can't be: it is told."""
    try:
        if not chosen.table:
            run_missing(wanted, chosen.out, lambda text: print(text, file=sys.stderr, flush=True))
    except ValueError as error:
        print(f"{name}: {error}", file=sys.stderr)
        return False
    return True
