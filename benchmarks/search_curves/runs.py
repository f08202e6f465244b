"""A file of searches, one JSON line each, and what they come to: regrets at given times, times to a target.

The regret is ``(value - optimum) / (target - optimum)``, where the target is what random search reaches with 64 full
trainings (its median; of a pool of few configs with a quarter of them): 0 is the optimum, 1 the target. Time is counted
in full trainings: what all workers together do in it, in trainings of random configs. A search without any full
training so far counts as one random config.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from search_curves.curves import Curves, load
from search_curves.drive import drive

Array = NDArray[np.float64]
Line = dict[str, Any]
SAME = ("problem", "method", "schedule", "shown", "seed", "workers", "trainings_worth")


def read(file: Path) -> list[Line]:
    """The lines of a file; of the same search the last."""
    lines = [json.loads(text) for text in file.read_text().splitlines() if text] if file.exists() else []
    return list({same(line): line for line in lines}.values())


def same(line: Line) -> tuple[Any, ...]:
    """What tells a search from others."""
    return tuple(line[name] for name in SAME)


def run_missing(tasks: Iterable[Line], file: Path, say: Callable[[str], None]) -> None:
    """Do the searches of which the file has no line, one after the other, and append their lines."""
    done = {same(line) for line in read(file)}
    missing = [task for task in tasks if same(task) not in done]
    file.parent.mkdir(parents=True, exist_ok=True)
    with open(file, "a") as out:
        for count, task in enumerate(missing, 1):
            out.write(json.dumps(one(task)) + "\n")
            out.flush()
            say(f"{count} of {len(missing)} searches")


def one(task: Line) -> Line:
    """Do one search: its line."""
    curves = load(task["problem"])
    until = curves.time(task["trainings_worth"], task["workers"])
    run = drive(curves, task["method"], task["schedule"], task["seed"], task["workers"], until, shown=task["shown"])
    one_training = curves.time(1, task["workers"])
    result = asdict(run) | {
        name: [[round(t / one_training, 3), round(value, 6)] for t, value in getattr(run, name)]
        for name in ("full", "seen")
    }
    return task | {"name": curves.name} | result


def values(line: Line, times: Sequence[float] | Array, which: str = "full") -> Array:
    """The best value at each time, counted in full trainings.

    Args:
        line: A search.
        times: The times.
        which: ``full``, of full trainings: the incumbent's; or ``seen``, of all epochs of all trainings.
    """
    start = float(np.median(load(line["problem"]).every))
    steps = line[which]
    at = np.searchsorted([t for t, _ in steps], times, side="right")
    return np.array([start, *(value for _, value in steps)])[at]


def regrets(line: Line, times: Sequence[float] | Array, which: str = "full") -> Array:
    """The regret at each time."""
    curves = load(line["problem"])
    return np.asarray((values(line, times, which) - curves.optimum) / (curves.target - curves.optimum))


def reached(line: Line, which: str = "full") -> float:
    """When the target was reached, in full trainings; infinite where it was not."""
    target = load(line["problem"]).target
    return next((t for t, value in line[which] if value <= target + 1e-12), float("inf"))


def grouped(lines: Iterable[Line], by: Sequence[str] = ("schedule", "method", "shown")) -> dict[Any, list[Line]]:
    """Lines by what they have in common, in the order of the first of each."""
    groups: dict[Any, list[Line]] = defaultdict(list)
    for line in lines:
        groups[tuple(line[name] for name in by)].append(line)
    return groups


def mean_and_error(values: Array) -> tuple[float, float]:
    """Mean and its standard error."""
    error = float(np.std(values, ddof=1) / np.sqrt(len(values))) if len(values) > 1 else float("nan")
    return float(np.mean(values)), error


def row(lines: Sequence[Line], times: Sequence[float]) -> dict[str, Any]:
    """What the searches of one kind on one objective come to.

    The time to the target is a geometric mean; where it was not reached it counts as twice the whole time.
    """
    at = np.array([regrets(line, times) for line in lines])
    took = np.array([reached(line) for line in lines])
    return {
        "seeds": len(lines),
        "regret": [mean_and_error(at[:, k]) for k in range(len(times))],
        "seen": mean_and_error(np.array([regrets(line, times[-1:], "seen")[0] for line in lines])),
        "target": float(np.exp(np.mean(np.log(np.minimum(took, 2 * lines[0]["trainings_worth"]))))),
        "share": float(np.isfinite(took).mean()),
        "configs": float(np.mean([line["configs"] for line in lines])),
        "trainings": float(np.mean([line["trainings"] for line in lines])),
        "busy": float(np.mean([line["busy"] for line in lines])),
        "cpu": float(1e3 * np.mean([line["cpu"] / max(1, line["configs"]) for line in lines])),
    }


def table(lines: Sequence[Line], times: Sequence[float], shown: bool = False) -> str:
    """One table of Markdown for each objective, the shortest time to the target first."""
    parts = []
    for (name,), mine in grouped(lines, ("name",)).items():
        curves: Curves = load(mine[0]["problem"])
        rows = {kind: row(group, times) for kind, group in grouped(mine).items()}
        head = ["schedule", "method", *(["seen by it"] if shown else []), *(f"regret at {t:g}" for t in times)]
        head += ["smallest seen", f"to the target (random: {curves.reference})", "reached", "configs", "full", "seeds"]
        told = [f"**{name}** (optimum {curves.optimum:.4g}, target {curves.target:.4g})", ""]
        told += ["| " + " | ".join(head) + " |", "|---" * len(head) + "|"]
        for (schedule, method, view), found in sorted(rows.items(), key=lambda each: each[1]["target"]):
            cells = [f"`{schedule}`", f"`{method}`", *([view] if shown else [])]
            cells += [f"{mean:.3f} +- {error:.3f}" for mean, error in [*found["regret"], found["seen"]]]
            target = found["target"]
            cells.append(f"{target:.1f} ({curves.reference / target:.1f} x)" if found["share"] else "-")
            cells.append(f"{found['share']:.0%}")
            cells += [f"{found['configs']:.0f}", f"{found['trainings']:.0f}", str(found["seeds"])]
            told.append("| " + " | ".join(cells) + " |")
        parts.append("\n".join(told))
    return "\n\n".join(parts)


def overview(lines: Sequence[Line]) -> str:
    """The time to the target by schedule, and by objective and method; the last column is the geometric mean of all."""
    cells = {
        (line["schedule"], line["name"], line["method"]): group
        for group in grouped(lines, ("schedule", "name", "method")).values()
        for line in group[:1]
    }
    names, methods = (list(dict.fromkeys(key[place] for key in cells)) for place in (1, 2))
    columns = [
        (name, method) for name in names for method in methods if any(key[1:] == (name, method) for key in cells)
    ]
    rows = []
    for schedule in dict.fromkeys(key[0] for key in cells):
        found = [cells.get((schedule, *column)) for column in columns]
        times = [row(group, [1.0])["target"] if group else float("nan") for group in found]
        mean = float(np.exp(np.nanmean(np.log(times))))
        texts = [f"{t:.1f} ({len(group)})" if group else "-" for t, group in zip(times, found, strict=True)]
        rows.append((mean, [f"`{schedule}`", *texts, f"{mean:.1f}" if all(found) else f"({mean:.1f})"]))
    head = ["schedule", *(f"{name}, `{method}`" for name, method in columns), "mean"]
    told = ["| " + " | ".join(head) + " |", "|---" * len(head) + "|"]
    return "\n".join([*told, *("| " + " | ".join(texts) + " |" for _, texts in sorted(rows, key=lambda each: each[0]))])
