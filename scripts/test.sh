#!/usr/bin/env bash
# The tests on a fresh machine: makes the environment when it is not there, then runs pytest.
#
#   scripts/test.sh [flags of pytest]          all but the slow suites
#   scripts/test.sh --all [flags of pytest]    ruff, mypy, shellcheck and hadolint first; then all suites, the fast ones first
#
# With --all the Debian packages that slow suites need are installed where this user may; a suite without them is left
# out and named at the end. scripts/environment.sh names the variables. Paths are relative to the repository.
set -eu
. "$(dirname -- "${BASH_SOURCE[0]}")/environment.sh"

# A marker of setup.cfg, a program that its suite starts, the Debian packages that bring it.
slow_suites=(
    "slurm slurmctld slurm-wlm slurm-wlm-basic-plugins munge iproute2"
    "container buildah buildah podman runc mmdebstrap"
)

all=
for flag in "$@"; do [ "$flag" != --all ] || all=1; done

# Installs the packages of the suites that tests/ has; what can't be installed, conftest.py names.
install_packages() {
    local sudo='' suite program packages wanted=()
    for suite in "${slow_suites[@]}"; do
        read -r suite program packages <<<"$suite"
        if grep -rqs --include='*.py' "mark\.$suite" tests && ! PATH=$PATH:/usr/sbin:/sbin command -v "$program" >/dev/null; then
            read -ra packages <<<"$packages"
            wanted+=("${packages[@]}")
        fi
    done
    [ ${#wanted[@]} -gt 0 ] && command -v apt-get >/dev/null || return 0
    if [ "$(id -u)" != 0 ]; then
        sudo -n true 2>/dev/null || return 0
        sudo=sudo
    fi
    echo "test.sh: installing ${wanted[*]}" >&2
    $sudo apt-get -qq update </dev/null &&
        $sudo env DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --no-install-recommends "${wanted[@]}" </dev/null >/dev/null ||
        echo "test.sh: apt-get could not install them" >&2
}

# Runs a check; one that fails is told at once, and again by conftest.py at the end.
failed=
check() {
    "$venv/bin/$1" "${@:2}" || {
        echo "test.sh: FAILED: $*" >&2
        failed="${failed:+$failed, }$1${2:+ $2}"
    }
}

set_up test
find_mpirun
cd "$root"
if [ "$all" ]; then
    install_packages
    check ruff check .
    check ruff format --check .
    check mypy
    check shellcheck -x -P scripts scripts/*.sh scripts/mpibo-mpirun slurm/*.sh mpibo/*.sh aws-parallelcluster/*.sh .ci/run
    check hadolint Dockerfile
    "$venv/bin/python" scripts/get_mnist.py || echo "test.sh: MNIST can't be had here; its test will be skipped" >&2
fi

# pytest has the last word: its summary ends the output. No test at all is an error too (its code 5).
code=0
MPIBO_FAILED_CHECKS=$failed "$venv/bin/python" -m pytest "$@" || code=$?
[ "$code" != 0 ] || [ -z "$failed" ] || code=1
exit "$code"
