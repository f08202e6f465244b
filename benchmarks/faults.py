"""The kill campaign: processes of a run under load are killed at random instants, and nothing may be lost or doubled.

    python benchmarks/faults.py [--kills 100] [--modes NAME,...] [--mpi] [--workers 7] [--seed 0] [--json FILE]

Every kill is SIGKILL to one process id that the campaign's own run named. After each resume ``witness.Witness`` holds
the journal against the one before, against what the objective noted itself, and against the library's tables. The exit
code is 1 if anything was lost, doubled, different or left behind. README.md says what each mode does.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict
from functools import partial
from pathlib import Path

from campaign import PATIENCE, Campaign, Count, Stuck
from overhead import table

SHIELD = Path(__file__).resolve().parent.parent / "scripts" / "mpibo-mpirun"
LEASE = 60.0
EARLY = 0.15  # share of the manager's kills that come while it still starts
FULL = 16  # MB of the small disk
# What makes the disk of a run slow: each of its Python processes imports it first. A sync of the journal takes up to
# half a second, and so does one in fifty of its writes; each leaves a byte in the file ``delays``.
SLOW = """
import os, random, time
_write, _sync, _rng = os.write, os.fdatasync, random.Random(os.getpid())
def _slow(file):
    if os.readlink(f"/proc/self/fd/{file}").endswith("journal.jsonl"):
        with open(DELAYS, "ab") as delays:
            delays.write(b".")
        time.sleep(_rng.uniform(0.02, 0.5))
def fdatasync(file):
    _slow(file)
    _sync(file)
def write(file, data):
    if file > 2 and _rng.random() < 0.02:
        _slow(file)
    return _write(file, data)
os.write, os.fdatasync = write, fdatasync
"""


class Skipped(Exception):
    """This mode can't be had here; the message says why."""


def resumed_after(victim: str) -> Callable[[Campaign, int], None]:
    """A mode: kill a process whose death ends the run, and start the run again, over and over."""

    def mode(run: Campaign, kills: int) -> None:
        early = 0
        copies: list[tuple[bytes, bytes, tuple[bytes, bytes]]] = []  # of starts that are not checked yet
        while run.count.kills < kills:
            process = run.launch()
            if victim == "manager" and run.count.kills and run.rng.random() < EARLY:
                early += 1
                time.sleep(run.rng.uniform(0.0, 1.2))
                family, first = run.family(), b""
                manager = next((pid for pid, role in family.items() if role in ("manager", "rank 0")), process.pid)
            else:
                check(run, copies)  # while this start comes up
                manager, first = run.begun(), run.written()
                time.sleep(run.rng.uniform(0.2, 1.5))
                family = run.family()
            ranks = [pid for pid, role in family.items() if role.startswith("rank ") and role != "rank 0"]
            before = run.written()
            run.kill({"manager": manager, "mpirun": process.pid}.get(victim) or run.rng.choice(ranks))
            run.buried(family)
            copies.append((first, before, run.copy()))
        check(run, copies)
        run.finish()
        if early:
            run.count.note = f"{early} of them during a start"

    return mode


def check(run: Campaign, copies: list[tuple[bytes, bytes, tuple[bytes, bytes]]]) -> None:
    """Check the starts that were killed, the oldest first."""
    while copies:
        run.resumed(*copies.pop(0))


def survived(victim: str) -> Callable[[Campaign, int], None]:
    """A mode: kill a process that the run replaces or does without; the run goes on."""

    def mode(run: Campaign, kills: int) -> None:
        run.launch()
        run.begun()
        for _ in range(kills):
            time.sleep(run.rng.uniform(0.1, 0.6))
            victims = run.wait_for(f"a {victim}", lambda: [p for p, role in run.family().items() if role == victim])
            run.look()
            run.kill(run.rng.choice(victims))
            wanted = {"proposer": ["proposer", "ask", "start"]}.get(victim, ["end"] * 20)
            run.wait_for(f"the run to go on without its {victim}", partial(follow, run, wanted))
            if victim == "scribe":
                break  # there is no other one
        stop_in_order(run)
        run.finish()

    return mode


def follow(run: Campaign, kinds: list[str]) -> bool:
    """Whether lines of these kinds have come, one after the other, since the last look."""
    left = list(kinds)
    for event in run.news():
        if left and event["kind"] == left[0]:
            left.pop(0)
    return not left


def stop_in_order(run: Campaign) -> None:
    """SIGTERM to the manager: the run closes its journal and can go on later."""
    assert run.process
    run.process.terminate()
    code = run.process.wait(PATIENCE)
    if code not in (75, 128 + 15, -15):  # a launcher may have an exit code of its own
        raise Stuck(f"after SIGTERM the run ended with code {code}:\n{run.said()}")
    run.look()


def shielded(run: Campaign, kills: int) -> None:
    """A mode: kill workers' ranks under scripts/mpibo-mpirun; each costs one trial, and the run goes on."""
    if not run.given.mpi or not SHIELD.exists():
        raise Skipped("needs --mpi and scripts/mpibo-mpirun")
    run.launch(launcher=[str(SHIELD)])
    run.begun()
    for _ in range(min(kills, run.given.workers - 1)):
        time.sleep(run.rng.uniform(0.2, 1.0))
        run.look()
        ranks = [pid for pid, role in run.family().items() if role.startswith("rank ") and role != "rank 0"]
        run.kill(run.rng.choice(ranks))
    lost = ["lost"] * run.count.kills
    run.wait_for("the lost lines of the dead workers", lambda: follow(run, lost), LEASE + PATIENCE)
    run.look()
    run.wait_for("the run to go on", lambda: follow(run, ["end"] * 20))
    stop_in_order(run)
    run.finish()


def disk_full(run: Campaign, kills: int) -> None:
    """A mode: a small disk is filled under a run and freed again; a run that gives up must be able to go on."""
    run.out.mkdir(parents=True)
    try:
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={FULL}m", "tmpfs", str(run.out)], check=True,
                       capture_output=True)  # fmt: skip
    except (OSError, subprocess.CalledProcessError) as error:
        raise Skipped("no tmpfs may be mounted here") from error
    ended = 0
    try:
        for _ in range(kills):
            if run.process is None or run.process.poll() is not None:
                process = run.launch()
                run.begun()
            time.sleep(run.rng.uniform(0.1, 0.5))
            if len(run.written()) > FULL * 2**20 / 2:
                break  # the journal itself is about to fill it
            run.look()
            filler = run.out / "logs" / "filler"
            fill(filler)
            run.count.kills += 1
            time.sleep(run.rng.uniform(0.5, 2.0))
            while_full = run.written()
            filler.unlink()
            run.look(while_full)
            with suppress(Stuck):
                run.wait_for("the run to go on", lambda: follow(run, ["end"] * 20), 20.0)
            if process.poll() is None and not follow(run, ["end"]):
                raise Stuck(f"the disk has room again, and the run neither goes on nor ends:\n{run.said()}")
            ended += process.poll() is not None
        if run.process and run.process.poll() is None:
            stop_in_order(run)
        run.count.note = f"the run ended {ended} times, and waited {run.count.kills - ended} times"
        run.finish()
    finally:
        if run.process and run.process.poll() is None:
            run.process.kill()
            run.process.wait()
        subprocess.run(["umount", "-l", str(run.out)], check=False, capture_output=True)


def disk_slow(run: Campaign, kills: int) -> None:
    """A mode: the manager is killed while its disk is slow: much is written that is not synced."""
    folder, delays = run.folder / "slow", run.folder / "delays"
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(f"DELAYS = {str(delays)!r}\n{SLOW}")
    run.environment["PYTHONPATH"] = os.pathsep.join(filter(None, [str(folder), os.environ.get("PYTHONPATH")]))
    resumed_after("manager")(run, kills)
    count = delays.stat().st_size if delays.exists() else 0
    if not count:
        raise Stuck("no sync and no write was slow: the mode showed nothing")
    run.count.note += f"{'; ' if run.count.note else ''}{count} slow syncs and writes"


def fill(path: Path) -> None:
    """Write a file until the disk has no room left."""
    path.parent.mkdir(exist_ok=True)
    with open(path, "wb", buffering=0) as file, suppress(OSError):
        for size in (65536, 1024, 1):
            with suppress(OSError):
                while file.write(bytes(size)):
                    pass


def disk_away(run: Campaign, kills: int) -> None:
    """A mode: the run folder is not there for a while (another name), and comes back."""
    run.launch()
    run.begun()
    hidden = run.out.with_name("away")
    for _ in range(kills):
        time.sleep(run.rng.uniform(0.1, 0.5))
        run.look()
        run.out.rename(hidden)
        run.count.kills += 1
        time.sleep(run.rng.uniform(0.5, 2.0))
        if run.out.exists():
            raise Stuck(f"while its folder was away the run made another one: {sorted(os.listdir(run.out))}")
        hidden.rename(run.out)
        run.wait_for("the run to go on", lambda: follow(run, ["end"] * 20))
    stop_in_order(run)
    run.finish()


# name: the mode, whether only under mpirun, and its share of --kills
MODES: dict[str, tuple[Callable[[Campaign, int], None], bool, float]] = {
    "manager": (resumed_after("manager"), False, 1.0), "worker": (resumed_after("worker"), True, 0.1),
    "mpirun": (resumed_after("mpirun"), True, 0.1), "shield": (shielded, True, 0.03),
    "child": (survived("sandbox"), False, 0.3), "proposer": (survived("proposer"), False, 0.1),
    "scribe": (survived("scribe"), False, 0.01), "disk-full": (disk_full, False, 0.05),
    "disk-away": (disk_away, False, 0.05), "disk-slow": (disk_slow, False, 0.1),
}  # fmt: skip
HEADER = ("mode", "kills", "starts", "lines", "DONE", "redone", "lost", "doubled", "different", "left", "s", "load",
          "")  # fmt: skip


def row_of(count: Count) -> tuple[str, ...]:
    """A line of the table."""
    numbers = (count.kills, count.starts, count.lines, count.done, count.redone, count.lost, count.doubled,
               count.differences, count.left)  # fmt: skip
    return (count.mode, *map(str, numbers), f"{count.seconds:.0f}", f"{count.load:.1f}", count.note)


def hurt(mode: str, given: argparse.Namespace) -> Count:
    """One mode's campaign; whatever stops it is a finding."""
    act, _, share = MODES[mode]
    folder = Path(tempfile.mkdtemp(prefix=f"mpibo-{mode}-", dir=given.folder))
    run = Campaign(given, folder, mode)
    try:
        act(run, math.ceil(share * given.kills))
    except Skipped as why:
        run.count.note = f"skipped: {why}"
    except Exception as error:
        run.finding(str(error) if isinstance(error, Stuck) else traceback.format_exc())
    finally:
        if run.process and run.process.poll() is None:
            family = run.family()
            run.process.kill()
            run.buried(family)
    count = run.counted()
    if count.bad:
        count.note += f"{'; ' if count.note else ''}kept: {folder}"
    else:
        shutil.rmtree(folder, ignore_errors=True)
    return count


def chosen(text: str) -> list[str]:
    """The names in ``--modes``."""
    for name in (names := text.split(",")):
        if name not in MODES:
            raise argparse.ArgumentTypeError(f"expected some of {', '.join(MODES)}, got {name!r}")
    return names


def main() -> int:
    """Hurt, count, print."""
    parser = argparse.ArgumentParser(description="The kill campaign (benchmarks/README.md).")
    parser.add_argument("--kills", type=int, default=100, help="of the manager; other modes take a share of it")
    parser.add_argument("--modes", type=chosen, default=None, metavar="NAME,...", help=", ".join(MODES))
    parser.add_argument("--workers", type=int, default=7)
    where = parser.add_mutually_exclusive_group()
    where.add_argument("--mpi", action="store_true", help="under mpirun, as ranks")
    where.add_argument("--local", dest="mpi", action="store_false", help="without MPI (the default)")
    parser.add_argument("--methods", type=lambda text: text.split(";"), default=["random", "auto"], metavar="A;B",
                        help="taken in turn, one a start (default random;auto)")  # fmt: skip
    parser.add_argument("--evaluation", type=float, default=0.012, help="mean seconds of an evaluation")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", default=None, help="where the run folders lie (default: the temporary folder)")
    parser.add_argument("--json", metavar="FILE", help="keep the counts and findings")
    given = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))  # a run must not outlive us
    modes = given.modes or [name for name, (_, mpi, _) in MODES.items() if given.mpi or not mpi]
    counts = []
    for mode in modes:
        if MODES[mode][1] and not given.mpi:
            print(f"{mode} needs --mpi", file=sys.stderr)
            continue
        print(f"{mode} ...", file=sys.stderr, flush=True)
        counts.append(hurt(mode, given))
    place = "mpirun" if given.mpi else "local"
    print(f"{place}, {given.workers} workers, evaluations of {1e3 * given.evaluation:g} ms, "
          f"methods {', '.join(given.methods)}, seed {given.seed}")  # fmt: skip
    print(table([HEADER, *map(row_of, counts)]))
    for count in counts:
        for words in count.findings[:10]:
            print(f"\n{count.mode}: {words}")
        if len(count.findings) > 10:
            print(f"\n{count.mode}: and {len(count.findings) - 10} more")
    if given.json:
        Path(given.json).write_text(json.dumps([asdict(count) for count in counts], indent=1) + "\n")
    return 1 if any(count.bad for count in counts) else 0


if __name__ == "__main__":
    sys.exit(main())
