#!/usr/bin/env bash
#SBATCH --job-name=mnist
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=8
#SBATCH --cpus-per-task=1
#SBATCH --time=01:00:00
#SBATCH --signal=B:USR1@120
#SBATCH --requeue
#SBATCH --no-kill
#SBATCH --open-mode=append
#
# A search for a CNN on MNIST; the data are fetched first, where they are not in data/ or MPIBO_DATA.
#
#   sbatch [flags of sbatch] slurm/mnist.sh [flags of `mpibo run`]      slurm/run.sh says more
set -eu
run=${MPIBO_HOME:-${SLURM_SUBMIT_DIR:-.}}/slurm/run.sh
[ -f "$run" ] || {
    echo "mpibo: there is no $run: call sbatch in the repository, or set MPIBO_HOME" >&2
    exit 2
}
exec bash "$run" mnist "$@"
