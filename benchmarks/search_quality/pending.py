"""The experiment on pending points: what a search does about the evaluations that run, by workers and durations.

Every rule has the same Gaussian process, bound, candidates and refits; only what is done about pending points differs.
Beside them stand asynchronous Thompson sampling, which needs no rule, and random search.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import product

from search_quality.score import Line, Scores, common

RULES = ("none", "lie-best", "lie-mean", "lie-worst", "believer", "penalise-soft", "penalise-hard")
MODEL = "ambs:model=gp,acquisition=lcb,pending={}"
METHODS = {rule: MODEL.format(rule) for rule in RULES} | {"ts": "ts:model=gp", "random": "random"}
PROBLEMS = ("hartmann6", "ackley5-mixed", "levy10", "bbob-f15-10d")
WORKERS = (8, 32, 128, 512)
DURATIONS = ("constant", "half-normal", "exponential", "pareto")
EVALUATIONS = {8: 100, 32: 200, 128: 512, 512: 1536}  # by workers: at least three rounds of all of them


def evaluations(workers: int) -> int:
    """How many evaluations a run with so many workers has."""
    return EVALUATIONS.get(workers, max(100, 3 * workers))


def table(lines: Iterable[Line]) -> str:
    """Final regrets as text: a row for each rule, a column for each number of workers and distribution.

    A figure is the geometric mean over problems of means over seeds; below stands how many runs it is made of.
    """
    groups: dict[tuple[int, str], list[Line]] = {}
    for line in lines:
        groups.setdefault((line["workers"], line["durations"]), []).append(line | {"block": "pending"})
    columns = [each for each in product(WORKERS, DURATIONS) if each in groups] or sorted(groups)
    scores = {each: Scores(common(groups[each])) for each in columns}  # the same problems and seeds for all rules
    label = {each: f"{each[0]} {each[1][:11]}" for each in columns}
    rows = ["final normalised regret by workers and durations: geometric mean over problems (runs)"]
    rows.append(f"{'':14}" + "".join(f"{label[each]:>18}" for each in columns))
    for name, method in METHODS.items():
        cells = []
        for each in columns:
            runs = sum(len(seeds) for seeds in scores[each].of.get(("pending", method), {}).values())
            cells.append(f"{scores[each].geometric('pending', method):.4f} ({runs})" if runs else "-")
        rows.append(f"{name:14}" + "".join(f"{cell:>18}" for cell in cells))
    rows.append("CPU ms per evaluation")
    for name, method in METHODS.items():
        cells = [f"{s.cpu('pending', method):.1f}" if ("pending", method) in s.of else "-" for s in scores.values()]
        rows.append(f"{name:14}" + "".join(f"{cell:>18}" for cell in cells))
    return "\n".join(rows + _against(scores, columns))


def _against(scores: dict[tuple[int, str], Scores], columns: list[tuple[int, str]]) -> list[str]:
    """Paired differences to the rule that ignores pending points, over all columns of a number of workers."""
    rows = ["paired with `none`, per problem and seed: regret lower / higher, over the durations (Wilcoxon's p)"]
    for name, method in METHODS.items():
        cells = []
        for workers in dict.fromkeys(each[0] for each in columns):
            parts = [scores[each] for each in columns if each[0] == workers]
            merged = Scores(
                line | {"seed": (line["durations"], line["seed"])} for part in parts for line in part.lines
            )  # a pair is of the same durations
            found = merged.paired("pending", method, METHODS["none"])
            if name != "none" and found["pairs"]:
                cells.append(f"{workers} workers: {found['wins']:.0f} / {found['losses']:.0f} (p {found['p']:.2g})")
        rows += [f"{name:14}" + ";  ".join(cells)] if cells else []
    return rows if len(rows) > 1 else []
