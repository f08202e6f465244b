#!/usr/bin/env bash
# What the Dockerfile and scripts/mpibo.def run while an image is made: the environment, without what a run never reads.
# scripts/environment.sh names the variables.
set -eu
. "$(dirname -- "${BASH_SOURCE[0]}")/environment.sh"

export PIP_NO_CACHE_DIR=1
set_up run
packages=$("$venv/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
# Headers (so no torch.compile), programs that test torch, the tests of packages, tools of MPICH that we never start.
rm -rf "$packages"/torch/{include,test,share} "$venv"/include "$venv"/share "$venv"/bin/{mpiexec.gforker,hydra_nameserver,hydra_persist}
find "$packages/torch/bin" -type f ! -name torch_shm_manager -delete
find "$packages" "$venv/lib" \( -name '*.a' -o -name '*.lib' -o -name '*.pyi' \) -type f -delete
find "$packages" -path "$packages/torch" -prune -o -type d -name tests -prune -exec rm -rf {} +
"$venv/bin/python" -m pip uninstall -q -y pip setuptools 2>/dev/null || :

# Whoever runs the image names neither, and shall find the environment ready.
unset MPIBO_TORCH MPIBO_TORCH_INDEX
_recipe >"$venv/.ready-run"
