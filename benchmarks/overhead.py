"""What the engine itself costs: start-up, idle workers, round trips, memory, imports, the space, an answer of a model.

    python benchmarks/overhead.py [--quick] [--only NAME,...] [--json FILE]

Nothing is asserted: each figure is printed beside its target. The exit code is 1 if something could not be measured.
README.md says what each figure means. Standard library, NumPy and mpibo alone.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import statistics
import subprocess
import sys
import time
import traceback
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from rivals import rival, summary
from runs import WORKERS, Run, busy, manager_cpu, memory_of, run, text

METHODS = ("random", "ambs", "ts", "auto")
THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


@dataclass
class Figure:
    """One measured figure: its samples, and the limit that it is held against (``at_least`` or at most)."""

    name: str
    samples: list[float]
    unit: str
    limit: float | None = None
    at_least: bool = False
    note: str = ""
    load: float = field(default_factory=lambda: os.getloadavg()[0])

    @property
    def met(self) -> bool | None:
        """Whether the median is within the limit; None without one."""
        if self.limit is None:
            return None
        middle = statistics.median(self.samples)
        return middle >= self.limit if self.at_least else middle <= self.limit

    def row(self) -> tuple[str, ...]:
        """Name, median, range, target, verdict, load, note."""
        middle = statistics.median(self.samples)
        several = len(self.samples) > 1
        spread = f"{number(min(self.samples))} to {number(max(self.samples))}" if several else ""
        target, verdict = "", ""
        if self.limit is not None:
            target = f"{'>=' if self.at_least else '<'} {number(self.limit)}"
            verdict = f"{'met' if self.met else 'MISSED'} ({middle / self.limit:.2f} of it)"
        return self.name, f"{number(middle)} {self.unit}", spread, target, verdict, f"{self.load:.1f}", self.note


HEADER = ("figure", "median", "min to max", "target", "", "load", "")


def number(value: float) -> str:
    """Three significant digits, without an exponent."""
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"


def table(rows: list[tuple[str, ...]]) -> str:
    """Aligned columns."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = ("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in rows)
    return "\n".join(line.rstrip() for line in lines)


def start_up(quick: bool) -> Iterator[Figure]:
    """Launch to the first evaluation, and to that of the last worker; beside it the launch of a bare mpi4py program."""
    run("nap", "--fix", "seconds=0.01", "--max-trials", str(WORKERS))  # fills the caches of files and bytecode
    load = os.getloadavg()[0]
    first, every, leave, floor, spent = [], [], [], [], []
    for _ in range(3 if quick else 9):
        made = run("nap", "--max-trials", str(2 * WORKERS))
        first.append(min(made.stamps) - made.launched)
        every.append(max(made.stamps) - made.launched)
        leave.append(made.gone - made.opened - made.of("end")[-1]["t"])
        spent.append(made.cpu)
        floor.append(rival("bare", "none", 0, 100)["started"])
    yield Figure("start-up: launch to first evaluation", first, "s", 2.0, load=load)
    yield Figure("start-up: launch to every worker's first", every, "s", load=load)
    yield Figure("start-up: bare mpi4py, to first message", floor, "s", load=load, note="the floor")
    yield Figure("last result to mpirun's exit", leave, "s", load=load, note="the views are written")
    yield Figure("CPU of such a run, all processes", spent, "s", load=load, note=f"{2 * WORKERS} trials that sleep")


def utilisation(quick: bool) -> Iterator[Figure]:
    """Share of their time that seven workers spend in the objective."""
    limits = {1.0: 98.0, 0.1: 90.0}
    for seconds, each in (1.0, 20 if quick else 40), (0.1, 100 if quick else 150):
        for method in METHODS:
            load = os.getloadavg()[0]
            shares = []
            for seed in range(1 if quick else 3):
                made = run("nap", "--fix", f"seconds={seconds}", "--method", method, "--seed", str(seed),
                           "--max-trials", str(each * WORKERS))  # fmt: skip
                shares.append(busy(made))
            name, limit = f"utilisation {WORKERS} x {seconds:g} s, {method}", limits[seconds]
            between, p99, longest, begin = (
                number(statistics.median(share[which] for share in shares))
                for which in ("between", "p99", "longest", "begin")
            )
            repeated = sum(int(share["repeated"]) for share in shares)
            note = f"{between} ms between trials (99th percentile {p99}, longest {longest}); {repeated} duplicates"
            yield Figure(name, [share["steady"] for share in shares], "%", limit, True, note, load)
            note = f"{begin} ms from a worker's first start line to its objective"
            whole = [share["whole"] for share in shares]
            yield Figure(f"{name}, start and tail too", whole, "%", limit, True, note, load)


def round_trips(quick: bool) -> Iterator[Figure]:
    """Trials a second of an objective that returns at once, and messages a second of a bare manager and workers."""
    load = os.getloadavg()[0]
    floor = [rival("bare", "none", 0, 10_000)["trips"] for _ in range(1 if quick else 3)]
    note = "messages as long as ours, Iprobe with back-off; the ceiling"
    yield Figure("round trips, bare mpi4py", floor, "/s", load=load, note=note)
    for isolation in ("none", "process"):
        rates, costs, repeated = [], [], 0
        load = os.getloadavg()[0]
        for seed in range(1 if quick else 3):
            made = run("at_once", "--method", "random", "--isolation", isolation, "--seed", str(seed), "--max-trials",
                       "2000" if quick else "10000", look=manager_cpu, every=0.2)  # fmt: skip
            rates.append(rate(made))
            costs.append(manager_cost(made))
            repeated += int(busy(made)["repeated"])
        share = statistics.median(rates) / statistics.median(floor)
        cost = 1e3 * statistics.median(costs)
        note = f"{share:.2f} of bare; {cost:.2f} ms CPU of rank 0 a trial; {repeated} duplicates"
        yield Figure(f"trials a second, isolation {isolation}", rates, "/s", load=load, note=note)


def against(quick: bool) -> Iterator[Figure]:
    """The same tasks by a bare mpi4py loop, by ``MPIPoolExecutor`` and by us: tasks a second, and their ratios."""
    for kind, seconds, each in ("sleep", 0.1, 100), ("sleep", 0.01, 300), ("spin", 0.02, 50):
        load = os.getloadavg()[0]
        told: dict[str, list[dict[str, float]]] = defaultdict(list)
        tasks = WORKERS * (each // 3 if quick else each)
        for seed in range(1 if quick else 3):
            for name in ("bare", "pool"):
                told[name].append(rival(name, kind, seconds, tasks))
            made = run({"sleep": "nap"}.get(kind, kind), "--fix", f"seconds={seconds}", "--method", "random", "--seed",
                       str(seed), "--max-trials", str(tasks))  # fmt: skip
            told["ours"].append(summary(spans_of(made), 0.0, 0.0, 0.0))
        for name, who in {"bare": "bare mpi4py", "pool": "MPIPoolExecutor", "ours": "random search"}.items():
            middle = {which: statistics.median(each[which] for each in told[name]) for which in ("busy", "between")}
            note = f"{number(middle['busy'])} % of the workers' time, {number(middle['between'])} ms between tasks"
            rates = [each["rate"] for each in told[name]]
            yield Figure(f"{kind} {seconds:g} s, {who}", rates, "/s", load=load, note=note)
        for name, who in {"bare": "bare mpi4py", "pool": "MPIPoolExecutor"}.items():
            ratios = [ours["rate"] / other["rate"] for ours, other in zip(told["ours"], told[name], strict=True)]
            yield Figure(f"{kind} {seconds:g} s, ours / {who}", ratios, "", load=load)


def spans_of(made: Run) -> list[tuple[int, float, float]]:
    """Worker, begin and end of each evaluation, from the journal."""
    workers = {event["id"]: event["worker"] for event in made.of("start")}
    return [(workers[end["id"]], end["t"] - end["duration"], end["t"]) for end in made.of("end")]


def message_rate(quick: bool) -> Iterator[Figure]:
    """Our transport alone against the bare loop, and what the manager takes besides."""
    load = os.getloadavg()[0]
    told: dict[str, list[dict[str, float]]] = defaultdict(list)
    whole = []
    for seed in range(1 if quick else 5):
        for name in ("bare", "dicts", "transport"):
            told[name].append(rival(name, "none", 0, 5_000 if quick else 20_000))
        made = run("at_once", "--method", "random", "--isolation", "none", "--seed", str(seed), "--max-trials",
                   "2000" if quick else "5000", look=manager_cpu, every=0.2)  # fmt: skip
        whole.append(manager_cost(made))
    names = {"bare": "bare mpi4py, bytes", "dicts": "bare mpi4py, JSON", "transport": "our transport alone"}
    for name, who in names.items():
        cost = 1e3 * statistics.median(each["cpu"] for each in told[name])
        rates = [each["trips"] for each in told[name]]
        yield Figure(f"round trips a second, {who}", rates, "/s", load=load, note=f"{cost:.3f} ms CPU of rank 0 each")
    for name in ("bare", "dicts"):
        pairs = list(zip(told["transport"], told[name], strict=True))
        ratios = [ours["trips"] / other["trips"] for ours, other in pairs]
        yield Figure(f"message rate, ours / {names[name]}", ratios, "", 0.8, True, load=load)
        ratios = [other["cpu"] / ours["cpu"] for ours, other in pairs]
        yield Figure(f"CPU of rank 0 a message, {names[name]} / ours", ratios, "", load=load)
    besides = [1e3 * (cost - each["cpu"]) for cost, each in zip(whole, told["transport"], strict=True)]
    note = f"whole: {1e3 * statistics.median(whole):.3f} ms, waiting included"
    yield Figure("CPU of rank 0 a trial, besides the transport's", besides, "ms", 0.15, load=load, note=note)


def rate(made: Run) -> float:
    """Ends a second, without the first tenth."""
    times: list[float] = [event["t"] for event in made.of("end")]
    skip = len(times) // 10
    return (len(times) - skip - 1) / (times[-1] - times[skip])


def manager_cost(made: Run) -> float:
    """CPU seconds of rank 0 for each trial, between the first and the last look at it while trials ended."""
    opened = made.opened
    times = [opened + event["t"] for event in made.of("end")]
    looks = [look for look in made.seen if look and times[0] <= look[0] <= times[-1]]
    ended = sum(looks[0][0] < each <= looks[-1][0] for each in times) if len(looks) > 1 else 0
    return (looks[-1][1] - looks[0][1]) / ended if ended else math.nan


def memory(quick: bool) -> Iterator[Figure]:
    """The most that each kind of process takes while ambs runs."""
    load = os.getloadavg()[0]
    made = run("nap", "--fix", "seconds=0.2", "--method", "ambs", "--max-trials", str((20 if quick else 100) * WORKERS),
               look=memory_of)  # fmt: skip
    most: dict[str, dict[int, dict[str, float]]] = defaultdict(dict)
    for look in made.seen:
        for role, pid, kinds in look:
            before = most[role].get(pid, {})
            most[role][pid] = {kind: max(size, before.get(kind, 0.0)) for kind, size in kinds.items()}
    limits = {"manager": 80.0, "worker": 60.0}
    for role in ("manager", "worker", "proposer", "scribe", "sandbox"):
        if not most[role]:
            raise RuntimeError(f"no process of the kind {role} was seen")
        several = most[role].values()
        own, fair = (statistics.median(each[kind] for each in several) for kind in ("uss", "pss"))
        what = f"{role} rank" if role in limits else f"{role} (child)"
        yield Figure(f"memory: {what}, resident", [each["rss"] for each in several], "MB", limits.get(role), load=load,
                     note=f"its own {own:.1f} MB, with its part of what is shared {fair:.1f} MB")  # fmt: skip


def cpu_of(command: list[str]) -> float:
    """CPU seconds of a command, its start included."""
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise RuntimeError(f"{' '.join(command)} ended with code {process.returncode}")
    return usage.ru_utime + usage.ru_stime


def importing(quick: bool) -> Iterator[Figure]:
    """CPU of ``import mpibo`` beyond a bare interpreter's, and of what the ranks import, mpi4py apart."""
    modules = {"import mpibo": ("mpibo", 0.2), "import by a worker's rank": ("mpibo.engine.mpi", None),
               "import by rank 0": ("mpibo.cli", None)}  # fmt: skip
    load = os.getloadavg()[0]
    for name, (module, limit) in modules.items():
        with_it, without = [sys.executable, "-c", f"import {module}"], [sys.executable, "-c", "pass"]
        cpu_of(with_it)
        spent = [cpu_of(with_it) - cpu_of(without) for _ in range(5 if quick else 15)]
        yield Figure(f"{name}, CPU", [max(0.0, each) for each in spent], "s", limit, load=load)


def wide_space() -> Any:
    """Ten parameters of all kinds, four of them conditional, one condition below another."""
    from mpibo import Choice, Float, Int, Space

    return Space({
        "model": ["tree", "network", "linear"], "rate": (1e-5, 1e-1, "log"), "batch": Int(16, 256, step=16),
        "layers": Int(1, 6, when="model == 'network'"), "optimizer": Choice(["adam", "sgd"], when="model == 'network'"),
        "momentum": Float(0.0, 0.99, when="optimizer == 'sgd'"), "depth": Int(1, 20, when="model == 'tree'"),
        "decay": (0.0, 0.1), "size": Choice([8, 16, 32, 64], ordered=True), "scaled": [True, False],
    })  # fmt: skip


def space_speed(quick: bool) -> Iterator[Figure]:
    """10,000 configs sampled, encoded, decoded."""
    import numpy as np

    wide = wide_space()
    load = os.getloadavg()[0]
    spent: dict[str, list[float]] = defaultdict(list)
    for seed in range(5 if quick else 15):
        X = timed(spent["sample"], wide.sample, 10_000, np.random.default_rng(seed))
        configs = timed(spent["decode"], wide.decode, X)
        timed(spent["encode"], wide.encode, configs)
    for what in ("sample", "encode", "decode"):
        yield Figure(f"space: {what} 10,000 configs of 10 parameters, CPU", spent[what], "s", 0.1, load=load)


def ambs(quick: bool) -> Iterator[Figure]:
    """One ask for 128 proposals with 1,000 results, and the next one while these 128 run. Both include the fit."""
    import numpy as np

    import mpibo

    wide = wide_space()
    load = os.getloadavg()[0]
    warm = mpibo.Search(wide, "ambs")  # what follows the first model in this process does not load its libraries
    tell(warm, 30, np.random.default_rng(0))
    first: list[float] = []
    timed(first, warm.ask)
    spent: dict[str, list[float]] = {"cold": [], "128 running": []}
    distinct = 128
    for seed in range(3 if quick else 9):
        search = mpibo.Search(wide, "ambs", seed=seed, workers=128)
        told = tell(search, 1000, np.random.default_rng(seed))
        for times in spent.values():
            new = {text(trial.config) for trial in timed(times, search.ask, 128)} - told
            distinct = min(distinct, len(new))
            told |= new
    note = f"{distinct} new and distinct"
    yield Figure("ambs: 128 proposals, 1,000 results, CPU", spent["cold"], "s", 1.0, load=load, note=note)
    yield Figure("ambs: the next 128 while these run, CPU", spent["128 running"], "s", 1.0, load=load, note=note)
    yield Figure("ambs: first model of a process, CPU", first, "s", load=load, note="30 results; loads scikit-learn")


def tell(search: Any, n: int, rng: Any) -> set[str]:
    """Add ``n`` results to a search over the wide space; gives the configs as text."""
    for config in search.space.decode(search.space.sample(n, rng)):
        search.add(config, abs(math.log10(config["rate"]) + 3) + config.get("momentum", 1.0) + rng.random())
    return {text(trial.config) for trial in search.trials}


def timed(into: list[float], call: Callable[..., Any], *arguments: Any) -> Any:
    """What a call gives; its CPU seconds go into a list."""
    began = time.process_time()
    given = call(*arguments)
    into.append(time.process_time() - began)
    return given


MEASURES: dict[str, Callable[[bool], Iterator[Figure]]] = {
    "import": importing, "space": space_speed, "ambs": ambs, "start-up": start_up, "memory": memory,
    "round-trips": round_trips, "messages": message_rate, "rivals": against, "utilisation": utilisation,
}  # fmt: skip


def chosen(text: str) -> list[str]:
    """The names in ``--only``."""
    names = text.split(",")
    for name in names:
        if name not in MEASURES:
            raise argparse.ArgumentTypeError(f"expected some of {', '.join(MEASURES)}, got {name!r}")
    return names


def main() -> int:
    """Measure, print, keep."""
    parser = argparse.ArgumentParser(description="What the engine itself costs (benchmarks/README.md).")
    parser.add_argument("--quick", action="store_true", help="fewer and shorter runs: 3 minutes instead of 14")
    parser.add_argument("--only", type=chosen, default=list(MEASURES), metavar="NAME,...", help=", ".join(MEASURES))
    parser.add_argument("--json", metavar="FILE", help="keep every sample")
    given = parser.parse_args()
    os.environ.update({name: "1" for name in THREADS if name not in os.environ})  # as the proposer has it
    cores = len(os.sched_getaffinity(0))
    machine = f"{cores} cores, {platform.system()} {platform.release()}, Python {platform.python_version()}"
    print(f"{machine}. load: processes that want a core as a measurement begins (1 minute's average)", flush=True)
    figures: list[Figure] = []
    missing: dict[str, str] = {}
    for name in given.only:
        print(f"measuring {name} ...", file=sys.stderr, flush=True)
        try:
            figures += MEASURES[name](given.quick)
        except Exception:  # one figure that can't be had must not cost the others
            missing[name] = traceback.format_exc()
    print(table([HEADER, *(figure.row() for figure in figures)]))
    for name, why in missing.items():
        print(f"\n{name} could not be measured:\n{why}")
    if given.json:
        kept = [asdict(figure) | {"met": figure.met} for figure in figures]
        document = {"machine": machine, "quick": given.quick, "figures": kept, "not_measured": missing}
        Path(given.json).write_text(json.dumps(document, indent=1) + "\n")
    return 1 if missing else 0


if __name__ == "__main__":
    sys.exit(main())
