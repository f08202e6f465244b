"""How busy the workers stay as they become more: real ranks on this machine, simulated ones to 16,384, and DeepHyper.

    python benchmarks/scaling.py [--ranks 2,8,...] [--workers 64,1024,...] [--methods 'auto;random']
                                 [--json FILE] [--plot FILE.png] [--launcher 'srun --mpi=pmi2']

The real workers sleep, longer the more they are: this measures the engine, not the cores. With ``--json`` the points
that the file has are not measured again. README.md says what each figure means.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shlex
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path

from overhead import number, table
from runs import MPIRUN, busy, launch, run, space

RANKS = (2, 8, 16, 32, 64, 128)
WORKERS = (64, 256, 640, 1024, 1920, 4096, 16384)
SECONDS = (1.0,)  # mean durations of the simulated evaluations
RATE = 12.7  # evaluations a second of all real workers together; two cores carry it
ROUNDS = 8  # evaluations a worker, at least
SHORTEST_RUN = 20.0  # seconds
TARGETS = {("real", 7, 1.0): 98.0, ("real", 7, 0.1): 90.0, ("real", 127, 10.0): 97.0,
           ("simulated", 1024, 1.0): 99.0, ("simulated", 4096, 1.0): 95.0}  # fmt: skip
# DeepHyper's own publication, measured on Polaris with evaluations of minutes: utilisation in percent by workers.
CENTRALISED = {40: 97.8, 160: 98.3, 640: 72.8, 1920: 26.7}
DECENTRALISED = (97.0, 99.0)  # over the same numbers of workers
SOURCE = "their publication, Polaris"


@dataclass(frozen=True)
class Point:
    """One measured or simulated run.

    Attributes:
        kind: real or simulated. seconds: mean duration of an evaluation.
        steady: Percent of the workers' time in evaluations while there was work for all. whole: from the first start
            to the last end, loading and the idle tail included.
        evaluations: In the run. rate: of them a second. elapsed: seconds, virtual where simulated. load: as it began.
    """

    kind: str
    method: str
    workers: int
    seconds: float
    steady: float
    whole: float
    evaluations: int
    rate: float
    elapsed: float
    load: float = field(default_factory=lambda: os.getloadavg()[0])
    note: str = ""

    @property
    def key(self) -> tuple[str, str, int, float]:
        """What tells it from other points."""
        return self.kind, self.method, self.workers, self.seconds

    @property
    def target(self) -> float | None:
        """What it must reach, steadily."""
        return TARGETS.get((self.kind, self.workers, self.seconds))

    def row(self) -> tuple[str, ...]:
        """A line of the table."""
        target = "" if self.target is None else f"{self.target:g} {'met' if self.steady >= self.target else 'MISSED'}"
        return (self.kind, self.method, str(self.workers), f"{self.seconds:g} s", f"{self.steady:.1f} %", target,
                f"{self.whole:.1f} %", str(self.evaluations), number(self.rate), f"{self.elapsed:.0f} s",
                f"{self.load:.1f}", self.note)  # fmt: skip


HEADER = ("", "method", "workers", "evaluation", "steady", "target", "whole", "evaluations", "a second", "elapsed",
          "load", "")  # fmt: skip


def affordable(workers: int) -> float:
    """Mean seconds of the evaluations of so many real workers: at least 1, and at most ``RATE`` of them a second."""
    return max(1.0, round(workers / RATE, 1))


def real(method: str, workers: int, seconds: float, launcher: Sequence[str]) -> Point:
    """A run with so many ranks and one more, whose evaluations sleep."""
    load = os.getloadavg()[0]
    rounds = max(ROUNDS, round(SHORTEST_RUN / seconds))
    made = run("nap", "--fix", f"seconds={seconds}", "--method", method, "--max-trials", str(rounds * workers),
               words=launch(workers + 1, launcher), patience=600 + 4 * rounds * seconds)  # fmt: skip
    told = busy(made, workers)
    ends = made.of("end")
    elapsed = ends[-1]["t"] - made.of("start")[0]["t"]
    note = f"{number(told['between'])} ms between trials (longest {number(told['longest'])})"
    return Point("real", method, workers, seconds, told["steady"], told["whole"], len(ends), len(ends) / elapsed,
                 elapsed, load, note)  # fmt: skip


def simulated(method: str, workers: int, seconds: float) -> Point:
    """The same in virtual time, with the engine's costs as they are measured on the way."""
    from mpibo.forecast import forecast

    load = os.getloadavg()[0]
    told = forecast(space, method, workers, f"uniform:{seconds:g}s,0.5")
    note = f"manager {1e3 * told.manager:.3f} ms, proposer {1e3 * told.proposal:.3f} ms a trial"
    return Point("simulated", method, workers, seconds, 100 * told.steady, 100 * told.utilisation, told.evaluations,
                 told.evaluations / told.elapsed, told.elapsed, load, note)  # fmt: skip


class Kept:
    """The points so far, and the file that keeps them.

    Args:
        path: A JSON file; None: they are forgotten.
    """

    def __init__(self, path: str | None) -> None:
        self.path = Path(path) if path else None
        self.points: dict[tuple[str, str, int, float], Point] = {}
        if self.path and self.path.exists():
            for each in json.loads(self.path.read_text())["points"]:
                point = Point(**each)
                self.points[point.key] = point

    def take(self, key: tuple[str, str, int, float], make: Callable[[], Point]) -> None:
        """Make a point, unless it is there."""
        if key in self.points:
            return
        print(f"{key[0]}, {key[1]}, {key[2]} workers x {key[3]:g} s ...", file=sys.stderr, flush=True)
        self.points[key] = make()
        if self.path:
            about = {"machine": machine(), "date": time.strftime("%Y-%m-%d")}
            points = [asdict(point) for point in self.points.values()]
            self.path.write_text(json.dumps(about | {"points": points}, indent=1) + "\n")


def machine() -> str:
    """What this machine is."""
    return f"{len(os.sched_getaffinity(0))} cores, {platform.system()}, Python {platform.python_version()}"


def draw(points: Sequence[Point], path: Path) -> None:
    """Utilisation over workers: real, simulated, and what is published of DeepHyper."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(8, 4.5), constrained_layout=True)
    axes.plot(list(CENTRALISED), list(CENTRALISED.values()), color="grey", marker="x",
              label=f"DeepHyper, centralised ({SOURCE})")  # fmt: skip
    axes.fill_between(list(CENTRALISED), *DECENTRALISED, color="grey", alpha=0.3, linewidth=0,
                      label="DeepHyper, decentralised (the same)")  # fmt: skip
    curves: dict[tuple[str, str, float], list[tuple[int, float]]] = {}
    for point in points:  # a curve of real ranks has evaluations that grow with them
        seconds = 0.0 if point.kind == "real" else point.seconds
        curves.setdefault((point.kind, point.method, seconds), []).append((point.workers, point.steady))
    for (kind, method, seconds), pairs in sorted(curves.items()):
        if kind == "real":
            axes.plot(*zip(*sorted(pairs), strict=True), marker="o", label=f"{method}, real ranks")
        else:
            axes.plot(*zip(*sorted(pairs), strict=True), marker=".", linestyle="--",
                      label=f"{method}, simulated, {seconds:g} s")  # fmt: skip
    axes.set(xscale="log", xlabel="workers", ylabel="time in evaluations (%)", ylim=(0, 102))
    ticks = [1, 7, 31, 127, 640, 1920, 4096, 16384]
    axes.set_xticks(ticks, [str(tick) for tick in ticks])
    axes.minorticks_off()
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8, loc="lower left")
    figure.savefig(path, dpi=150)


def whole_numbers(text: str) -> list[int]:
    """``2,8,16``; an empty text is none."""
    return [int(word) for word in text.split(",") if word]


def main() -> int:
    """Measure what is not there yet, print, draw."""
    parser = argparse.ArgumentParser(description="How busy the workers stay (benchmarks/README.md).")
    usual = [",".join(map(str, numbers)) for numbers in (RANKS, WORKERS)]
    parser.add_argument("--ranks", type=whole_numbers, default=list(RANKS), metavar="N,...",
                        help=f"of the real runs, the manager included (default {usual[0]})")  # fmt: skip
    parser.add_argument("--workers", type=whole_numbers, default=list(WORKERS), metavar="N,...",
                        help=f"of the simulated runs (default {usual[1]})")  # fmt: skip
    parser.add_argument("--seconds", type=float, metavar="S",
                        help="mean evaluation of the real runs (default: what two cores carry)")  # fmt: skip
    parser.add_argument("--durations", type=lambda text: [float(word) for word in text.split(",")],
                        default=list(SECONDS), metavar="S,...", help="of the simulated runs (default 1)")  # fmt: skip
    parser.add_argument("--methods", type=lambda text: text.split(";"), default=["random", "ambs", "ts", "auto"],
                        metavar="A;B", help="default random;ambs;ts;auto")  # fmt: skip
    parser.add_argument("--launcher", type=shlex.split, default=list(MPIRUN), help="before `-n N python` (mpirun)")
    parser.add_argument("--json", metavar="FILE", help="keeps every point; those that it has are not measured again")
    parser.add_argument("--plot", metavar="FILE", help="draw all points")
    given = parser.parse_args()
    kept, missing = Kept(given.json), 0
    wanted: list[tuple[tuple[str, str, int, float], Callable[[], Point]]] = []
    for method in given.methods:
        for ranks in given.ranks:
            key = ("real", method, ranks - 1, given.seconds or affordable(ranks - 1))
            wanted.append((key, partial(real, *key[1:], given.launcher)))
        for seconds in given.durations:
            for workers in given.workers:
                key = ("simulated", method, workers, seconds)
                wanted.append((key, partial(simulated, *key[1:])))
    for key, make in wanted:
        try:
            kept.take(key, make)
        except Exception as error:  # one point that can't be had must not cost the others
            missing += 1
            print(f"{key}: {error!s:.2000}", file=sys.stderr)
    points = sorted(kept.points.values(), key=lambda point: point.key)
    print(f"{machine()}. steady: while there was work for all; whole: loading and the idle tail, too")
    print(table([HEADER, *(point.row() for point in points)]))
    shares = ", ".join(f"{workers}: {share:g} %" for workers, share in CENTRALISED.items())
    print(f"DeepHyper ({SOURCE}), centralised: {shares}; decentralised: {DECENTRALISED[0]:g} to {DECENTRALISED[1]:g} %")
    if given.plot:
        draw(points, Path(given.plot))
    return 1 if missing else 0


if __name__ == "__main__":
    sys.exit(main())
