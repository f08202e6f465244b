"""Which of our scripts fetches the data that a search reads: ``python -m mpibo.needs`` and what ``mpibo run`` takes.

Prints its path in the repository; nothing where no data are needed, or no script fetches them.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from mpibo.cli import describe, guarded, parser, settings_of, split_command
from mpibo.objectives import datasets


def main(argv: Sequence[str]) -> int:
    """Print it.

    Raises:
        ValueError: What ``mpibo run`` would not take.
    """
    argv, command = split_command(argv)
    given = parser().parse_args(argv)
    _, _, builtin = describe(given.objective, command)
    kind = datasets.read_by(given.objective or "digits", settings_of(given).fix) if builtin else None
    if kind and kind.script:
        print(kind.script)
    return 0


if __name__ == "__main__":
    sys.exit(guarded(lambda: main(sys.argv[1:]), "--debug" in sys.argv))
