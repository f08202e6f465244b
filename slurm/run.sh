#!/usr/bin/env bash
#SBATCH --job-name=mpibo
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=8
#SBATCH --cpus-per-task=1
#SBATCH --time=01:00:00
#SBATCH --no-kill
#SBATCH --open-mode=append
#
# A search over all ranks of a Slurm job: one rank is the manager, the others evaluate.
#
#   sbatch [flags of sbatch] slurm/run.sh OBJECTIVE [flags of `mpibo run`]      from the repository, or set MPIBO_HOME
#
#   MPIBO_HOME     the repository (default: where sbatch was called)
#   MPIBO_PYTHON   the Python to run (default: .venv of the repository, else python3)
#   MPIBO_LAUNCH   srun (default), or mpirun: the one beside that Python, else the one in the PATH
#   SLURM_MPI_TYPE how srun and the MPI library find each other (default pmi2: MPICH; Open MPI wants pmix)
#   MPIBO_SPOT     1: its nodes are EC2 spot instances, 0: they are not (default: the first node is asked, on EC2 only)
#
# The run folder is runs/OBJECTIVE-JOBID where sbatch was called, or --out FOLDER; all nodes must see it.
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

# The data of a built-in objective are fetched once, here, not by each rank.
case ${1:-} in
mnist | mnist-*) fetch=get_mnist.py ;;
fashion | fashion-*) fetch=get_fashion.py ;;
*) fetch= ;;
esac
if [ -n "$fetch" ] && [ -f "$home/scripts/$fetch" ]; then
    "$python" "$home/scripts/$fetch" || fail "run scripts/$fetch where there is a network, then submit again"
fi

case ${1:-digits} in -*) name=run ;; *) name=${1:-digits} ;; esac
search=("$python" -m mpibo.run --out "runs/${name##*[:/]}-$SLURM_JOB_ID" "$@") # of two --out the last one counts

# A spot instance that is to be taken away ends the job as its time limit does: a watcher on each node sends the signal.
watch=$home/scripts/spot_watch.sh
spot=${MPIBO_SPOT:-}
if [ -z "$spot" ] && grep -qs '^Amazon EC2' /sys/class/dmi/id/sys_vendor && bash "$watch" --check; then spot=1; fi
if [ "$spot" = 1 ]; then
    srun --overlap --mpi=none --no-kill --kill-on-bad-exit=0 --nodes="$SLURM_NNODES" --ntasks="$SLURM_NNODES" \
        --ntasks-per-node=1 --cpus-per-task=1 bash "$watch" scancel --batch --signal=USR1 "$SLURM_JOB_ID" &
fi

case ${MPIBO_LAUNCH:-srun} in
srun)
    export SRUN_CPUS_PER_TASK=${SLURM_CPUS_PER_TASK:-1} # srun no longer takes it from sbatch
    # A lost worker or node costs its trials, not the run.
    exec srun --mpi="${SLURM_MPI_TYPE:-pmi2}" --no-kill --kill-on-bad-exit=0 "${search[@]}"
    ;;
mpirun)
    mpirun=$(dirname "$(command -v "$python")")/mpirun
    [ -x "$mpirun" ] || mpirun=mpirun
    exec "$mpirun" -n "${SLURM_NTASKS:-$SLURM_NNODES}" "${search[@]}"
    ;;
*) fail "MPIBO_LAUNCH must be srun or mpirun, got $MPIBO_LAUNCH" ;;
esac
