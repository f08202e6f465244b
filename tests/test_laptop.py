"""The commands of docs/laptop.md, smaller: a fresh machine's first one, then a search of one's own, start to end."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from test_docs import commands

import mpibo

ROOT = Path(__file__).resolve().parent.parent
BIN = Path(sys.executable).parent
LAUNCHED = {
    "OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
    "PRTE_MCA_rmaps_default_mapping_policy": ":oversubscribe", "OMPI_MCA_rmaps_base_oversubscribe": "1",
}  # fmt: skip
SEARCH = "mpirun -n 8 python -m mpibo.run tune.py:train --max-trials 200 --out runs/tune"
# An environment's Python: what pip is told is noted, all else is done.
PYTHON = """#!/bin/sh
[ "$2" != pip ] || { echo "$*" >>PIP; exit; }
exec REAL "$@"
"""

pytestmark = [pytest.mark.mpi, pytest.mark.slow, pytest.mark.timeout(400)]


def begin(line, folder, **more):
    environ = os.environ | LAUNCHED | {"PATH": f"{BIN}:{os.environ['PATH']}"} | more
    pipe = subprocess.PIPE
    return subprocess.Popen(["bash", "-c", line], cwd=folder, env=environ, stdout=pipe, stderr=pipe, text=True)


def bash(line, folder, **more):
    """Run a line of a shell; gives its exit code, and what it said on stdout and on stderr."""
    process = begin(line, folder, **more)
    said = process.communicate(timeout=120)
    return process.returncode, *said


@pytest.mark.torch
def test_the_first_command_makes_the_environment_once_and_runs_the_main_job(tmp_path):
    """``scripts/run.sh``, in a copy of the repository; pip's part is a stand-in (CI's own start does it in earnest)."""
    for name in ("scripts/run.sh", "scripts/environment.sh", "scripts/constraints.txt", "setup.cfg", "pyproject.toml"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes((ROOT / name).read_bytes())
    (tmp_path / ".venv/bin").mkdir(parents=True)
    python, mpirun = tmp_path / ".venv/bin/python", tmp_path / ".venv/bin/mpirun"
    python.write_text(PYTHON.replace("PIP", str(tmp_path / "pip")).replace("REAL", sys.executable))
    mpirun.write_text(f'#!/bin/sh\nexec "{BIN}/mpirun" "$@"\n')
    for each in (python, mpirun):
        each.chmod(0o755)
    there = {"PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]), "MPIBO_MPI": "mpich"}
    for flags, installs in [("--max-trials 2 --budget 1 --out run", True), ("--help", False)]:
        line = f"bash scripts/run.sh {flags}"
        code, _, told = bash(line, tmp_path, MPIBO_RANKS="3", MPIBO_TORCH="cpu", **there)
        assert code == 0 and ("minutes, but only once" in told) == installs, told
    result = mpibo.load(tmp_path / "run")
    assert len(result.trials) == 2 and 0 < result.best.value < 1
    assert len((tmp_path / "pip").read_text().splitlines()) == 1


def smaller(line):
    """The same command with less to do, and this environment in the place of ``.venv``."""
    line = line.replace(". .venv/bin/activate", f"[ ! -e {BIN}/activate ] || . {BIN}/activate; command -v mpibo mpirun")
    line = re.sub(r"-n \d+", "-n 3", line)
    fewer = {"200": "24", "300": "26", "50": "3", "100": "3", "1000": "20"}
    line = re.sub(r"--max-trials (\d+)", lambda found: f"--max-trials {fewer[found[1]]}", line)
    return line.replace("--workers 8,64", "--workers 2,4").replace("--workers 4", "--workers 2", 1)


def interrupt(line, folder):
    """Ctrl-C, when some trials have ended."""
    process = begin(f"exec {line}", folder)
    journal, until = folder / "runs/tune/journal.jsonl", time.monotonic() + 60
    while not (journal.exists() and journal.read_text().count('"kind": "end"') > 13):
        assert time.monotonic() < until and process.poll() is None
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    said = process.communicate(timeout=60)
    assert process.returncode in (130, 1), said  # 1: Open MPI's mpirun
    assert 13 < len(mpibo.load(folder / "runs/tune").trials) < 24


def test_the_commands_of_the_page_in_their_order(tmp_path):
    """The search is broken off by Ctrl-C where the page has it first, and goes on; the files are from the pages."""
    page, readme = (ROOT / "docs/laptop.md").read_text(), (ROOT / "README.md").read_text()
    (tmp_path / "tune.py").write_text(re.search(r"```python\n(.*?)```", page, re.DOTALL)[1])
    (tmp_path / "space.toml").write_text(re.search(r"```toml\n(.*?)```", readme, re.DOTALL)[1])
    (tmp_path / "train.sh").write_text("#!/bin/sh\necho $2\n")
    (tmp_path / "train.sh").chmod(0o755)
    said = {}
    for line in commands("laptop.md"):
        if line.startswith("scripts/"):
            continue
        if line == SEARCH and line not in said:
            interrupt(smaller(line), tmp_path)
            said[line] = ""
            continue
        code, out, told = bash(smaller(line), tmp_path)
        assert code == 0, f"{line}\n{out}{told}"
        said[line] = out
    assert "layers" in said["mpibo check tune.py:train"] and "epoch 0" in said["mpibo log runs/tune 12"]
    assert said["mpibo replay runs/tune"].startswith("identical")
    assert len({str(trial.config) for trial in mpibo.load(tmp_path / "runs/tune").trials}) == 26
    second = mpibo.load(tmp_path / "runs/second").trials
    assert len([trial for trial in second if trial.origin == "added"]) == 26 and len(second) == 29
