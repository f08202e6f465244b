"""Seeds: a trial sees the same random numbers, whatever it imports and when."""

from __future__ import annotations

import importlib.abc
import importlib.util
import random
import sys
from collections.abc import Callable, Sequence
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

SEEDERS: dict[str, Callable[[Any, int], None]] = {
    "numpy.random": lambda module, seed: module.seed(seed),
    "torch": lambda module, seed: module.manual_seed(seed),
}


class Seeds(importlib.abc.MetaPathFinder):
    """Seed random, numpy.random and torch; those that are not loaded yet as soon as they are."""

    def __init__(self) -> None:
        self._seed = 0
        sys.meta_path.insert(0, self)

    def set(self, seed: int) -> None:
        """Seed everything: a trial begins."""
        self._seed = seed
        random.seed(seed)
        for name, seeder in SEEDERS.items():
            if name in sys.modules:
                seeder(sys.modules[name], seed)

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """The spec of a library that we seed, its loader wrapped so that it is seeded right after its import."""
        if name not in SEEDERS:
            return None
        for finder in sys.meta_path:
            if isinstance(finder, Seeds) or not hasattr(finder, "find_spec"):
                continue
            spec = finder.find_spec(name, path, target)
            if spec is not None and spec.loader is not None:
                spec.loader = _Seeding(spec.loader, lambda module: SEEDERS[name](module, self._seed))
                return spec
        return None


class _Seeding(importlib.abc.Loader):
    """Another loader, with a step after it."""

    def __init__(self, loader: Any, after: Callable[[ModuleType], None]) -> None:
        self._loader = loader
        self._after = after

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loader, name)

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        module: ModuleType | None = self._loader.create_module(spec)
        return module

    def exec_module(self, module: ModuleType) -> None:
        self._loader.exec_module(module)
        spec = module.__spec__
        if spec is not None:
            spec.loader = self._loader  # as if nobody had been here
        module.__loader__ = self._loader
        self._after(module)
