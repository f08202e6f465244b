"""Checkpoints: the parts of a training, the random states and a small state in one file that can't run code.

All but arrays and tensors is one JSON text, in which these stand as numbers; they follow it. Where torch is loaded the
file is one of ``torch.save``, read with ``weights_only``; else one that ``numpy.load`` reads without pickles. Which of
the two it is, its content tells.
"""

from __future__ import annotations

import copy
import hashlib
import importlib
import json
import os
import random
import sys
import uuid
import zipfile
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, cast

from mpibo.store.atomic import sync_folder
from mpibo.store.structure import Leaves, tensor_of, value_of

TEXT = "structure"  # the name of the JSON text in the file


class Unusable(ValueError):
    """A checkpoint that can't be gone on from: it is missing, damaged, can't be read, or does not fit."""


@dataclass(frozen=True)
class Saved:
    """What a checkpoint holds.

    Attributes:
        step: Steps that were done.
        value: The value reported last; None without one.
        parts: The state of each part.
        state: The small state.
        random: The random states, by library.
    """

    step: int
    value: float | None
    parts: Mapping[str, Any]
    state: dict[str, Any]
    random: Mapping[str, Any]

    def restore(self, parts: Mapping[str, Any]) -> None:
        """Load every part in place, then set the random states.

        Raises:
            Unusable: It does not fit the parts; they are as they were.
        """
        if missing := [name for name in parts if name not in self.parts]:
            there = ", ".join(self.parts) or "none"
            raise Unusable(f"does not fit (it has no part {missing[0]!r}; it has {there})")
        before = {name: copy.deepcopy(part.state_dict()) for name, part in parts.items()}
        name = ""
        try:
            for name, part in parts.items():
                part.load_state_dict(self.parts[name])
        except Exception as error:  # anything that a part's own code may raise
            for name_before, state in before.items():
                parts[name_before].load_state_dict(state)
            raise Unusable(f"does not fit ({name}: {_in_a_line(error)})") from error
        _set_random(self.random)


def save(
    path: str | os.PathLike[str], step: int, parts: Mapping[str, Any], state: Mapping[str, Any],
    value: float | None = None,
) -> dict[str, Any]:  # fmt: skip
    """Write a checkpoint whole or not at all: to a temporary file in its folder, synced, renamed.

    Args:
        path: Where; its folder is made if need be.
        step: Steps that are done.
        parts: By name what has a ``state_dict``.
        state: The small state.
        value: The value reported last.

    Returns:
        ``step``, ``sha256`` of the file's bytes in hexadecimal, and ``bytes``, their number.

    Raises:
        TypeError: The state of a part, or the small state, holds what can't be kept; names it.
        OSError: It can't be written; nothing has changed.
    """
    path = Path(path)
    leaves = Leaves()
    content = {
        "step": step, "value": value,
        "state": leaves.plain(dict(state), "state"),
        "random": leaves.plain(_random(), ""),
        "parts": leaves.plain({name: part.state_dict() for name, part in parts.items()}, ""),
    }  # fmt: skip
    if not path.parent.is_dir():
        path.parent.mkdir(parents=True, exist_ok=True)
        sync_folder(path.parent.parent)
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex[:12]}.tmp")
    try:
        with open(temporary, "xb") as file:
            hashed = _Hashed(file)
            try:
                _write(hashed, json.dumps(content), leaves.found)
            except Exception as error:  # torch has errors of its own for a file that can't be written
                raise (hashed.error or error) from None
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        with suppress(OSError):
            temporary.unlink()
        raise
    sync_folder(path.parent)
    return {"step": step, "sha256": hashed.digest.hexdigest(), "bytes": hashed.size}


def load(path: str | os.PathLike[str], sha256: str) -> Saved:
    """Read a checkpoint whose bytes have this SHA-256. Tensors come to the CPU; a part takes them where it is.

    Raises:
        Unusable: It is missing, has another hash, or can't be read.
    """
    try:
        with open(path, "rb") as file:
            if hashlib.file_digest(file, "sha256").hexdigest() != sha256:
                raise Unusable("is damaged (its hash differs)")
            text, leaves = _read(file)
        content = json.loads(text)
        parts, state, states = (value_of(content[name], leaves) for name in ("parts", "state", "random"))
        return Saved(content["step"], content["value"], parts, state, states)
    except FileNotFoundError:
        raise Unusable("is missing") from None
    except Unusable:
        raise
    except Exception as error:  # a file of another version, or one that was made to do harm
        raise Unusable(f"can't be read ({_in_a_line(error)})") from error


def check_part(name: str, part: Any) -> None:
    """A part must be able to tell its state and to take it back.

    Raises:
        TypeError: It is not.
    """
    lacks = [each for each in ("state_dict", "load_state_dict") if not callable(getattr(part, each, None))]
    if lacks:
        raise TypeError(
            f"resume({name}=...): {type(part).__name__} has no {' and no '.join(lacks)}; keep its numbers and arrays "
            f"by report(..., state={{...}}), they come back as trial.saved"
        )


def check_state(state: Any) -> None:
    """The small state must be a dict of what can be kept.

    Raises:
        TypeError: It is not; names the key.
    """
    if not isinstance(state, Mapping):
        raise TypeError(f"state must be a dict, got {type(state).__name__}")
    Leaves().plain(dict(state), "state")


def _write(file: _Hashed, text: str, found: list[Any]) -> None:
    """Write the text and the leaves."""
    if (torch := sys.modules.get("torch")) is not None:
        tensors = [leaf if isinstance(leaf, torch.Tensor) else tensor_of(leaf, torch) for leaf in found]
        torch.save({TEXT: text, "leaves": tensors}, file)
        return
    import numpy

    arrays = {TEXT: numpy.frombuffer(text.encode(), numpy.uint8)} | {f"leaf{i}": leaf for i, leaf in enumerate(found)}
    with zipfile.ZipFile(cast(IO[bytes], file), "w") as archive:
        for name, array in arrays.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as entry:
                numpy.lib.format.write_array(entry, array, allow_pickle=False)


def _read(file: IO[bytes]) -> tuple[str, list[Any]]:
    """The text and the leaves of an open file of either kind."""
    names = zipfile.ZipFile(file).namelist()
    file.seek(0)
    if any(name.endswith("/data.pkl") for name in names):
        import torch

        found = torch.load(file, map_location="cpu", weights_only=True)
        return found[TEXT], found["leaves"]
    import numpy

    with numpy.load(file, allow_pickle=False) as arrays:
        text = arrays[TEXT].tobytes().decode()
        return text, [arrays[f"leaf{i}"] for i in range(len(names) - 1)]


def _random() -> dict[str, Any]:
    """The random states of the libraries that are loaded."""
    states: dict[str, Any] = {"random": random.getstate()}
    if (numpy_random := sys.modules.get("numpy.random")) is not None:
        states["numpy"] = numpy_random.get_state(legacy=False)
    if (torch := sys.modules.get("torch")) is not None:
        states["torch"] = torch.get_rng_state()
        if torch.cuda.is_available() and torch.cuda.is_initialized():  # else its states are the seed's
            states["cuda"] = torch.cuda.get_rng_state_all()
    return states


def _set_random(states: Mapping[str, Any]) -> None:
    """Go on with the random numbers where they were; a library that is not loaded yet is loaded first."""
    random.setstate(states["random"])
    if "numpy" in states:
        importlib.import_module("numpy.random").set_state(states["numpy"])
    if "torch" in states:
        import torch

        torch.set_rng_state(states["torch"])
        if torch.cuda.is_available():
            for device, state in enumerate(states.get("cuda", ())[: torch.cuda.device_count()]):
                torch.cuda.set_rng_state(state, device)


def _in_a_line(error: BaseException) -> str:
    text = " ".join(f"{type(error).__name__}: {error}".split())
    return text if len(text) <= 300 else f"{text[:300]}..."


class _Hashed:
    """A file that is written from its beginning to its end, and hashed on the way."""

    def __init__(self, file: IO[bytes]) -> None:
        self.digest = hashlib.sha256()
        self.size = 0
        self.error: OSError | None = None
        self._file = file

    def write(self, data: Any) -> int:
        view = memoryview(data).cast("B")
        try:
            self._file.write(view)
        except OSError as error:
            self.error = error
            raise
        self.digest.update(view)
        self.size += len(view)
        return len(view)

    def flush(self) -> None:
        self._file.flush()
