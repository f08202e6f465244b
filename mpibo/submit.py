"""``mpibo submit``: write the batch script of a search, and give it to Slurm."""

from __future__ import annotations

import argparse
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from mpibo.cli import Parser, describe, settings_of, split_command
from mpibo.cli import parser as run_parser
from mpibo.objectives import datasets
from mpibo.settings import seconds

FUNCTIONS = Path(__file__).with_name("job.sh")
PATIENCE = 60.0  # seconds that sbatch may take
# What goes to sbatch as it is: our flag, and its help. The names are sbatch's own.
SHAPE = {
    "nodes": "nodes (default 1)",
    "ntasks-per-node": "ranks on each node; one rank of all is the manager (default 8)",
    "cpus-per-task": "cores of each rank (default 1)",
    "gpus-per-node": "GPUs of each node, shared by its ranks",
    "gpus-per-task": "GPUs of each rank, bound by Slurm",
    "mem": "memory of each node, as in 64G",
    "account": "who pays",
    "partition": "where",
    "qos": "quality of service",
    "constraint": "features that the nodes must have",
    "job-name": "name of the job (default: the objective's)",
    "output": "file of the job's output (default: slurm-JOBID.out)",
}
COUNTS = ("nodes", "ntasks-per-node", "cpus-per-task")
DEFAULTS = {"nodes": "1", "ntasks-per-node": "8", "cpus-per-task": "1"}
EXAMPLES = """examples:
  mpibo submit tune.py:train --max-trials 500 --nodes 4 --time 8h --account ab12
  mpibo submit mnist --nodes 2 --ntasks-per-node 4 --gpus-per-node 4 --time 2h --dry-run
  mpibo submit --space space.toml --max-trials 50 --time 1h -- ./train.sh --lr '{lr}'

All other flags are those of mpibo run. The job goes on by itself in further allocations until the search is done.
"""


def parser() -> Parser:
    """The flags that are not those of ``mpibo run``."""
    made = Parser(
        prog="mpibo submit", allow_abbrev=False, epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter,
        usage="mpibo submit [OBJECTIVE] [flags of mpibo run] --time TIME [flags] [-- COMMAND ...]",
        description="Write a batch script that searches over all ranks of a Slurm job, and submit it.",
    )  # fmt: skip
    for name, text in SHAPE.items():
        made.add_argument(f"--{name}", metavar="N" if name in COUNTS else name.split("-")[0].upper(), help=text)
    made.add_argument("--time", metavar="TIME", help="length of an allocation (30m 2h 1d, [D-]HH:MM:SS); required")
    made.add_argument("--notice", metavar="TIME", default="2m", help="so long before its end trials are saved (2m)")
    made.add_argument("--sbatch", metavar="FLAGS", action="append", default=[], help="further flags of sbatch")
    made.add_argument("--launch", choices=("srun", "mpirun"), default="srun", help="what starts the ranks (srun)")
    made.add_argument("--mpi", metavar="TYPE", default="pmi2", help="srun --mpi=TYPE (pmi2; Open MPI wants pmix)")
    made.add_argument("--setup", metavar="FILE", help="shell commands to run first: module load, export")
    made.add_argument("--script", metavar="FILE", help="where to write the script (default: runs/NAME-DATE-TIME.sh)")
    made.add_argument("--dry-run", action="store_true", help="print the script; submit nothing")
    return made


def submit(argv: Sequence[str]) -> int:
    """Write and submit a script.

    Raises:
        ValueError: Bad input, data that are missing, or sbatch refuses it; one line.
    """
    argv, command = split_command(argv)
    given, rest = parser().parse_known_args(argv)
    name, lack = _search_of(rest, command)
    if lack and not given.dry_run and not given.setup:  # which may set MPIBO_DATA, for the nodes
        raise ValueError(lack)
    if lack:
        print(f"mpibo: {lack}", file=sys.stderr)
    text = script(vars(given), [*rest, *(["--", *command] if command else [])], name)
    if given.dry_run:
        print(text, end="")
        return 0
    path = Path(given.script or f"runs/{name}-{datetime.now():%Y%m%d-%H%M%S}.sh")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        path.chmod(0o755)
    except OSError as error:
        raise ValueError(f"can't write {path}: {error.strerror}") from error
    print(f"{_sbatch(path)}: {path}")
    return 0


def script(shape: Mapping[str, Any], arguments: Sequence[str], name: str) -> str:
    """The batch script.

    Args:
        shape: Values of the flags in ``parser``.
        arguments: Of ``mpibo run``.
        name: The objective's.

    Raises:
        ValueError: A value that Slurm could not take.
    """
    told = {flag: shape.get(flag.replace("-", "_")) for flag in SHAPE}
    told = {"job-name": told.pop("job-name") or name} | {
        flag: value or DEFAULTS.get(flag) for flag, value in told.items()
    }
    for flag, value in told.items():
        if flag in COUNTS and not re.fullmatch(r"[1-9]\d*", value or ""):
            raise ValueError(f"--{flag}: expected a whole number of at least 1, got {value!r}")
        if value is not None and not re.fullmatch(r"[^\s'\"]+", value):
            raise ValueError(f"--{flag}: expected text without blanks and quotes, got {value!r}")
    length, notice = _time("time", shape["time"]), _time("notice", shape["notice"])
    if notice >= length:
        raise ValueError(f"--notice ({shape['notice']}) must be shorter than --time ({shape['time']})")
    if not re.fullmatch(r"\w+", shape["mpi"]):
        raise ValueError(f"--mpi: expected a type that srun --mpi=list names, got {shape['mpi']!r}")
    flags = [f"--{flag}={value}" for flag, value in told.items() if value is not None]
    flags += [f"--time={_slurm_time(length)}", f"--signal=B:USR1@{notice}", "--requeue", "--no-kill"]
    flags += ["--open-mode=append", *shape["sbatch"]]
    setup = shape["setup"]
    if setup and not Path(setup).is_file():
        raise ValueError(f"--setup: there is no file {setup}")
    variables = {
        "MPIBO_PYTHON": sys.executable,
        "MPIBO_SETUP": str(Path(setup).absolute()) if setup else "",
        "MPIBO_LAUNCH": shape["launch"],
        "SLURM_MPI_TYPE": shape["mpi"],
    }
    lines = ["#!/usr/bin/env bash", *(f"#SBATCH {flag}" for flag in flags)]
    lines += [
        "# A search over all ranks of this job, made by `mpibo submit`. The variables win where they are set.",
        "set -eu",
    ]
    lines += [f'export {key}="${{{key}:-{_quoted(value)}}}"' for key, value in variables.items()]
    functions = FUNCTIONS.read_text().replace("# shellcheck shell=bash\n", "")
    end = f"find_python mpi4py,mpibo\nfind_launcher\nsearch {shlex.join(arguments)}".rstrip()
    return "\n".join(lines) + f"\n\n{functions}\n{end}\n"


def _search_of(rest: Sequence[str], command: Sequence[str] | None) -> tuple[str, str]:
    """Hold the arguments of ``mpibo run`` against what it takes, here and not after hours in the queue.

    Returns:
        The objective's name, and what it lacks of data here, if anything.
    """
    given = run_parser("mpibo submit").parse_args(rest)
    name, _, builtin = describe(given.objective, command)
    settings = settings_of(given)
    if not builtin and settings.max_trials is None and settings.walltime is None and settings.target is None:
        raise ValueError("when is the search to end? give --max-trials, --walltime or --target")
    if settings.deadline is not None:
        raise ValueError("--deadline is not for a job: Slurm knows the end of each allocation")
    if settings.space and not os.path.exists(settings.space):
        raise ValueError(f"there is no file {settings.space}")
    lack = datasets.lack(given.objective or "digits", settings.fix) if builtin else ""
    return re.sub(r"[^\w.-]+", "-", name), lack


def _time(flag: str, text: str | None) -> int:
    if text is None:
        raise ValueError(f"give --{flag}: the length of an allocation, as in 2h or 02:00:00")
    if re.fullmatch(r"\d+", text):
        raise ValueError(f"--{flag}: {text} of what? say {text}m (minutes, as for sbatch) or {text}s")
    try:
        return max(1, round(seconds(text)))
    except ValueError as error:
        raise ValueError(f"--{flag}: {error}") from None


def _slurm_time(length: int) -> str:
    minutes, rest = divmod(length, 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    return f"{days}-{hours:02}:{minutes:02}:{rest:02}"


def _quoted(text: str) -> str:
    """Within double quotes of a shell."""
    return re.sub(r'([\\"$`}])', r"\\\1", text)


def _sbatch(path: Path) -> str:
    try:
        done = subprocess.run(["sbatch", str(path)], capture_output=True, text=True, timeout=PATIENCE)
    except FileNotFoundError:
        raise ValueError(f"there is no sbatch here; on the cluster: sbatch {path}") from None
    except subprocess.TimeoutExpired:
        raise ValueError(f"sbatch has not answered within {PATIENCE:.0f} s; try: sbatch {path}") from None
    if done.returncode:
        raise ValueError(f"sbatch refused {path}: {done.stderr.strip() or f'code {done.returncode}'}")
    return done.stdout.strip()
