"""Groups: which ranks evaluate together, how their children meet, and whose outcome counts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from mpibo.engine.messages import Message
from mpibo.trial import State

# What a failure says of its cause: a broken connection is an exception in those that live on.
CAUSES = ("lost", "crash", "memory", "exit", "timeout", "exception")


def groups_of(nodes: Sequence[Any], ranks_per_worker: int) -> tuple[list[list[int]], list[int]]:
    """Group the ranks 1 to n into workers, on one node where possible.

    Args:
        nodes: The node of each rank from 1 on.
        ranks_per_worker: Ranks of a worker.

    Returns:
        The ranks of each worker, by its first rank; and those that are left over.
    """
    by_node: dict[Any, list[int]] = {}
    for rank, node in enumerate(nodes, start=1):
        by_node.setdefault(node, []).append(rank)
    groups, left = [], []
    for ranks in by_node.values():
        whole = len(ranks) - len(ranks) % ranks_per_worker
        groups += [ranks[place : place + ranks_per_worker] for place in range(0, whole, ranks_per_worker)]
        left += ranks[whole:]
    whole = len(left) - len(left) % ranks_per_worker
    groups += [left[place : place + ranks_per_worker] for place in range(0, whole, ranks_per_worker)]
    return sorted(groups), left[whole:]


def join_group(group: Mapping[str, Any]) -> None:
    """In a child: become one of a ``torch.distributed`` group.

    Args:
        group: ``file`` of the rendezvous, ``rank``, ``size``, ``gpus``: whether each rank has a GPU of its own.

    Raises:
        ImportError: There is no torch.
    """
    try:
        import torch
        import torch.distributed as distributed
    except ImportError as error:
        raise ImportError(f"ranks_per_worker {group['size']} with isolation process needs torch: {error}") from error
    on_gpus = group["gpus"] and torch.cuda.is_available() and distributed.is_nccl_available()
    distributed.init_process_group(
        "cpu:gloo,cuda:nccl" if on_gpus else "gloo", init_method=f"file://{group['file']}", rank=group["rank"],
        world_size=group["size"],
    )  # fmt: skip


def telling(told: Mapping[int, Message]) -> int:
    """The rank whose outcome is the group's: the first one's, unless one has failed and says more of the cause.

    Args:
        told: The ``finished`` messages, by rank of the group. A further rank may end without a value.
    """
    first = state_of(told[0]) if 0 in told else None
    if first is State.STOPPED:
        return 0
    failed = [rank for rank, message in told.items() if rank and has_failed(message)]
    if first is State.DONE:
        failed = [rank for rank in failed if state_of(told[rank]) is State.FAILED]
    elif first is not None:
        failed.append(0)
    return min(failed, key=lambda rank: (_cause(told[rank]), rank), default=0)


def in_step(told: Mapping[int, Message]) -> bool:
    """Whether all ranks have ended alike: none of them left the others alone in the middle of something."""
    states = {State.DONE if rank and not has_failed(told[rank]) else state_of(told[rank]) for rank in told}
    stopped = {state_of(message) for message in told.values()} == {State.STOPPED}
    return stopped or (states == {State.DONE} and State.STOPPED not in map(state_of, told.values()))


def state_of(message: Message) -> State:
    """The state that a ``finished`` message tells."""
    return State(message["outcome"]["state"])


def _cause(message: Message) -> int:
    reason = message["outcome"].get("reason")
    return CAUSES.index(reason) if reason in CAUSES else len(CAUSES)


def has_failed(message: Message) -> bool:
    """Whether a further rank has failed; only the first one needs a value."""
    return state_of(message) is State.LOST or (state_of(message) is State.FAILED and _cause(message) < len(CAUSES))
