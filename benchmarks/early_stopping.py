"""Does early stopping pay? Full trainings, the simple rule and the schedules in virtual time, as tables and a picture.

    .venv/bin/python benchmarks/early_stopping.py --problem hartmann,digits --seeds 0:10 --out FILE.jsonl [--plot PNG]

Each search is a line of FILE; those that the file has already are not done again. What the figures mean stands in
``search_curves/runs.py`` and in docs/early_stopping.md.
"""

from __future__ import annotations

import argparse
import json
import sys
from itertools import product
from pathlib import Path

from search_curves.pictures import draw
from search_curves.runs import Line, grouped, overview, read, row, run_missing, table

SIMPLE = [f"simple:epochs={i},all={n},few={k}" for i, (n, k) in product((1, 3, 9), ((27, 3), (27, 9)))]
SCHEDULES = ["full", *SIMPLE, "sha", "hyperband", "asha", "asha:stop=true", "quota", "bohb", "median", "curve"]
TIMES = (16.0, 32.0)  # in full trainings


def main() -> int:
    """Do the searches that are missing; print the tables."""
    chosen = _parser().parse_args()
    names = chosen.problem.split(",")
    first, _, last = chosen.seeds.rpartition(":")
    tasks: list[Line] = [
        {
            "problem": problem, "method": method, "schedule": schedule, "shown": shown, "seed": seed,
            "workers": chosen.workers, "trainings_worth": chosen.trainings,
        }
        for seed, problem, method, schedule, shown in product(
            range(int(first or 0), int(last)), names, chosen.method.split(";"), chosen.schedule.split(";"),
            chosen.seen.split(","),
        )
        if not (schedule == "full" and shown != "lifted")
    ]  # fmt: skip
    try:
        if not chosen.table:
            run_missing(tasks, chosen.out, lambda text: print(text, file=sys.stderr, flush=True))
    except ValueError as error:
        print(f"early_stopping: {error}", file=sys.stderr)
        return 2
    lines = [line for line in read(chosen.out) if line["problem"] in names]
    if not chosen.every:
        wanted = {tuple(task[name] for name in ("method", "schedule", "shown")) for task in tasks}
        lines = [line for line in lines if (line["method"], line["schedule"], line["shown"]) in wanted]
    times = [time for time in TIMES if time <= chosen.trainings]
    if not chosen.every and "," not in chosen.seen:
        print("time to the target, in full trainings (seeds)\n\n" + overview(lines) + "\n")
    print(table(lines, times, shown="," in chosen.seen or chosen.every))
    if chosen.json:
        told = [
            {"problem": kind[0], "schedule": kind[1], "method": kind[2], "seen": kind[3]} | row(group, times)
            for kind, group in grouped(lines, ("name", "schedule", "method", "shown")).items()
        ]
        chosen.json.write_text(json.dumps(told, indent=1) + "\n")
    if chosen.plot:
        draw(lines, chosen.plot)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--problem", default="hartmann,hartmann-hard,digits", help="objectives, or files of curves, with commas")
    add("--method", default="random;auto", help="methods, with semicolons")
    add("--schedule", default=";".join(SCHEDULES), help="schedules, with semicolons; full: none")
    add("--seen", default="lifted", help="what the method sees, with commas: lifted, one, fitted")
    add("--seeds", default="10", help="N, or FIRST:END (default 10)")
    add("--workers", type=int, default=7)
    add("--trainings", type=float, default=32.0, help="virtual time, in full trainings of random configs (default 32)")
    add("--out", type=Path, default=Path("early_stopping.jsonl"), help="file of searches, appended to")
    add("--table", action="store_true", help="only print what the file has")
    add("--every", action="store_true", help="print all that the file has of these objectives")
    add("--json", type=Path, default=None, metavar="FILE", help="the tables' figures")
    add("--plot", type=Path, default=None, metavar="FILE", help="draw regret against time")
    return parser


if __name__ == "__main__":
    sys.exit(main())
