"""Fetch FashionMNIST: from torchvision's mirror, or where this can't be reached from a Debian package.

Writes the four IDX files, checked by their MD5 sums, to ROOT/FashionMNIST/raw, where torchvision looks for them. The
package ``dataset-fashion-mnist`` is taken by ``apt-get download`` and unpacked, never installed: that needs no root.

    python scripts/get_fashion.py [ROOT]        (default MPIBO_DATA, else ./data)
"""

from __future__ import annotations

import gzip
import subprocess
import sys
import tempfile
from functools import partial
from pathlib import Path

import get_mnist

MD5 = {
    "train-images-idx3-ubyte": "f4a8712d7a061bf5bd6d2ca38dc4d50a",
    "train-labels-idx1-ubyte": "9018921c3c673c538a1fc5bad174d6f9",
    "t10k-images-idx3-ubyte": "8181f5470baa50b63fa0f6fddb340f0a",
    "t10k-labels-idx1-ubyte": "15d484375f8d13e6eb1aabb0c3f46965",
}
MIRROR = "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/"
PACKAGE = "dataset-fashion-mnist"


def from_package() -> dict[str, bytes]:
    """The four files out of the Debian package. Raises OSError."""
    with tempfile.TemporaryDirectory() as folder:
        for command in (["apt-get", "download", PACKAGE], ["sh", "-c", "dpkg-deb -x *.deb ."]):
            done = subprocess.run(command, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
            if done.returncode:
                said = done.stderr.decode(errors="replace").strip().splitlines() or [f"exit status {done.returncode}"]
                raise OSError(f"{' '.join(command)}: {said[-1]}")
        (place,) = {path.parent for path in Path(folder).rglob("train-images-idx3-ubyte.gz")}
        return {name: gzip.decompress((place / f"{name}.gz").read_bytes()) for name in MD5}


def sources() -> list[get_mnist.Source]:
    """Where FashionMNIST is to be had, in the order in which it is tried."""
    return [(MIRROR, partial(get_mnist.from_mirror, MIRROR)), (f"Debian's package {PACKAGE}", from_package)]


if __name__ == "__main__":
    sys.exit(get_mnist.main("FashionMNIST", sources, MD5))
