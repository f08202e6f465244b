"""The environment: what a launcher left in it, and what a child of ours gets of it."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path

# With these inherited a child that imports MPI aborts (MPICH) or hangs (Open MPI).
LAUNCHER_PREFIXES = ("PMI_", "PMI2_", "PMIX_", "OMPI_", "PRTE_", "ORTE_", "HYDI_", "HYDRA_", "MPI_LOCAL", "MPIEXEC_",
                     "MPIR_", "MPICH_", "PALS_", "ALPS_", "I_MPI_", "MV2_")  # fmt: skip
# Of Slurm's variables only these: a user's script needs SLURM_JOB_ID, SLURM_TMPDIR, SLURM_CPUS_PER_TASK.
SLURM_NAMES = ("SLURM_PROCID", "SLURM_LOCALID", "SLURM_NODEID", "SLURM_NTASKS", "SLURM_NPROCS", "SLURM_TASK_PID",
               "SLURM_GTIDS", "SLURM_MPI_TYPE")  # fmt: skip
SLURM_PREFIXES = ("SLURM_STEP", "SLURM_PMI")

# How many ranks a launcher says it started, by the variable that says so.
SIZES = ("PMI_SIZE", "OMPI_COMM_WORLD_SIZE", "PALS_SIZE", "PALS_RANKS", "SLURM_STEP_NUM_TASKS")
RANKS = ("PMI_RANK", "OMPI_COMM_WORLD_RANK", "PALS_RANKID", "PMIX_RANK", "SLURM_PROCID")
THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


def announced_size(environ: Mapping[str, str] = os.environ) -> int | None:
    """How many ranks the launcher started, as it says itself; None when no launcher did.

    An ``sbatch`` script has no step, so a program that it starts directly is no rank.
    """
    sizes = [int(environ[name]) for name in SIZES if environ.get(name, "").isdigit()]
    return max(sizes) if sizes else None


def announced_rank(environ: Mapping[str, str] = os.environ) -> int:
    """The rank that the launcher gave this process; 0 without a launcher."""
    for name in RANKS:
        if environ.get(name, "").isdigit() and (name != "SLURM_PROCID" or "SLURM_STEP_NUM_TASKS" in environ):
            return int(environ[name])
    return 0


def short_addresses(environ: Mapping[str, str] = os.environ) -> dict[str, str]:
    """What MPICH must be told, before it starts, to find its ranks through Slurm's pmi2; nothing where it need not.

    With UCX, MPICH 5 hands over 4 KiB for an address of some hundred bytes: the rest is what memory has behind it.
    Where that has few zeros a line gets longer than the 1,024 characters that Slurm reads at once (`handle_pmi1_cmd`),
    and the ranks never find each other. With libfabric the whole is 66 characters. A user's own choice stands.
    """
    by_slurm = "SLURM_PROCID" in environ and "PMI_FD" in environ and "HYDI_CONTROL_FD" not in environ
    chosen = {"MPIR_CVAR_CH4_NETMOD", "MPI4PY_LIBMPI", "UCX_TLS", "UCX_NET_DEVICES"} & environ.keys()
    ours = any(metadata.distributions(name="mpich"))
    return {"MPIR_CVAR_CH4_NETMOD": "ofi"} if by_slurm and ours and not chosen else {}


def is_worker() -> bool:
    """Whether this process is a rank other than 0 of a job, as its launcher says; does not start MPI."""
    return announced_size() not in (None, 1) and announced_rank() > 0


def scheduler_job(environ: Mapping[str, str] = os.environ) -> str | None:
    """The scheduler's job that this process runs in, as ``slurm:123``."""
    return f"slurm:{environ['SLURM_JOB_ID']}" if environ.get("SLURM_JOB_ID") else None


def child_environment(threads: int | None = None, environ: Mapping[str, str] = os.environ) -> dict[str, str]:
    """The environment of a child: without the launcher's variables, with a number of threads where none is set.

    Args:
        threads: Threads of OpenMP, MKL and OpenBLAS, unless the user set one of them.
        environ: The environment to start from.
    """
    kept = {name: value for name, value in environ.items() if not _of_launcher(name)}
    kept |= thread_variables(threads, environ)
    # a child finds our package as this process did, whatever the working directory
    home = str(Path(__file__).resolve().parents[2])
    if home not in _site_folders():
        kept["PYTHONPATH"] = os.pathsep.join([home, *filter(None, [environ.get("PYTHONPATH")])])
    return kept


def thread_variables(threads: int | None, environ: Mapping[str, str] = os.environ) -> dict[str, str]:
    """The variables that give OpenMP, MKL and OpenBLAS so many threads; none where the user set one of them."""
    if threads is None or any(name in environ for name in THREADS):
        return {}
    return dict.fromkeys(THREADS, str(threads))


def fair_threads(sharing: int) -> int:
    """Threads for each of ``sharing`` processes that run on this process's cores, at least 1."""
    return max(1, len(os.sched_getaffinity(0)) // max(1, sharing))


def _site_folders() -> list[str]:
    return [path for path in sys.path if path.endswith(("site-packages", "dist-packages"))]


def _of_launcher(name: str) -> bool:
    if name == "OPAL_PREFIX":
        return False
    return name.startswith(LAUNCHER_PREFIXES) or name in SLURM_NAMES or name.startswith(SLURM_PREFIXES)
