"""The public names of mpibo, each imported when it is first used: `import mpibo` itself costs next to nothing."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mpibo.api import Result, load, maximize, minimize
    from mpibo.engine.running import RunningTrial, Stopped
    from mpibo.search import Search
    from mpibo.space import Choice, Constant, Float, Int, Space
    from mpibo.trial import Outcome, Proposal, State, Trial

__version__ = "0.1.0"
__all__ = [
    "Choice",
    "Constant",
    "Float",
    "Int",
    "Outcome",
    "Proposal",
    "Result",
    "RunningTrial",
    "Search",
    "Space",
    "State",
    "Stopped",
    "Trial",
    "load",
    "maximize",
    "minimize",
]

_PLACES = {
    "mpibo.api": ("Result", "load", "maximize", "minimize"),
    "mpibo.engine.running": ("RunningTrial", "Stopped"),
    "mpibo.search": ("Search",),
    "mpibo.space": ("Choice", "Constant", "Float", "Int", "Space"),
    "mpibo.trial": ("Outcome", "Proposal", "State", "Trial"),
}
_MODULE_OF = {name: module for module, names in _PLACES.items() for name in names}


def __getattr__(name: str) -> Any:
    """Import a public name from its module at its first use (PEP 562)."""
    if name not in _MODULE_OF:
        raise AttributeError(f"module 'mpibo' has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(_MODULE_OF[name]), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
