"""Values as one JSON text and the arrays and tensors beside it, and back; nothing in it can run code."""

from __future__ import annotations

import io
import sys
from collections import Counter, OrderedDict
from typing import Any

KEPT = "a checkpoint keeps numbers, text, None, lists, dicts, NumPy arrays and tensors"
MAPS: tuple[type, ...] = (dict, OrderedDict, Counter)
LISTS: tuple[type, ...] = (tuple, set, frozenset)
KINDS = {kind.__name__: kind for kind in MAPS + LISTS}


class Leaves:
    """Arrays and tensors, in the order in which they were found.

    Attributes:
        found: They themselves.
    """

    def __init__(self) -> None:
        self.found: list[Any] = []

    def plain(self, value: Any, where: str) -> Any:
        """A value as JSON can say it; ``where`` it is goes into the error.

        What JSON has none of is a dict of its kind: ``{"tuple": [...]}``, ``{"dict": [[key, value], ...]}``,
        ``{"array": 3}``.

        Raises:
            TypeError: It can't be kept.
        """
        kind = type(value)
        if value is None or kind in (bool, int, float, str):
            return value
        if kind is list:
            return [self.plain(item, f"{where}[{i}]") for i, item in enumerate(value)]
        if kind in MAPS:
            pairs = [
                [self.plain(key, where), self.plain(item, f"{where}[{key!r}]" if where else str(key))]
                for key, item in value.items()
            ]
            about = getattr(value, "_metadata", None)  # of a module's state_dict: the versions of its layers
            return {kind.__name__: pairs} | ({} if about is None else {"metadata": self.plain(about, where)})
        if kind in LISTS:
            return {kind.__name__: [self.plain(item, f"{where}[{i}]") for i, item in enumerate(value)]}
        if kind is complex:
            return {"complex": [value.real, value.imag]}
        if kind is bytes:
            return {"bytes": value.hex()}
        return self._leaf(value, where)

    def _leaf(self, value: Any, where: str) -> Any:
        torch, numpy = sys.modules.get("torch"), sys.modules.get("numpy")
        name = None
        if torch is not None and isinstance(value, torch.Tensor):
            name, value = "tensor", value.detach()
        elif torch is not None and type(value) in (torch.dtype, torch.device):
            return {type(value).__name__: str(value)}
        elif torch is not None and type(value) is torch.Size:
            return {"Size": list(value)}
        elif numpy is not None and not getattr(getattr(value, "dtype", None), "hasobject", True):
            if type(value) is numpy.ndarray:
                name = "array"
            elif isinstance(value, numpy.generic):
                name, value = "scalar", numpy.asarray(value)
        if name is None:
            raise TypeError(f"{where or 'it'} is of the type {type(value).__name__}; {KEPT}")
        self.found.append(value)
        return {name: len(self.found) - 1}


def value_of(told: Any, leaves: list[Any]) -> Any:
    """The value that ``Leaves.plain`` told.

    Raises:
        ValueError, LookupError, TypeError: It did not tell this.
    """
    if isinstance(told, list):
        return [value_of(item, leaves) for item in told]
    if not isinstance(told, dict):
        return told
    kind = next(iter(told))
    inner = told[kind]
    if KINDS.get(kind) in MAPS:
        value = KINDS[kind]({value_of(key, leaves): value_of(item, leaves) for key, item in inner})
        if "metadata" in told:
            value._metadata = value_of(told["metadata"], leaves)
        return value
    if kind in KINDS:
        return KINDS[kind](value_of(item, leaves) for item in inner)
    match kind:
        case "complex":
            return complex(*inner)
        case "bytes":
            return bytes.fromhex(inner)
        case "tensor":
            return leaves[inner]
        case "array":
            return array_of(leaves[inner])
        case "scalar":
            return array_of(leaves[inner])[()]
    import torch

    match kind:
        case "Size":
            return torch.Size(inner)
        case "device":
            return torch.device(inner)
        case "dtype" if isinstance(found := getattr(torch, inner.removeprefix("torch.")), torch.dtype):
            return found
    raise ValueError(f"a {kind!r} is nothing that is kept")


def tensor_of(array: Any, torch: Any) -> Any:
    """An array among tensors: its bytes as ``numpy.save`` writes them, since torch knows fewer types than NumPy."""
    import numpy

    buffer = io.BytesIO()
    numpy.lib.format.write_array(buffer, array, allow_pickle=False)
    return torch.frombuffer(bytearray(buffer.getvalue()), dtype=torch.uint8)


def array_of(leaf: Any) -> Any:
    """The array that is a leaf, or that ``tensor_of`` put among tensors."""
    import numpy

    if isinstance(leaf, numpy.ndarray):
        return leaf
    return numpy.lib.format.read_array(io.BytesIO(leaf.numpy().tobytes()), allow_pickle=False)
