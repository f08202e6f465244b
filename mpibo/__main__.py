"""The ``mpibo`` command and its parts: run, check, log, submit. A worker's rank serves whatever rank 0 was told."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence

from mpibo.engine.environment import is_worker

USAGE = """usage: mpibo COMMAND ...

commands:
  run [OBJECTIVE] [flags] [-- CMD]   search (also: python -m mpibo.run); mpibo run --help shows the flags
  check OBJECTIVE [flags] [-- CMD]   print the space as understood and evaluate one config
  submit OBJECTIVE [flags] [-- CMD]  search in a job of Slurm; mpibo submit --help shows the flags
  log RUN ID                         what a trial printed
  resume RUN [flags]                 go on with a run: its folder, or s3://BUCKET/PREFIX
  pull s3://BUCKET/PREFIX [FOLDER]   bring a mirrored run back
  simulate RUN|OBJECTIVE [flags]     forecast what so many workers will bring; mpibo simulate --help
  replay RUN                         make every proposal of a run again and compare
"""


def main(argv: Sequence[str] | None = None) -> None:
    """Dispatch to a command."""
    if is_worker():
        from mpibo.engine.serving import serve

        serve()
    from mpibo.cli import guarded, leave
    from mpibo.cli import main as search

    arguments = list(sys.argv[1:] if argv is None else argv)
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print(USAGE, end="")
        leave(0 if arguments else 2)
    name, rest = arguments[0], arguments[1:]
    if name == "run":
        search(rest)
    from mpibo.commands import check, show_log
    from mpibo.submit import submit
    from mpibo.verdict import command as replay

    commands: dict[str, Callable[[Sequence[str]], int]] = {
        "check": check, "submit": submit, "log": show_log, "replay": replay, "simulate": _simulate,
        "resume": _resume, "pull": _pull,
    }  # fmt: skip
    if name not in commands:
        print(f"mpibo: unknown command {name!r}; there are run, {', '.join(commands)}", file=sys.stderr)
        leave(2)
    leave(guarded(lambda: commands[name](rest), "--debug" in rest))


def _resume(argv: Sequence[str]) -> int:
    from mpibo.resuming import resume

    return resume(argv)


def _pull(argv: Sequence[str]) -> int:
    from mpibo.resuming import pull

    return pull(argv)


def _simulate(argv: Sequence[str]) -> int:
    from mpibo.forecast.command import simulate  # loads the search

    return simulate(argv)


if __name__ == "__main__":
    main()
