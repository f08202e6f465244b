#!/usr/bin/env bash
#SBATCH --job-name=command
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=8
#SBATCH --cpus-per-task=1
#SBATCH --time=01:00:00
#SBATCH --signal=B:USR1@120
#SBATCH --requeue
#SBATCH --no-kill
#SBATCH --open-mode=append
#
# A search over any program's flags: its last line of output is the value.
#
#   sbatch [flags of sbatch] slurm/command.sh --space FILE --max-trials N [flags of `mpibo run`] -- PROGRAM --lr '{lr}'
set -eu
run=${MPIBO_HOME:-${SLURM_SUBMIT_DIR:-.}}/slurm/run.sh
[ -f "$run" ] || {
    echo "mpibo: there is no $run: call sbatch in the repository, or set MPIBO_HOME" >&2
    exit 2
}
case " $* " in
*" -- "*) exec bash "$run" "$@" ;;
esac
echo "mpibo: give the program after --: sbatch slurm/command.sh --space FILE --max-trials N -- PROGRAM --lr '{lr}'" >&2
exit 2
