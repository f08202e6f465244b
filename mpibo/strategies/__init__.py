"""Strategies: functions of the trial table that propose configs; ``make`` gives one by its name."""

from __future__ import annotations

import importlib.util
import inspect
import sys
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol, cast, get_args, runtime_checkable

import numpy as np

from mpibo.table import Trials
from mpibo.trial import Proposal

DEFAULT = "auto"

METHODS = {
    "random": ("mpibo.strategies.design", "Random"),
    "grid": ("mpibo.strategies.grid", "Grid"),
    "lhs": ("mpibo.strategies.design", "LatinHypercube"),
    "sobol": ("mpibo.strategies.design", "Sobol"),
    "ambs": ("mpibo.strategies.bayes", "Bayesian"),
    "ts": ("mpibo.strategies.thompson", "Thompson"),
    "ts-sync": ("mpibo.strategies.thompson", "Synchronous"),
    "ts-hallucinated": ("mpibo.strategies.thompson", "Hallucinated"),
    "gp-ei": ("mpibo.strategies.worksheet", "GPEI"),
    "tpe": ("mpibo.strategies.tpe", "TPE"),
    "adaptive": ("mpibo.strategies.adaptive", "Adaptive"),
    "evolution": ("mpibo.strategies.evolution", "Evolution"),
    "auto": ("mpibo.strategies.auto", "Auto"),
}


@runtime_checkable
class Strategy(Protocol):
    """A function of the table, ``rng`` and what it kept from its own earlier answers. It only reads the table."""

    def propose(self, trials: Trials, n: int, rng: np.random.Generator) -> list[Proposal]:
        """At most ``n`` configs to evaluate; an empty list means wait, or nothing left if nothing is pending."""
        ...


def make(method: str | Strategy) -> Strategy:
    """A strategy from its name and options, ``"ambs:kappa=1.96,pending=lie-worst"``.

    Args:
        method: A name of ``METHODS`` or ``file.py:Class``, options after a colon; or an object with ``propose``.

    Raises:
        ValueError: An unknown name, option or value; the message names the valid ones.
        TypeError: Neither text nor a strategy.
    """
    if not isinstance(method, str):
        if isinstance(method, type) or not isinstance(method, Strategy):
            raise TypeError(f"expected a method's name or an object with propose(trials, n, rng), got {method!r}")
        return method
    file, in_file, rest = method.partition(".py:")
    if in_file:
        name, _, options = rest.partition(":")
        maker = _load(Path(file + ".py"), name)
    else:
        name, _, options = method.partition(":")
        if name not in METHODS:
            raise ValueError(f"unknown method {name!r}: expected one of {', '.join(METHODS)}, or file.py:Class")
        module, attribute = METHODS[name]
        maker = getattr(import_module(module), attribute)
    if not callable(maker):
        made = maker
    else:
        try:
            made = maker(**parse_options(name, options, maker))
        except ValueError as error:
            raise ValueError(f"method {method!r}: {error}") from None
    if not isinstance(made, Strategy):
        raise TypeError(f"method {method!r}: expected an object with propose(trials, n, rng), got {made!r}")
    return made


def _load(path: Path, name: str) -> Any:
    if not path.is_file():
        raise ValueError(f"method {path}:{name}: there is no file {path}")
    spec = importlib.util.spec_from_file_location(f"mpibo_method_{path.stem}", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses and pickle look it up
    spec.loader.exec_module(module)
    if not hasattr(module, name):
        raise ValueError(f"method {path}:{name}: {path} has no {name!r}")
    return getattr(module, name)


def parse_options(name: str, text: str, maker: Any, held: Sequence[str] = ()) -> dict[str, Any]:
    """Keyword arguments from ``"kappa=1.96,model=rf"``, with the types of the maker's signature.

    Args:
        name: What to call the maker in messages.
        text: The options.
        maker: What takes them.
        held: Its parameters that are no options.

    Raises:
        ValueError: An option that it does not take, or one twice, or a value that does not fit.
    """
    parameters = inspect.signature(maker, eval_str=True).parameters.values()
    kinds = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    hints = {p.name: p.annotation for p in parameters if p.kind in kinds and p.name not in held}
    options: dict[str, Any] = {}
    for item in filter(None, text.split(",")):
        option, equals, value = (part.strip() for part in item.partition("="))
        if not equals or option not in hints:
            raise ValueError(f"no option {item!r}: {name} takes {', '.join(f'{each}=' for each in hints) or 'none'}")
        if option in options:
            raise ValueError(f"option {option!r} is given twice")
        options[option] = _value(option, value, hints[option])
    return options


def _value(option: str, text: str, hint: Any) -> Any:
    kinds = get_args(hint) or (hint,)
    if text.lower() == "none" and type(None) in kinds:
        return None
    for kind, wanted in ((bool, "true or false"), (int, "a whole number"), (float, "a number")):
        if kind in kinds:
            try:
                return {"true": True, "false": False}[text.lower()] if kind is bool else cast(type, kind)(text)
            except (ValueError, KeyError):
                if str not in kinds:
                    raise ValueError(f"{option}={text}: expected {wanted}") from None
    return text
