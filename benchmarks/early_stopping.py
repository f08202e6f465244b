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

from search_curves.flags import done, parser, tasks
from search_curves.pictures import draw
from search_curves.runs import grouped, overview, read, row, table

SIMPLE = [f"simple:epochs={i},all={n},few={k}" for i, (n, k) in product((1, 3, 9), ((27, 3), (27, 9)))]
SCHEDULES = ["full", *SIMPLE, "sha", "hyperband", "asha", "asha:stop=true", "quota", "bohb", "median", "curve"]
TIMES = (16.0, 32.0)  # in full trainings


def main() -> int:
    """Do the searches that are missing; print the tables."""
    chosen = _parser().parse_args()
    kinds = product(chosen.method.split(";"), chosen.schedule.split(";"), chosen.seen.split(","))
    searches = tasks(chosen, [kind for kind in kinds if not (kind[1] == "full" and kind[2] != "lifted")])
    if not done(chosen, searches, "early_stopping"):
        return 2
    names = chosen.problem.split(",")
    lines = [line for line in read(chosen.out) if line["problem"] in names]
    if not chosen.every:
        wanted = {tuple(task[name] for name in ("method", "schedule", "shown")) for task in searches}
        lines = [line for line in lines if (line["method"], line["schedule"], line["shown"]) in wanted]
    times = [time for time in TIMES if time <= chosen.trainings] or [chosen.trainings]
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
    made = parser(__doc__, "hartmann,hartmann-hard,digits", "early_stopping.jsonl", "regret")
    add = made.add_argument
    add("--method", default="random;auto", help="methods, with semicolons")
    add("--schedule", default=";".join(SCHEDULES), help="schedules, with semicolons; full: none")
    add("--seen", default="lifted", help="what the method sees, with commas: lifted, one, fitted, by-step, as-told")
    add("--every", action="store_true", help="print all that the file has of these objectives")
    return made


if __name__ == "__main__":
    sys.exit(main())
