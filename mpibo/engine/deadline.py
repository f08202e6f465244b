"""When the scheduler will end this allocation, as it says itself."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

from mpibo.settings import seconds

PATIENCE = 10.0  # seconds that squeue may take


def seconds_left(environ: Mapping[str, str] = os.environ) -> float | None:
    """Seconds until the scheduler ends this job; None where there is none, or no limit."""
    if "SLURM_JOB_ID" not in environ:
        return None
    end = environ.get("SLURM_JOB_END_TIME", "")  # not every Slurm sets it
    if end.isdigit():
        return max(0.0, int(end) - time.time())
    try:
        command = ["squeue", "--noheader", "--jobs", environ["SLURM_JOB_ID"], "--format", "%L"]
        told = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=True).stdout.strip()
        return seconds(_full(told))
    except (OSError, subprocess.SubprocessError, ValueError):
        return None  # no squeue here, or UNLIMITED, NOT_SET, INVALID


def noticed(path: Path) -> float | None:
    """Seconds until the date that a file holds, which whoever sends SIGUSR1 may write before; None where that is past.

    It is in ISO form, with its offset to UTC. No file, or no such date in it, is None too.
    """
    try:
        return until(path.read_text().strip()) or None
    except (OSError, ValueError, TypeError):
        return None


def until(date: str) -> float:
    """Seconds until a date in ISO form; 0 where it has passed."""
    return max(0.0, (datetime.fromisoformat(date) - datetime.now(UTC)).total_seconds())


def _full(told: str) -> str:
    """Slurm leaves out hours that are zero, and a first zero: ``3:07`` is ``00:03:07``."""
    return f"00:{told:0>5}" if told.count(":") == 1 else told
