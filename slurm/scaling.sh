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
#   MPIBO_HOME     the repository (default: where sbatch was called); mpibo/job.sh there names the other variables
#   MPIBO_SCRATCH  where the run folders lie for a while; all nodes must see it (default: where sbatch was called)
#
# The points are in scaling-JOBID.json there; a job that is submitted again with --json FILE goes on in that file.
set -eu

home=${MPIBO_HOME:-${SLURM_SUBMIT_DIR:-.}} # sbatch runs a copy of this file, so its own place says nothing
[ -f "$home/benchmarks/scaling.py" ] || {
    echo "mpibo: there is no $home/benchmarks/scaling.py: call sbatch in the repository, or set MPIBO_HOME" >&2
    exit 2
}
# shellcheck source=mpibo/job.sh
. "$home/mpibo/job.sh"
find_python mpi4py,mpibo
find_launcher

tasks=${SLURM_NTASKS:-$SLURM_NNODES}
[ "$tasks" -ge 2 ] || fail "a run needs at least two tasks, this allocation has $tasks: sbatch --ntasks 16 $0"
ranks=2
for count in 8 16 32 64 128 256 512 1024 2048 4096 "$tasks"; do
    [ "$count" -gt "$tasks" ] || [ "$count" -le "${ranks##*,}" ] || ranks=$ranks,$count
done

export TMPDIR=${MPIBO_SCRATCH:-$PWD}/scaling-$SLURM_JOB_ID
mkdir -p "$TMPDIR"
code=0
"$python" "$home/benchmarks/scaling.py" --ranks "$ranks" --json "scaling-$SLURM_JOB_ID.json" \
    --launcher "${launch[*]}" "$@" || code=$?
rmdir --ignore-fail-on-non-empty "$TMPDIR"
exit "$code"
