#!/usr/bin/env bash
# shield.sh PROGRAM ...: what mpirun starts in place of each rank (scripts/mpibo-mpirun).
# A launcher that sees a worker die ends the job, or alarms all others: this shell ends in order whatever its rank does.

gone=69 # exit code of a worker that knows rank 0 to be dead (mpibo/engine/mpi.py)

# Signals are for the rank. Handlers, and not '': a rank that begins deaf to them would pass that on to its children.
trap : HUP INT TERM USR1 USR2
"$@"
code=$?

rank=${PMI_RANK:-${OMPI_COMM_WORLD_RANK:-0}}
killed=$((rank == 0 && code > 128))
if [[ ${PMI_FD:-} =~ ^[0-9]+$ ]]; then
    # To MPICH's launcher a rank that leaves without MPI_Finalize has failed: it ends the job, or, with its flag
    # -disable-auto-cleanup, sends all others SIGUSR1, which to us means the end of the allocation. So take leave in the
    # dead rank's name; where the rank has done so itself, nobody listens any more.
    trap '' PIPE
    { echo "cmd=finalize" >&"$PMI_FD" && read -r -t 1 -u "$PMI_FD" _; } 2>/dev/null
    # Without rank 0 the workers would wait out their lease on it: tell them. mpirun passes the signal on.
    if ((killed)) && [ "${MPIBO_MPIRUN%:*}" = "$(uname -n)" ]; then
        kill -USR1 "${MPIBO_MPIRUN##*:}" 2>/dev/null
    fi
elif ((killed)); then
    # Open MPI tells the others of a rank that was killed, or left with code 0, but not of one that left with another.
    trap - HUP INT TERM USR1 USR2
    kill -"$((code - 128))" $$
fi
[ "$rank" = 0 ] || [ "$code" = "$gone" ] || exit 0 # the job's exit code is rank 0's
exit "$code"
