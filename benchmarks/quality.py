"""The quality of a search in virtual time: methods and peers on blocks of problems, as a table and as pictures.

    .venv/bin/python benchmarks/quality.py --block smooth,noisy --method auto,ts,random --seeds 0:10 --out FILE.jsonl

Each run is a line of FILE; runs that the file has already are not done again. The README beside this file says more.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from itertools import product
from pathlib import Path

from search_quality import pending, problems
from search_quality.drive import DURATIONS
from search_quality.peers.environment import python_of
from search_quality.runs import Task, bare, read, run_missing
from search_quality.score import Scores, common
from search_quality.table import table

HERE = Path(__file__).resolve()
OURS_ALONE = ("--method", "--peer", "--plot", "--against")  # flags that a peer's own process is not given


def main() -> int:
    """Do the runs that are missing; print the table."""
    chosen = _parser().parse_args()
    try:
        _complete(chosen)
        if not chosen.table:
            run_missing(_tasks(chosen), chosen.out, chosen.jobs, _say)
            for peer in chosen.peer:
                command = [str(python_of(peer) or sys.executable), str(HERE), "--inside", peer, *_without(sys.argv[1:])]
                subprocess.run(command, check=False)
        if not chosen.inside:
            _show(chosen)
    except ValueError as error:
        print(f"quality: {error}", file=sys.stderr)
        return 2
    return 0


def _complete(chosen: argparse.Namespace) -> None:
    """Lists for texts, and what the experiment stands for."""
    for name in ("block", "problem", "peer", "durations"):
        setattr(chosen, name, _list(getattr(chosen, name)))
    chosen.method = _list(chosen.method, ";")
    chosen.workers = [int(each) for each in _list(chosen.workers)]
    chosen.seeds = _seeds(chosen.seeds)
    if chosen.experiment:
        chosen.method = [pending.METHODS.get(each, each) for each in chosen.method or pending.METHODS]
        chosen.problem = chosen.problem or list(pending.PROBLEMS)
        chosen.workers = chosen.workers or list(pending.WORKERS)
        chosen.durations = chosen.durations or list(pending.DURATIONS)
    chosen.workers = chosen.workers or [8]
    chosen.durations = chosen.durations or ["half-normal"]
    for each in chosen.durations:
        if each not in (*DURATIONS, "table"):
            raise ValueError(f"unknown durations {each!r}: expected one of {', '.join(DURATIONS)}, table")


def _evaluations(chosen: argparse.Namespace, workers: int) -> int:
    if chosen.evaluations:
        return int(chosen.evaluations)
    return pending.evaluations(workers) if chosen.experiment else 100


def _tasks(chosen: argparse.Namespace) -> list[Task]:
    """All runs that are wanted, seed by seed: a measurement that is stopped has the same seeds of everything."""
    tag = f" [{chosen.tag}]" if chosen.tag else ""
    names = []
    for name in problems.names(chosen.block, chosen.problem):
        package = problems.lacks(name)
        if package:
            print(f"{name} is left out: it needs {package}", file=sys.stderr)
        else:
            names.append(name)
    methods = [chosen.inside] if chosen.inside else chosen.method
    every = product(chosen.seeds, chosen.workers, chosen.durations, names, methods)
    return [
        {
            "problem": name, "method": method + tag, "seed": seed, "workers": workers,
            "evaluations": _evaluations(chosen, workers), "durations": durations, "peer": bool(chosen.inside),
        } for seed, workers, durations, name, method in every
    ]  # fmt: skip


def _say(count: int, total: int, line: Task) -> None:
    if "error" in line:
        print(f"{line['problem']} {line['method']} seed {line['seed']}: {line['error']}", file=sys.stderr)
    elif sys.stderr.isatty():
        print(f"\r{count} of {total} runs", end="\n" if count == total else "", file=sys.stderr)


def _show(chosen: argparse.Namespace) -> None:
    names = problems.names(chosen.block, chosen.problem)
    methods = [*chosen.method, *chosen.peer]
    lines = [
        line for line in read(chosen.out)
        if (not names or line["problem"] in names) and line["seed"] in chosen.seeds
        and (not methods or line["method"] in methods or bare(line["method"]) in methods)
    ]  # fmt: skip
    setups = [(w, _evaluations(chosen, w), d) for w, d in product(chosen.workers, chosen.durations)]
    lines = [line for line in lines if (line["workers"], line["evaluations"], line["durations"]) in setups]
    if chosen.experiment:
        print(pending.table(lines))
        return
    for workers, evaluations, durations in setups:
        of = [line for line in lines if (line["workers"], line["durations"]) == (workers, durations)]
        of = common(of) if chosen.common else of
        if not of:
            print(f"no runs yet with {workers} workers, {evaluations} evaluations, {durations} durations")
            continue
        print(f"{workers} workers, {evaluations} evaluations, {durations} durations\n")
        print(table(Scores(of), chosen.against, chosen.each))
        if chosen.plot:
            from search_quality.plots import draw

            print("\n".join(map(str, draw(Scores(of), chosen.plot))))


def _without(arguments: list[str]) -> list[str]:
    """The command's arguments for a peer's own process."""
    kept, skip = [], False
    for each in arguments:
        if skip:
            skip = False
        elif each in OURS_ALONE:
            skip = True
        elif not each.startswith(tuple(f"{flag}=" for flag in OURS_ALONE)):
            kept.append(each)
    return kept


def _list(text: str, mark: str = ",") -> list[str]:
    """Names between commas; methods whose options have commas stand between semicolons."""
    whole = mark != "," and (mark in text or "=" in text)
    return [part.strip() for part in text.split(mark if whole else ",") if part.strip()]


def _seeds(text: str) -> range:
    first, colon, last = text.partition(":")
    return range(int(first), int(last)) if colon else range(int(first))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--block", default="", help=f"blocks, with commas: {', '.join(problems.BLOCKS)}")
    add("--problem", default="", help="problems by name, with commas")
    add("--method", default="", help="methods, with commas, or with semicolons where their options have commas")
    add("--peer", default="", help="peers (modules of search_quality/peers), with commas")
    add("--experiment", choices=["pending"], help="the rules for pending points by workers and durations")
    add("--inside", default="", help=argparse.SUPPRESS)  # a peer, in its own environment
    add("--tag", default="", help="added to the methods' names in the file: another state of the code")
    add("--seeds", default="10", help="N, or FIRST:END (default 10)")
    add("--workers", default="", help="numbers, with commas (default 8)")
    add("--evaluations", type=int, default=0, help="default 100; in the experiment more with more workers")
    add("--durations", default="", help=f"{', '.join(DURATIONS)}, table; with commas (default half-normal)")
    add("--jobs", type=int, default=1, help="processes, of one BLAS thread each")
    add("--out", type=Path, default=Path("quality.jsonl"), help="file of runs, appended to")
    add("--table", action="store_true", help="only print what the file has")
    add("--common", action="store_true", help="only the problems and seeds that all methods shown have")
    add("--each", action="store_true", help="a row for each problem, too")
    add("--against", default=None, metavar="METHOD", help="paired differences to this method")
    add("--plot", type=Path, default=None, metavar="FOLDER", help="draw regret against evaluations and time")
    return parser


if __name__ == "__main__":
    sys.exit(main())
