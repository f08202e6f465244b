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
#   MPIBO_SPOT     1: its nodes are EC2 spot instances, 0: they are not (default: the first node is asked, on EC2 only)
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
case ${1:-} in
mnist | mnist-*) fetch=get_mnist.py ;;
fashion | fashion-*) fetch=get_fashion.py ;;
*) fetch= ;;
esac
if [ -n "$fetch" ] && [ -f "$home/scripts/$fetch" ]; then
    "$python" "$home/scripts/$fetch" || fail "run scripts/$fetch where there is a network, then submit again"
fi

# A spot instance that is to be taken away ends the job as its time limit does: a watcher on each node sends the signal.
watch=$home/scripts/spot_watch.sh
spot=${MPIBO_SPOT:-}
if [ -z "$spot" ] && grep -qs '^Amazon EC2' /sys/class/dmi/id/sys_vendor && bash "$watch" --check; then spot=1; fi
if [ "$spot" = 1 ]; then
    srun --job-name=mpibo-spot --overlap --mpi=none --no-kill --kill-on-bad-exit=0 --nodes="$SLURM_NNODES" --ntasks="$SLURM_NNODES" \
        --ntasks-per-node=1 --cpus-per-task=1 bash "$watch" scancel --batch --signal=USR1 "$SLURM_JOB_ID" &
fi

find_launcher
search "$@"
