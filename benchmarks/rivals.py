"""The same work without us: a bare mpi4py manager and its workers, mpi4py.futures, and our transport alone.

    mpirun -n 8 python benchmarks/rivals.py bare|dicts|transport WORK SECONDS TASKS
    mpirun -n 8 python -m mpi4py.futures benchmarks/rivals.py pool WORK SECONDS TASKS

One line of JSON comes from rank 0. ``WORK``: ``sleep``, ``spin`` (computes) or ``none``; SECONDS +- 50 %, by the task's
number. The messages of ``bare`` are as long as ours and nothing but bytes, and it looks for them as often as we do;
``dicts`` is that loop with our messages, made and read by the json module; ``transport`` is our own code.
"""

from __future__ import annotations

import json
import os
import random
import statistics
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from runs import OPEN_MPI, PATIENCE, WORKERS, at_once, launch

HERE = os.path.abspath(__file__)
CONFIG = {f"x{i}": 0.1234567890123456 for i in range(1, 5)} | {"rate": 0.0012345678901234567, "kind": "b"}
RUN = {"kind": "run", "id": 12345, "budget": 1, "seed": 3735928559, "config": CONFIG}
END = {"kind": "finished", "id": 12345,
       "outcome": {"state": "DONE", "value": 0.1234567890123456, "duration": 0.10123456789, "metrics": {}}}  # fmt: skip
LONGEST_PAUSE = 5e-4  # ours while somebody waits; with 5 ms the loop leaves its workers idle for 10 ms a task
Span = tuple[int, float, float]  # worker, and when it began and ended a task


def work(kind: str, seconds: float, number: int) -> tuple[float, float]:
    """One task; gives when it began and ended."""
    began = time.time()
    takes = seconds * (1 + 0.5 * random.Random(number).uniform(-1, 1))
    if kind == "sleep":
        time.sleep(takes)
    elif kind == "spin":
        until = time.process_time() + takes
        while time.process_time() < until:
            pass
    at_once(CONFIG)
    return began, time.time()


def summary(spans: Sequence[Span], cpu: float, trips: float, first: float) -> dict[str, float]:
    """What is printed.

    Args:
        spans: Of all tasks.
        cpu: CPU seconds of rank 0 for each task.
        trips: Answers a second at rank 0; 0 where that is not known.
        first: Time of day of the first answer.

    Returns:
        ``rate`` (tasks a second) and ``busy`` (share of the workers' time in percent), both between the last worker's
        first task and the last task's begin; ``cpu``, ``trips``, ``first``, and ``between``, the median of the
        milliseconds from a worker's task to its next.
    """
    own: dict[int, list[tuple[float, float]]] = defaultdict(list)
    for worker, begin, end in spans:
        own[worker].append((begin, end))
    loaded, fed = max(min(each)[0] for each in own.values()), max(begin for _, begin, _ in spans)
    inside = sum(max(0.0, min(end, fed) - max(begin, loaded)) for _, begin, end in spans)
    count = sum(loaded <= begin < fed for _, begin, _ in spans)
    gaps = [1e3 * (b[0] - a[1]) for each in own.values() for a, b in zip(sorted(each), sorted(each)[1:], strict=False)]
    window = max(fed - loaded, 1e-9)
    return {"rate": count / window, "busy": 100 * inside / (len(own) * window), "cpu": cpu, "trips": trips,
            "first": first, "between": statistics.median(gaps) if gaps else 0.0}  # fmt: skip


def tell(spans: list[Span], times: list[tuple[float, float]], first: float) -> None:
    """Print the summary; ``times``: clock and CPU seconds of rank 0 at each answer."""
    (t0, cpu0), (t1, cpu1) = times[len(times) // 10], times[-1]
    trips = len(times) - 1 - len(times) // 10
    print(json.dumps(summary(spans, (cpu1 - cpu0) / trips, trips / (t1 - t0), first)), flush=True)


def hand_out(send: Callable[[int, int], None], receive: Callable[[], int], workers: int, tasks: int) -> Any:
    """The manager: each idle worker gets the next task (-1: there is none), until all have answered."""
    times, first, given, waiting = [], 0.0, 0, workers
    while waiting:
        worker = receive()
        first = first or time.time()
        times.append((time.perf_counter(), time.process_time()))
        if given < tasks:
            send(worker, given)
            given += 1
        else:
            send(worker, -1)
            waiting -= 1
    return times[: len(times) - workers + 1], first


def bare(kind: str, seconds: float, tasks: int, dicts: bool = False) -> None:
    """Send and Iprobe with a sleep that grows from 1 us to 0.5 ms; nothing else."""
    import mpi4py

    mpi4py.rc.recv_mprobe = False
    from mpi4py import MPI

    comm, status = MPI.COMM_WORLD.Dup(), MPI.Status()
    message = END if comm.rank else RUN
    size, buffer = len(packed(message)), bytearray(1024)

    def receive() -> tuple[int, int]:
        """The sender, and the number that it names."""
        pause = 1e-6
        while not comm.Iprobe(status=status):
            time.sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE)
        length = status.Get_count(MPI.BYTE)
        comm.Recv([buffer, length, MPI.BYTE], source=status.Get_source())
        number = json.loads(buffer[:length])["id"] if dicts else int(buffer[:length])
        return status.Get_source(), number

    def send(to: int, number: int) -> None:
        data = packed(message | {"id": number}) if dicts else (b"%d" % number).ljust(size)
        comm.Send([data, MPI.BYTE], dest=to)

    if comm.rank == 0:
        times, first = hand_out(send, lambda: receive()[0], comm.size - 1, tasks)
        tell([span for each in comm.gather([]) or [] for span in each], times, first)
        return
    spans: list[Span] = []
    send(0, 0)
    while (number := receive()[1]) >= 0:
        spans.append((comm.rank, *work(kind, seconds, number)))
        send(0, number)
    comm.gather(spans)


def transport(kind: str, seconds: float, tasks: int) -> None:
    """Our own: ``MPITransport`` on rank 0, and a rank's loop with its ``Line``; no child, no journal, no proposer."""
    import select

    from mpibo.engine.mpi import ALERT_PAUSE, join
    from mpibo.engine.ranks import Line, MPITransport
    from mpibo.engine.signals import Signals

    world = join()
    if world is None:
        raise SystemExit("run it under mpirun")
    if world.rank == 0:
        with MPITransport(world, {}) as ours:

            def receive() -> int:
                while (arrived := ours.receive(ours.now() + 0.1)) is None:
                    pass
                return arrived[0]

            def send(to: int, number: int) -> None:
                ours.send(to, RUN | {"id": number} if number >= 0 else {"kind": "quit"})

            times, first = hand_out(send, receive, world.size - 1, tasks)
        tell([span for each in world.comm.gather([]) for span in each], times, first)
        world.close()
        return
    with Signals(impatient=False) as signals:
        world.await_setup(signals)
    line, spans, pause = Line(world, world.runs), [], 1e-6
    line.send(0, {"kind": "ready", "host": "here", "pid": os.getpid()})
    while True:
        if (arrived := line.receive()) is None:
            select.select([], [], [], pause)
            pause = min(2 * pause, ALERT_PAUSE)
            continue
        pause = 1e-6
        if arrived[1]["kind"] == "quit":
            break
        spans.append((world.rank, *work(kind, seconds, arrived[1]["id"])))
        line.send(0, END | {"id": arrived[1]["id"]})
    line.flush()
    world.comm.gather(spans)
    world.await_setup(Signals(impatient=False))
    world.close()


def pooled(task: tuple[str, float, int]) -> Span:
    """A task of the pool, on whatever worker."""
    return os.getpid(), *work(*task)


def pool(kind: str, seconds: float, tasks: int) -> None:
    """``mpi4py.futures.MPIPoolExecutor``, with its own settings; all tasks are submitted at once."""
    from mpi4py.futures import MPIPoolExecutor

    with MPIPoolExecutor() as executor:
        executor.bootup()
        times, spans = [], []
        for span in executor.map(pooled, [(kind, seconds, i) for i in range(tasks)], unordered=True):
            times.append((time.perf_counter(), time.process_time()))
            spans.append(span)
    tell(spans, times, spans[0][2])


def packed(message: dict[str, Any]) -> bytes:
    """A message as our transport has it."""
    return json.dumps(message, separators=(",", ":")).encode()


def rival(name: str, kind: str, seconds: float, tasks: int, workers: int = WORKERS) -> dict[str, float]:
    """Run one of them under mpirun; gives its ``summary``, and ``started``: seconds from launch to the first answer."""
    module = ["-m", "mpi4py.futures"] if name == "pool" else []
    command = [*launch(workers + 1), *module, HERE, name, kind, str(seconds), str(tasks)]
    launched = time.time()
    done = subprocess.run(command, env=OPEN_MPI | os.environ, stdin=subprocess.DEVNULL, capture_output=True, text=True,
                          timeout=PATIENCE)  # fmt: skip
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} ended with code {done.returncode}:\n{done.stderr[-2000:]}")
    told: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return told | {"started": told["first"] - launched}


if __name__ == "__main__":
    loops: dict[str, Callable[[str, float, int], None]]
    loops = {"bare": bare, "dicts": partial(bare, dicts=True), "transport": transport, "pool": pool}
    loops[sys.argv[1]](sys.argv[2], float(sys.argv[3]), int(sys.argv[4]))
