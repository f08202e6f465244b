"""Fetch FashionMNIST: from torchvision's mirror, or where this can't be reached from a Debian package.

Writes the four IDX files, checked by their MD5 sums, to ROOT/FashionMNIST/raw, where torchvision looks for them. The
package ``dataset-fashion-mnist`` is taken by ``apt-get download`` and unpacked, never installed: that needs no root.

    python scripts/get_fashion.py [ROOT]        (default ./data)
"""

from __future__ import annotations

import argparse
import gzip
import os
import subprocess
import sys
import tempfile
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


def fetch(folder: Path) -> str:
    """Put the files into ``folder`` from the first source that has them; gives its name. Raises OSError if none has."""
    try:
        get_mnist.save(folder, get_mnist.from_mirror(MIRROR), MD5)
        return MIRROR
    except (OSError, ValueError, EOFError) as error:
        print(f"{MIRROR}: {getattr(error, 'reason', error)}; trying the next source", flush=True)
    get_mnist.save(folder, from_package(), MD5)
    return f"Debian's package {PACKAGE}"


def main() -> int:
    parser = argparse.ArgumentParser(description="Fetch FashionMNIST into ROOT/FashionMNIST/raw.")
    parser.add_argument("root", nargs="?", default=os.environ.get("MPIBO_DATA") or "data", type=Path)
    folder = parser.parse_args().root / "FashionMNIST" / "raw"
    if get_mnist.is_complete(folder, MD5):
        print(f"FashionMNIST is already in {folder}")
        return 0
    try:
        source = fetch(folder)
    except (OSError, ValueError, EOFError) as error:
        print(f"FashionMNIST could not be fetched: {error}", file=sys.stderr)
        return 1
    print(f"FashionMNIST is in {folder}, from {source}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
