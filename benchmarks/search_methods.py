"""Methods of search against wall time, as in DeepHyper's talk: best value at equal workers, in virtual time.

    .venv/bin/python benchmarks/search_methods.py --problem hartmann,digits --seeds 10 --out FILE.jsonl [--plot PNG]

``random``, ``evolution``, ``ambs`` and ``auto`` train each config fully; ``hyperband`` is with random configs, ``asha``
with those of ``auto``. An epoch takes what the objective says; a promotion goes on where its parent was. The value is
the incumbent's, of full trainings alone; beside it the smallest that was seen at any budget. FILE may be that of
``early_stopping.py``: each search is a line, and none is done twice.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from typing import Any

import numpy as np
from search_curves.curves import load
from search_curves.flags import done, parser, tasks
from search_curves.pictures import draw
from search_curves.runs import Line, grouped, mean_and_error, read, same, values

COMPARED = {
    "random": ("random", "full"),
    "evolution": ("evolution", "full"),
    "hyperband": ("random", "hyperband"),
    "ambs": ("ambs", "full"),
    "auto": ("auto", "full"),
    "asha": ("auto", "asha"),
}
TIMES = (4.0, 8.0, 16.0, 32.0)  # in full trainings


def main() -> int:
    """Do the searches that are missing; print the tables."""
    chosen = parser(__doc__, "hartmann,digits", "search_methods.jsonl", "the best value").parse_args()
    searches = tasks(chosen, [(method, schedule, "lifted") for method, schedule in COMPARED.values()])
    if not done(chosen, searches, "search_methods"):
        return 2
    wanted = {same(task) for task in searches}
    lines = [line for line in read(chosen.out) if same(line) in wanted]
    times = [time for time in TIMES if time <= chosen.trainings] or [chosen.trainings]
    found = [summary(mine, times) for mine in grouped(lines, ("name",)).values()]
    print("\n\n".join(map(table, found)))
    if chosen.json:
        chosen.json.write_text(json.dumps(found, indent=1) + "\n")
    if chosen.plot:
        draw(lines, chosen.plot, as_values=True)
    return 0


def summary(lines: Sequence[Line], times: Sequence[float]) -> dict[str, Any]:
    """What the searches on one objective come to."""
    curves, workers = load(lines[0]["problem"]), lines[0]["workers"]
    methods = {}
    for name, (method, schedule) in COMPARED.items():
        mine = [line for line in lines if (line["method"], line["schedule"]) == (method, schedule)]
        if not mine:
            continue
        at = np.array([values(line, times) for line in mine])
        methods[name] = {
            "seeds": len(mine),
            "value": [mean_and_error(column) for column in at.T],
            "seen": mean_and_error(np.array([values(line, times[-1:], "seen")[0] for line in mine])),
            "configs": float(np.mean([line["configs"] for line in mine])),
            "trainings": float(np.mean([line["trainings"] for line in mine])),
            "busy": float(np.mean([line["busy"] for line in mine])),
            "cpu": float(np.mean([line["cpu"] for line in mine])),
        }
    seconds = [curves.time(time, workers) for time in times]
    return {
        "objective": curves.name, "optimum": curves.optimum, "workers": workers, "seconds": seconds, "methods": methods
    }  # fmt: skip


def table(found: dict[str, Any]) -> str:
    """A table of Markdown, the lowest value at the last time first."""
    head = ["method", *(f"{seconds:.3g} s" for seconds in found["seconds"]), "smallest seen"]
    head += ["configs", "full", "busy", "CPU s", "seeds"]
    told = [f"**{found['objective']}** (optimum {found['optimum']:.4g}, {found['workers']} workers)", ""]
    told += ["| " + " | ".join(head) + " |", "|---" * len(head) + "|"]
    for name, each in sorted(found["methods"].items(), key=lambda item: item[1]["value"][-1][0]):
        cells = [f"`{name}`", *(f"{mean:.4g} +- {error:.2g}" for mean, error in [*each["value"], each["seen"]])]
        cells += [f"{each['configs']:.0f}", f"{each['trainings']:.0f}", f"{each['busy']:.1%}", f"{each['cpu']:.1f}"]
        told.append("| " + " | ".join([*cells, str(each["seeds"])]) + " |")
    return "\n".join(told)


if __name__ == "__main__":
    sys.exit(main())
