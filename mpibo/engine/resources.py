"""Resources: which cores, threads and GPUs each rank of a node gets.

Every rank of a node knows all its ranks (``Seat``) and computes the same ``Share`` for each, without a message.
"""

from __future__ import annotations

import contextlib
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from mpibo.engine.devices import LEVEL_ZERO, Gpus, visible
from mpibo.engine.environment import THREADS, thread_variables


@dataclass(frozen=True)
class Seat:
    """A rank of a node; number 0 is the manager.

    Attributes:
        number: Its rank; of local workers the worker's number.
        cores: Its affinity, sorted.
        gpus: What it sees.
    """

    number: int
    cores: tuple[int, ...]
    gpus: Gpus = Gpus()


@dataclass(frozen=True)
class Share:
    """What one rank gets.

    Attributes:
        cores: Where to bind its children; None: as the rank is.
        threads: For its numeric libraries; None: the user chose.
        gpus: Its GPUs, as in the visible list.
        sharing: Ranks that use its first GPU; 0 without one.
        parked: It gets nothing to do: no GPU is left for it.
        text: All this in one line.
    """

    cores: tuple[int, ...] | None
    threads: int | None
    gpus: tuple[str, ...] = ()
    sharing: int = 0
    parked: bool = False
    text: str = ""


def assign(
    seats: Sequence[Seat], cores_per_worker: int | None = None, gpus_per_worker: float | None = None,
    ranks_per_worker: int = 1, environ: Mapping[str, str] = os.environ,
) -> dict[int, Share]:  # fmt: skip
    """Share a node among its workers.

    Args:
        seats: All ranks of the node; the manager takes cores, but no GPU.
        cores_per_worker: Cores of one evaluation; None: a fair share, not bound.
        gpus_per_worker: GPUs of one evaluation: 0, a part of one, or a whole number; None: a fair share.
        ranks_per_worker: Ranks that share one evaluation, its cores and its GPUs.
        environ: Where the user may have set the number of threads.

    Returns:
        The share of each worker, by number.

    Raises:
        ValueError: The GPUs of a worker can't be divided among its ranks.
    """
    workers = [seat for seat in seats if seat.number != 0]
    gpus = _gpus_of(workers, per_rank(gpus_per_worker, ranks_per_worker))
    parked = {number for number, ids in gpus.items() if ids is None}
    active = [seat for seat in seats if seat.number not in parked]
    same = Counter(seat.cores for seat in active)
    cores_of_rank = cores_per_worker and max(1, cores_per_worker // ranks_per_worker)
    bound = _bind([seat for seat in active if seat.number != 0], cores_of_rank) if cores_of_rank else {}
    used = Counter(_key(seat, gpu) for seat in workers for gpu in gpus[seat.number] or ())
    shares = {}
    for seat in workers:
        if (ids := gpus[seat.number]) is None:
            seen = _plural(len(seat.gpus.ids), "GPU")
            text = f"parked: {seen} visible, {gpus_per_worker:g} for each worker, none is left"
            shares[seat.number] = Share(None, None, parked=True, text=text)
            continue
        cores = bound.get(seat.number)
        threads = min(cores_of_rank, len(seat.cores)) if cores_of_rank else len(seat.cores) // same[seat.cores]
        chosen = next((f"{name}={environ[name]}" for name in THREADS if name in environ), None)
        sharing = used[_key(seat, ids[0])] if ids else 0
        words = [_words_of_cores(cores or seat.cores, 1 if cores else same[seat.cores])]
        words += [chosen or _plural(max(1, threads), "thread")]
        words += _words_of_gpus(ids, sharing, seat.gpus.ids)
        shares[seat.number] = Share(cores, None if chosen else max(1, threads), ids, sharing, False, ", ".join(words))
    return shares


def per_rank(gpus_per_worker: float | None, ranks_per_worker: int) -> float | None:
    """GPUs of one rank.

    Raises:
        ValueError: More than one, but no whole number.
    """
    if gpus_per_worker is None:
        return None
    share = gpus_per_worker / ranks_per_worker
    if share > 1 and not share.is_integer():
        raise ValueError(
            f"gpus_per_worker must be a multiple of ranks_per_worker, or less: {gpus_per_worker:g} GPUs can't be "
            f"divided among {ranks_per_worker} ranks"
        )
    return share


def hosted(seats: Sequence[Seat], gpus_per_worker: float | None = None, ranks_per_worker: int = 1) -> bool:
    """Whether rank 0 hosts a worker's process, besides: a GPU of its node, or the last part of one, would idle.

    That is where its node has as many tasks as GPUs, or as there are shares of GPUs for a rank: rank 0 would have one.
    But where a worker is several ranks, only if the one more is not left over.

    Args:
        seats: All ranks of rank 0's node.
        gpus_per_worker: GPUs of one evaluation.
        ranks_per_worker: Ranks that share one evaluation and its GPUs.
    """
    manager = next((seat for seat in seats if seat.number == 0), None)
    if manager is None or gpus_per_worker == 0 or len(seats) % ranks_per_worker:
        return False
    gpus = len({_key(seat, gpu) for seat in seats for gpu in seat.gpus.ids})
    wanted = per_rank(gpus_per_worker, ranks_per_worker) or 1
    if wanted >= 1:
        return len(seats) == gpus // int(wanted) > 0
    return len(seats) in (gpus, gpus * _parts(wanted))


def my_seat(number: int, own: bool = True) -> Seat:
    """This process: its affinity, and the GPUs it sees.

    Args:
        number: Its rank, or a local worker's number.
        own: Believe that the scheduler gave each task its own GPUs; False for several workers of one process.
    """
    gpus = visible()
    return Seat(number, tuple(sorted(os.sched_getaffinity(0))), gpus if own else replace(gpus, own=False))


def local_seats(count: int) -> list[Seat]:
    """The seats of this process's ``count`` local workers, from 1."""
    seat = my_seat(1, own=False)
    return [replace(seat, number=number) for number in range(1, count + 1)]


def local_setups(count: int, setup: Mapping[str, Any]) -> dict[int, dict[str, Any]]:
    """The setups of this process's ``count`` local workers by number, without those for whom no GPU is left."""
    seats = local_seats(count)
    shares = assign(seats, setup.get("cores_per_worker"), setup.get("gpus_per_worker"))
    return {
        seat.number: seated(setup, seat, shares[seat.number]) for seat in seats if not shares[seat.number].parked
    }  # fmt: skip


def seated(setup: Mapping[str, Any], seat: Seat, share: Share) -> dict[str, Any]:
    """A worker's setup with what it gets: ``variables cores threads resources``."""
    variables = thread_variables(share.threads)
    if share.gpus or (seat.gpus.ids and not share.parked):
        variables |= dict.fromkeys(seat.gpus.names, ",".join(share.gpus))
        on_gpu = "xpu" if LEVEL_ZERO in seat.gpus.names else "cuda"
        variables["MPIBO_DEVICE"] = on_gpu if share.gpus else "cpu"
    cores = list(share.cores) if share.cores else None
    more = {"cores": cores, "threads": share.threads, "resources": share.text}
    return {**setup, **more, "variables": {**setup.get("variables", {}), **variables}}


def settle(setup: Mapping[str, Any]) -> None:
    """In the process that evaluates, before it loads the objective: its variables, its cores."""
    os.environ.update(setup.get("variables", {}))
    if setup.get("cores"):
        with contextlib.suppress(OSError, ValueError):  # cores that went away
            os.sched_setaffinity(0, setup["cores"])


def for_rank_zero(affinity: Sequence[int], shared: bool) -> tuple[list[int], list[int]]:
    """Cores for rank 0's loop, and others for its children; all for both where it has none of its own to divide.

    Args:
        affinity: Rank 0's.
        shared: Whether other ranks of the node run on the same cores.
    """
    cores = sorted(affinity)
    return (cores, cores) if shared or len(cores) < 2 else (cores[:1], cores[1:])


def ranges(numbers: Sequence[int]) -> str:
    """Whole numbers in short: ``0-3,8``."""
    runs: list[list[int]] = []
    for number in sorted(numbers):
        if runs and number == runs[-1][-1] + 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    return ",".join(f"{run[0]}-{run[-1]}" if len(run) > 1 else str(run[0]) for run in runs)


# --- GPUs -----------------------------------------------------------------------------------------------------------


def _gpus_of(workers: Sequence[Seat], wanted: float | None) -> dict[int, tuple[str, ...] | None]:
    """The GPUs of each worker; None: it is parked. Ranks that see the same list share it."""
    pools: dict[Any, list[Seat]] = {}
    for seat in workers:
        pools.setdefault(seat.number if seat.gpus.own else seat.gpus, []).append(seat)
    given: dict[int, tuple[str, ...] | None] = {}
    for pool in pools.values():
        given |= zip((seat.number for seat in pool), _deal(pool[0].gpus.ids, len(pool), wanted), strict=True)
    return given


def _deal(ids: tuple[str, ...], workers: int, wanted: float | None) -> list[tuple[str, ...] | None]:
    """Neighbours get the same GPU, or neighbouring ones."""
    if wanted == 0 or (wanted is None and not ids):
        return [()] * workers
    if wanted is not None and wanted >= 1:
        each = int(wanted)
        cuts = [ids[each * place : each * (place + 1)] for place in range(workers)]
        return [cut if len(cut) == each else None for cut in cuts]
    places = workers if wanted is None else min(workers, len(ids) * _parts(wanted))
    if wanted is None and places < len(ids):
        return [ids[place * len(ids) // places : (place + 1) * len(ids) // places] for place in range(places)]
    dealt: list[tuple[str, ...] | None] = [
        (ids[place * len(ids) // places] if places >= len(ids) else ids[place],) for place in range(places)
    ]
    return dealt + [None] * (workers - places)


def _parts(wanted: float) -> int:
    """How many ranks share a GPU of which each wants a part."""
    return int(1 / wanted + 1e-9)


def _key(seat: Seat, gpu: str) -> tuple[int | None, str]:
    return (seat.number if seat.gpus.own else None), gpu


# --- cores ----------------------------------------------------------------------------------------------------------


def _bind(workers: Sequence[Seat], each: int) -> dict[int, tuple[int, ...]]:
    """Cores for each worker, none twice; none at all for ranks whose cores are too few for all of them."""
    taken: set[int] = set()
    bound: dict[int, tuple[int, ...]] = {}
    short = set()
    for seat in workers:
        free = [core for core in seat.cores if core not in taken]
        if len(free) < each:
            short.add(seat.cores)
            continue
        bound[seat.number] = tuple(free[:each])
        taken.update(free[:each])
    return {seat.number: bound[seat.number] for seat in workers if seat.cores not in short}


def _words_of_cores(cores: Sequence[int], sharing: int) -> str:
    return f"{_plural(len(cores), 'core')} ({ranges(cores)})" + (f" shared by {sharing}" if sharing > 1 else "")


def _words_of_gpus(ids: Sequence[str], sharing: int, seen: Sequence[str]) -> list[str]:
    if not ids:
        return ["no GPU"] if seen else []
    return [f"GPU{'s' if len(ids) > 1 else ''} {','.join(ids)}" + (f" shared by {sharing}" if sharing > 1 else "")]


def _plural(count: int, thing: str) -> str:
    return f"{count} {thing}" + ("" if count == 1 else "s")
