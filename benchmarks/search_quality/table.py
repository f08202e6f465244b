"""Scores as text: a table for each block, the problems one by one, and paired differences."""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from search_quality.score import Scores


def table(scores: Scores, against: str | None = None, each: bool = False) -> str:
    """The scores as text: a table for each block, sorted by the mean; with ``each`` also a row for each problem."""
    parts = []
    for block in scores.blocks:
        methods = sorted(scores.methods(block), key=lambda m: scores.mean(block, m)[0])
        width = max(map(len, [*methods, "method"]))
        noisy = any(line["told"] != line["true"] for line in scores.lines if line["block"] == block)
        most = max(len(scores.of[block, m]) for m in methods)
        rows = [f"{block}: normalised regret (0 the optimum, 1 random search), best ever evaluated; of {most} problems"]
        head = f"{'method':{width}}  probs  seeds   mean +- se      geom. "
        rows.append(head + ("  told   returned +- se    recomm." if noisy else "") + "  CPU ms  repeats")
        for method in methods:
            problems = scores.of[block, method]
            counts = {len(seeds) for seeds in problems.values()}
            seeds = f"{min(counts)}" if len(counts) == 1 else f"{min(counts)}-{max(counts)}"
            mean, se = scores.mean(block, method)
            row = f"{method:{width}}  {len(problems):5d}  {seeds:>5s}   {mean:.3f} +- {se:.3f}"
            row += f"  {scores.geometric(block, method):.4f}"
            if noisy:
                told, _ = scores.mean(block, method, "told")
                returned, error = scores.mean(block, method, "returned")
                recommended, _ = scores.mean(block, method, "recommended")
                row += f"  {told:5.3f}   {returned:6.3f} +- {error:.3f}   "
                row += f"{'-':>6s}" if np.isnan(recommended) else f"{recommended:6.3f}"
            lines = [line for by_seed in problems.values() for line in by_seed.values()]
            repeats = np.mean([line["repeats"] / len(line["told"]) for line in lines])
            rows.append(row + f"  {scores.cpu(block, method):6.1f}  {100 * repeats:6.1f}%")
        rows += [row for method in methods if (row := _choices(scores, block, method, width))]
        parts.append("\n".join(rows))
        if each:
            parts.append(_each(scores, block, methods, width))
        if against in methods:
            parts.append(_against(scores, block, methods, width, against, noisy))
    return "\n\n".join(parts)


def _choices(scores: Scores, block: str, method: str, width: int) -> str:
    """Of a method that chooses among models, on which share of the evaluations each was in use, problem by problem."""
    cells = []
    for problem, seeds in scores.of[block, method].items():
        shares: dict[str, float] = {}
        for line in seeds.values():
            n, chosen = len(line["told"]), [*line["choices"], [len(line["told"]), "", ""]]
            for (start, model, _), (end, *_) in pairwise(chosen):
                shares[model] = shares.get(model, 0.0) + (end - start) / n / len(seeds)
        if shares:
            cells.append(f"{problem} " + " ".join(f"{model} {share:.0%}" for model, share in sorted(shares.items())))
    return f"{method:{width}}  chose: {', '.join(cells)}" if cells else ""


def _each(scores: Scores, block: str, methods: list[str], width: int) -> str:
    names = list(dict.fromkeys(name for method in methods for name in scores.of[block, method]))
    rows = [f"{'':{width}}  " + "  ".join(f"{name:>14.14s}" for name in names)]
    for method in methods:
        cells = []
        for name in names:
            values = [line["regrets"]["best"] for line in scores.of[block, method].get(name, {}).values()]
            cells.append(f"{np.mean(values):14.4g}" if values else f"{'-':>14s}")
        rows.append(f"{method:{width}}  " + "  ".join(cells))
    return "\n".join(rows)


def _against(scores: Scores, block: str, methods: list[str], width: int, against: str, noisy: bool) -> str:
    rows = [f"{block}, paired by problem and seed: method - {against} (below 0: better than it)"]
    for score in ("best", "returned") if noisy else ("best",):
        for method in methods:
            found = scores.paired(block, method, against, score)
            if method == against or not found["pairs"]:
                continue
            outcome = f"{found['wins']} better, {found['losses']} worse, Wilcoxon p {found['p']:.2g}"
            pairs = f"over {found['problems']} problems, {found['pairs']} pairs"
            rows.append(f"{method:{width}}  {score:8s}  {found['mean']:+.3f} +- {found['se']:.3f}  {pairs}: {outcome}")
    return "\n".join(rows)
