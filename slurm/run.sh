#!/usr/bin/env bash
#SBATCH --job-name=mpibo
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=8
#SBATCH --cpus-per-task=1
#SBATCH --time=01:00:00
#SBATCH --signal=B:USR1@120
#SBATCH --requeue
#SBATCH --no-kill
#SBATCH --open-mode=append
#
# A search over all ranks of a Slurm job: one rank is the manager, the others evaluate.
#
#   sbatch [flags of sbatch] slurm/run.sh [OBJECTIVE] [flags of `mpibo run`]      from the repository, or set MPIBO_HOME
#
#   MPIBO_HOME     the repository (default: where sbatch was called); mpibo/job.sh there names the other variables
set -eu
home=${MPIBO_HOME:-${SLURM_SUBMIT_DIR:-.}} # sbatch runs a copy of this file, so its own place says nothing
[ -f "$home/mpibo/job.sh" ] || {
    echo "mpibo: there is no $home/mpibo/job.sh: call sbatch in the repository, or set MPIBO_HOME" >&2
    exit 2
}
# shellcheck source=mpibo/job.sh
. "$home/mpibo/job.sh"
find_python mpi4py,mpibo

# The data of a built-in objective are fetched once, here, not by each rank.
fetch=$("$python" -m mpibo.needs "$@") || exit 2 # what was wrong it has told
if [ -n "$fetch" ] && [ -f "$home/$fetch" ]; then
    "$python" "$home/$fetch" || fail "run $fetch where there is a network, then submit again"
fi

find_launcher
search "$@"
