"""Devices: the GPUs that a process sees, without loading a library that would start them."""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

CUDA, HIP, ROCR, LEVEL_ZERO = "CUDA_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES", "ZE_AFFINITY_MASK"
NONE = ("-1", "NoDevFiles", "none", "void")  # how a visible list says that it ends here


@dataclass(frozen=True)
class Gpus:
    """The GPUs that a process sees.

    Attributes:
        names: The variables that choose among them.
        ids: As the visible list has them (indices, UUIDs, MIG), never renumbered.
        own: No other rank has these: the scheduler gave each task its own, which may all be called 0.
    """

    names: tuple[str, ...] = (CUDA,)
    ids: tuple[str, ...] = ()
    own: bool = False


def visible(
    environ: Mapping[str, str] = os.environ, root: Path = Path("/"), listing: str | None = None
) -> Gpus:  # fmt: skip
    """The GPUs that this process sees: as the variables say, else as the system shows them.

    Args:
        environ: The environment.
        root: Where ``dev``, ``proc`` and ``sys`` are.
        listing: The output of ``nvidia-smi -L``; None: call it where it is needed.
    """
    for name in (CUDA, HIP, ROCR, LEVEL_ZERO):
        if (text := environ.get(name)) is not None:
            ids = _listed(text)
            twins = [other for other in (CUDA, HIP) if environ.get(other) == text]  # AMD reads both
            return Gpus(tuple(twins if name in (CUDA, HIP) else [name]), ids, own=_per_task(environ) == len(ids) > 0)
    nvidia = [path for path in root.glob("dev/nvidia*") if path.name.removeprefix("nvidia").isdigit()]
    in_parts = any(root.glob("proc/driver/nvidia/capabilities/gpu*/mig/gi*"))
    if in_parts or (not nvidia and (root / "dev/dxg").exists()):
        ids = _from_listing(_nvidia_smi() if listing is None else listing)
        if ids:
            return Gpus((CUDA,), ids)
    if nvidia:
        return Gpus((CUDA,), tuple(map(str, range(len(nvidia)))))
    amd = [path for path in root.glob("sys/class/kfd/kfd/topology/nodes/*/properties") if _computes(path)]
    return Gpus((HIP,), tuple(map(str, range(len(amd))))) if amd else Gpus()


def _listed(text: str) -> tuple[str, ...]:
    ids: dict[str, None] = {}
    for item in filter(None, map(str.strip, text.split(","))):
        if item in NONE:
            break
        ids[item] = None
    return tuple(ids)


def _per_task(environ: Mapping[str, str]) -> int | None:
    """GPUs that Slurm gave to each task of a step."""
    if "SLURM_STEP_NUM_TASKS" not in environ:
        return None
    gpus = re.search(r"(\d+)$", environ.get("SLURM_GPUS_PER_TASK", ""))
    found = gpus or re.search(r"gpu[^,]*?[:=](\d+)(?:,|$)", environ.get("SLURM_TRES_PER_TASK", ""))
    return int(found[1]) if found else None


def _nvidia_smi() -> str:
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        return subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, timeout=60).stdout
    return ""


def _from_listing(listing: str) -> tuple[str, ...]:
    """The UUIDs of ``nvidia-smi -L``; of a GPU in parts, those of its parts."""
    ids: list[str] = []
    whole = False
    for line in listing.splitlines():
        if found := re.search(r"UUID: ([\w/-]+)", line):
            if line.startswith("GPU"):
                whole = True
            elif whole:
                ids.pop()
                whole = False
            ids.append(found[1])
    return tuple(ids)


def _computes(properties: Path) -> bool:
    with contextlib.suppress(OSError):
        found = re.search(r"^simd_count (\d+)", properties.read_text(), re.MULTILINE)
        return found is not None and int(found[1]) > 0
    return False
