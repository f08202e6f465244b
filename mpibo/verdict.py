"""``mpibo replay``: a journal is read line by line, replayed in a child, and what differs is told.

The child has the proposer's environment: BLAS with one thread, whatever the person's says, or the last bits differ.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from mpibo.cli import Parser, guarded
from mpibo.engine.children import Child, settle_in
from mpibo.engine.environment import THREADS, child_environment
from mpibo.engine.sandbox import Pipe, parse
from mpibo.grammar import Difference
from mpibo.replaying import BadInput, Replay, seen_by
from mpibo.store.journal import NAME, event_of


@dataclass
class Report:
    """What came of a replay. ``seconds`` is the time that it took."""

    replayed: Replay
    differences: list[Difference] = field(default_factory=list)
    torn: int = 0  # bytes of a last line that is not whole
    seconds: float = 0.0


def replay_file(path: Path, method: str | None = None) -> Report:
    """Replay a journal file, line by line: a bad one is a difference and ends the replay.

    Raises:
        ValueError: There is no such file, or no search can be made from it here.
    """
    began = time.monotonic()
    try:
        with open(path, "rb") as file:
            report = Report(Replay(method, seen=seen_by(file)))
            file.seek(0)
            for number, line in enumerate(file, start=1):
                event = event_of(line)
                if event is None and not line.endswith(b"\n"):
                    report.torn = len(line)
                    break
                if event is None:
                    wanted, found = "a line that matches its checksum", "one that does not: the file is damaged"
                    report.differences.append(Difference(number, wanted, found))
                    break
                try:
                    report.differences += report.replayed.take(event)
                except BadInput:
                    if not report.differences:
                        raise
                    report.replayed.over = True  # the first difference says more
                if report.replayed.over:
                    break
    except OSError as error:
        raise ValueError(f"can't read {path}: {error.strerror}") from error
    if not report.replayed.starts and not report.differences:
        raise ValueError(f"{path} has no whole line yet")
    report.seconds = time.monotonic() - began
    return report


def command(argv: Sequence[str]) -> int:
    """``mpibo replay RUN``: 0 if the run replays bit for bit, 1 if a line differs, 2 for bad input."""
    made = Parser(prog="mpibo replay", description="Make every proposal and choice of a run again and compare.")
    made.add_argument("run", metavar="RUN", help="the run's folder, or a journal")
    made.add_argument("--method", metavar="FILE.py:CLASS", help="where the strategy is, if it is one of your own")
    made.add_argument("--all", action="store_true", help="show every difference, not only the first")
    made.add_argument("--debug", action="store_true", help="show the traceback of an error")
    given = made.parse_args(argv)
    path = Path(given.run)
    path = path / NAME if path.is_dir() else path
    if not path.is_file():
        raise ValueError(f"{given.run} is no run folder: it holds no {NAME}")
    child = Child("mpibo.verdict", environment=child_environment() | dict.fromkeys(THREADS, "1"))
    try:
        child.send({"path": str(path), "method": given.method, "all": given.all, "debug": given.debug})
        code = child.wait()
    finally:
        child.kill()
    assert code is not None
    if code < 0:
        raise RuntimeError(f"the replay was ended by signal {-code}")
    return code


def show(report: Report, everything: bool) -> int:
    """Print what came of a replay; gives the exit code."""
    again, differences = report.replayed, report.differences
    for difference in differences if everything else differences[:1]:
        print(difference)
    made = (
        f"{again.proposals} proposals of {again.asks} asks, {again.choices} choices, {again.starts} starts of the run, "
        f"made again in {report.seconds:.1f} s"
    )
    if not differences:
        print(f"identical: {made}")
    elif len(differences) == 1:
        print(f"differs in this line only: {made}")
    else:
        print(f"differs in {len(differences)} places{'' if everything else ' (--all shows them)'}: {made}")
    if again.over or (differences and "checksum" in differences[-1].expected):
        print("what follows the last of them was not replayed")
    if report.torn:
        print(f"the last line is not whole ({report.torn} bytes): the run goes on, or was killed as it wrote")
    if again.failed is not None and not again.over:
        print(f"at the last ask the strategy fails, as it may have in the run: {again.failed}")
    if again.unused:
        print("--method was not used: it is for a strategy of one's own, and this run's are mpibo's")
    if again.elsewhere:
        print(
            f"the run was made with {'; '.join(again.elsewhere)}: differences are to be expected, at least in last bits"
        )
    return 1 if differences else 0


def main() -> None:
    """The child: replay what the command names."""
    arguments = parse()
    settle_in(arguments.parent)
    told = Pipe(arguments.answers).receive()
    if told is None:
        return
    folders = [os.getcwd()]
    if told["method"] and ".py:" in told["method"]:  # its neighbours, as where the run was started
        folders.append(os.path.dirname(os.path.abspath(told["method"].partition(".py:")[0])))
    sys.path[:0] = [folder for folder in folders if folder not in sys.path]
    code = guarded(lambda: show(replay_file(Path(told["path"]), told["method"]), told["all"]), told["debug"])
    sys.stdout.flush()
    raise SystemExit(code)


if __name__ == "__main__":
    main()
