"""Architecture search on MNIST and FashionMNIST by 7 workers: ``evolution``, ``auto``, and ``auto`` with ASHA.

    python benchmarks/architectures.py [--data mnist,fashion] [--arms evolution,auto,asha]   runs what is not finished
    python benchmarks/architectures.py --further 3 [--data mnist]                            trains the best further

The arms have as many configs, the same number of epochs at most and the same images; each goes on in its folder when
this is started again. The table has the best by validation error at the largest budget: its errors and its weights.
``--further`` takes the best architecture of all arms of a data set, trains it anew on 55,000 images for so many epochs,
and draws it (examples/best_architecture.py).
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
from pathlib import Path

from overhead import table
from runs import HERE
from training_runs import End, Told, cpu, finished, told

CONFIGS, EPOCHS, TRAIN_SIZE, ALL = 48, 3, 5_000, 55_000
AUTO = "auto:n_initial=16"  # by itself its design has two configs a parameter: more than there are
HEADER = ("", "configs", "epochs", "validation", "test", "weights", "median config", "wall", "CPU", "busy")


def flags(arm: str, epochs: int) -> list[str]:
    """The words of an arm: ``asha`` is ``auto`` with that schedule, the others train each config fully."""
    if arm == "asha":
        return ["--method", AUTO, "--schedule", "asha:eta=3", "--budget", f"1:{epochs}"]
    return ["--method", AUTO if arm == "auto" else arm, "--budget", str(epochs)]


def row(arm: str, run: Told, used: str) -> tuple[str, ...]:
    """A run's line of the table; the median is of the configs that were trained fully."""
    best = run.returned()
    middle = statistics.median(end.value for end in run.ends if end.budget == best.budget)
    errors = f"{best.value:.2%}", "" if best.test_error is None else f"{best.test_error:.2%}"
    return (arm, str(run.configs), str(sum(end.epochs for end in run.ends)), *errors, f"{best.parameters or 0:,}",
            f"{middle:.2%}", f"{run.wall:.0f} s", used, f"{run.busy:.1%}")  # fmt: skip


def further(data: str, best: tuple[Path, End], given: argparse.Namespace) -> None:
    """Train the best architecture on all images, in a run of one trial, and draw it."""
    import mpibo

    run, end = best
    folder = Path(given.out) / f"{data}-further-{given.seed}"
    folder.parent.mkdir(parents=True, exist_ok=True)
    start = folder.with_suffix(".json")
    start.write_text(json.dumps([mpibo.load(run).trials[end.id].config]) + "\n")
    words = [f"{data}-architecture", "--fix", f"train_size={ALL}", "--budget", str(given.further), "--max-trials", "1"]
    events = finished(folder, [*words, "--start", str(start), "--checkpoint-every", "1s"], ranks=2)
    alone = told(events, workers=1)
    print(table([HEADER, row(f"trial {end.id} of {run.name}", alone, cpu(folder, alone))]))
    example = Path(HERE).parent.parent / "examples" / "best_architecture.py"
    subprocess.run([sys.executable, str(example), str(folder)], check=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", default="runs/architectures", help="folder of the runs")
    parser.add_argument("--data", default="mnist,fashion")
    parser.add_argument("--arms", default="evolution,auto,asha", help="methods, or asha (default all)")
    parser.add_argument("--configs", type=int, default=CONFIGS)
    parser.add_argument("--epochs", type=int, default=EPOCHS, help="of each config, at most (default 3)")
    parser.add_argument("--train-size", type=int, default=TRAIN_SIZE)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--further", type=int, metavar="EPOCHS", help="train the best one so long on all images")
    given = parser.parse_args()
    for data in given.data.split(","):
        runs: dict[Path, Told] = {}
        rows = []
        for arm in given.arms.split(","):
            folder = Path(given.out) / f"{data}-{arm}-{given.seed}"
            words = [f"{data}-architecture", "--fix", f"train_size={given.train_size}", *flags(arm, given.epochs)]
            words += ["--max-trials", str(given.configs), "--seed", str(given.seed)]
            runs[folder] = told(finished(folder, words))
            rows.append(row(arm, runs[folder], cpu(folder, runs[folder])))
        print(f"\n{data}\n\n{table([HEADER, *rows])}", flush=True)
        if given.further:
            ends = [(folder, run.returned()) for folder, run in runs.items()]
            further(data, min(ends, key=lambda each: each[1].value), given)


if __name__ == "__main__":
    main()
