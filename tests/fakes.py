"""Programs of others, played by a few lines of shell in a folder that comes first in the PATH."""

from __future__ import annotations

import os
import stat
from pathlib import Path


class Fakes:
    """A folder of programs that write their arguments to one file, in order, and answer as they were told."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.log = folder / "calls"
        folder.mkdir(parents=True)
        self.log.touch()

    def add(self, name: str, script: str = "") -> None:
        """``script`` is bash; ``$1`` is the program's first argument."""
        path = self.folder / name
        path.write_text(f'#!/bin/bash\necho "{name} $*" >>"{self.log}"\n{script}\n')
        path.chmod(path.stat().st_mode | stat.S_IXUSR)

    def environ(self, **more: str) -> dict[str, str]:
        return {**os.environ, "PATH": f"{self.folder}:{os.environ['PATH']}", **more}

    @property
    def calls(self) -> list[str]:
        return self.log.read_text().splitlines()
