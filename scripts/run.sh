#!/usr/bin/env bash
# The main job on a fresh machine: makes the environment when it is not there, then searches under mpirun.
#
#   scripts/run.sh [flags of `python -m mpibo.run`]      MPIBO_RANKS=8: that many ranks, one of them the manager
#
# scripts/environment.sh names the other variables.
set -eu
. "$(dirname -- "${BASH_SOURCE[0]}")/environment.sh"

set_up run
find_mpirun
exec "$mpirun" -n "${MPIBO_RANKS:-8}" "$venv/bin/python" -m mpibo.run "$@"
