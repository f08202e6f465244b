#!/usr/bin/env bash
#SBATCH --job-name=mpibo-scaling
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=8
#SBATCH --cpus-per-task=1
#SBATCH --time=01:00:00
#
# How busy the workers stay as they become more (benchmarks/scaling.py): runs of 2, 8, 16, 32, ... ranks, up to the tasks
# of this allocation, one after the other, beside the simulated curve.
#
#   sbatch [flags of sbatch] slurm/scaling.sh [flags of benchmarks/scaling.py]     from the repository, or set MPIBO_HOME
#
#   MPIBO_HOME     the repository (default: where sbatch was called)
#   MPIBO_PYTHON   the Python to run (default: .venv of the repository, else python3)
#   SLURM_MPI_TYPE how srun and the MPI library find each other (default pmi2: MPICH; Open MPI wants pmix)
#   MPIBO_SCRATCH  where the run folders lie for a while; all nodes must see it (default: where sbatch was called)
#
# The points are in scaling-JOBID.json there; a job that is submitted again with --json FILE goes on in that file.
set -eu

fail() {
    echo "mpibo: $1" >&2
    exit 2
}

[ -n "${SLURM_JOB_ID:-}" ] || fail "this is no Slurm job: start it by sbatch, or within salloc"
home=${MPIBO_HOME:-$SLURM_SUBMIT_DIR} # sbatch runs a copy of this file, so its own place says nothing
python=${MPIBO_PYTHON:-$home/.venv/bin/python}
[ -n "${MPIBO_PYTHON:-}" ] || [ -x "$python" ] || python=python3
"$python" -c 'import mpi4py, mpibo' || fail "$python has no mpibo: run scripts/run.sh once, or set MPIBO_PYTHON or MPIBO_HOME"
[ -f "$home/benchmarks/scaling.py" ] || fail "$home has no benchmarks/scaling.py: set MPIBO_HOME to the repository"

tasks=${SLURM_NTASKS:-$SLURM_NNODES}
[ "$tasks" -ge 2 ] || fail "a run needs at least two tasks, this allocation has $tasks: sbatch --ntasks 16 $0"
ranks=2
for count in 8 16 32 64 128 256 512 1024 2048 4096 "$tasks"; do
    [ "$count" -gt "$tasks" ] || [ "$count" -le "${ranks##*,}" ] || ranks=$ranks,$count
done

export TMPDIR=${MPIBO_SCRATCH:-$PWD}/scaling-$SLURM_JOB_ID
mkdir -p "$TMPDIR"
export SRUN_CPUS_PER_TASK=${SLURM_CPUS_PER_TASK:-1} # srun no longer takes it from sbatch
code=0
"$python" "$home/benchmarks/scaling.py" --ranks "$ranks" --json "scaling-$SLURM_JOB_ID.json" \
    --launcher "srun --mpi=${SLURM_MPI_TYPE:-pmi2} --no-kill --kill-on-bad-exit=0" "$@" || code=$?
rmdir --ignore-fail-on-non-empty "$TMPDIR"
exit "$code"
