"""How an objective gets into its child: by name where it has one, else pickled; and held against the space."""

from __future__ import annotations

import base64
import functools
import hashlib
import importlib
import importlib.util
import inspect
import io
import os
import sys
import types
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

Objective = Callable[..., Any]
Description = dict[str, Any]

PICKLE_WARNING_BYTES = 10 * 1024 * 1024
RESERVED = ("trial", "config")
MAIN = "__mpibo_main__"  # the name under which a child imports the user's script

loading = False  # whether this process imports a user's file right now


def describe(function: Objective) -> Description:
    """How a child loads this function: its module and name, its file, or a pickle.

    A module-level function of an importable module or of a script is imported by the child, as multiprocessing's
    spawn does. Lambdas, closures, partials, methods and notebook functions go by cloudpickle.
    """
    module, name = getattr(function, "__module__", None), getattr(function, "__qualname__", None)
    if module and name and name.isidentifier():
        home = sys.modules.get(module)
        if home is not None and getattr(home, name, None) is function:
            file = getattr(home, "__file__", None)
            if module in ("__main__", MAIN):
                if file and os.path.exists(file) and not _interactive(home):
                    return {"kind": "file", "path": os.path.abspath(file), "function": name}
            elif getattr(home, "__spec__", None) is not None:
                return {"kind": "module", "module": module, "function": name}
    data = dump(function)
    return {"kind": "pickle", "data": base64.b64encode(data).decode(), "name": name or type(function).__name__}


def named(text: str) -> Description:
    """The description of ``file.py:function`` or ``package.module:function``.

    Raises:
        ValueError: Neither form.
    """
    place, colon, name = text.rpartition(":")
    if not colon or not name.isidentifier() or not place:
        raise ValueError(f"expected file.py:function or package.module:function, got {text!r}")
    if place.endswith(".py") or os.sep in place:
        path = os.path.abspath(place)
        if not os.path.isfile(path):
            raise ValueError(f"there is no file {place} (objective {text})")
        return {"kind": "file", "path": path, "function": name}
    return {"kind": "module", "module": place, "function": name}


def load(description: Description) -> Objective:
    """Load a described objective into this process.

    Raises:
        Exception: Whatever the user's file raises; LookupError when it has no such function.
    """
    global loading
    loading = True
    try:
        match description["kind"]:
            case "file":
                return _function(_load_file(description["path"]), description["function"], description["path"])
            case "module":
                if "" not in sys.path and os.getcwd() not in sys.path:
                    sys.path.insert(0, os.getcwd())
                module = importlib.import_module(description["module"])
                return _function(module, description["function"], description["module"])
            case "pickle":
                import pickle

                function: Objective = pickle.loads(base64.b64decode(description["data"]))
                return function
            case "command":
                from mpibo.objectives.command import Command

                return Command(description["argv"])
            case kind:
                raise ValueError(f"unknown kind of objective {kind!r}")
    finally:
        loading = False


def source_hash(description: Description, objective: Objective) -> str | None:
    """A hash of the objective's source, to warn when a run goes on with another one; None where it has none."""
    if description["kind"] == "command":
        text = repr(description["argv"])
    else:
        try:
            text = inspect.getsource(objective)
        except (OSError, TypeError):
            return None
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def parameters_of(objective: Objective) -> list[tuple[str, str, bool]]:
    """Name, kind (``one``, ``rest``) and whether it has a default, of each argument that a keyword can fill."""
    found = []
    for name, parameter in inspect.signature(objective).parameters.items():
        if parameter.kind is parameter.VAR_KEYWORD:
            found.append((name, "rest", True))
        elif parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY):
            found.append((name, "one", parameter.default is not parameter.empty))
        elif parameter.kind is parameter.POSITIONAL_ONLY and parameter.default is parameter.empty:
            raise ValueError(f"the objective's argument {name!r} is positional only; it must accept a keyword")
    return found


def check_budget(function: Objective, name: str) -> None:
    """An objective whose trials differ in their budget must be able to see it.

    Raises:
        ValueError: It takes neither ``trial``, nor does its source, or its command line, name MPIBO_BUDGET.
    """
    sees = getattr(function, "sees_budget", None)
    if sees is None:
        try:
            source = inspect.getsource(inspect.unwrap(function))
        except (OSError, TypeError):
            source = ""
        sees = "MPIBO_BUDGET" in source or any(argument == "trial" for argument, _, _ in parameters_of(function))
    if not sees:
        how = "use {trial.budget}" if hasattr(function, "sees_budget") else "take `trial` and train for trial.budget"
        raise ValueError(f"{name} can't see its budget, which a schedule sets: {how}, or read MPIBO_BUDGET")


def check_signature(
    arguments: Sequence[tuple[str, str, bool]],
    space: Mapping[str, Any],
    fix: Iterable[str],
    name: str = "the objective",
) -> None:
    """Hold an objective's arguments against the space before the first trial.

    Args:
        arguments: As ``parameters_of`` gives them.
        space: The space's JSON form.
        fix: Names held by ``--fix``.
        name: What to call the objective.

    Raises:
        ValueError: A missing argument, an unknown one, or a conditional parameter without a default.
    """
    parameters = {each["name"]: each for each in space["parameters"]}
    known = {argument for argument, kind, _ in arguments if kind == "one"}
    rest = any(kind == "rest" for _, kind, _ in arguments)
    for fixed in fix:
        if fixed in parameters:
            raise ValueError(f"{fixed!r} is a parameter of the space and can't be fixed; take it out of the space")
        if not rest and fixed not in known:
            raise ValueError(f"{name} has no argument {fixed!r} to fix; it takes {', '.join(sorted(known)) or 'none'}")
    given = set(fix) | set(RESERVED) | set(parameters)
    if "config" not in known:
        for parameter in parameters:
            if not rest and parameter not in known:
                raise ValueError(f"{name} has no argument {parameter!r}, a parameter of the space; "
                                 f"it takes {', '.join(sorted(known)) or 'none'}")  # fmt: skip
    for argument, kind, default in arguments:
        if kind == "rest" or default:
            continue
        if argument not in given:
            raise ValueError(f"{name} needs {argument!r}, which is no parameter of the space; "
                             f"add it, give it a default, or hold it with --fix {argument}=VALUE")  # fmt: skip
        if argument in parameters and parameters[argument].get("when") and argument not in fix:
            raise ValueError(f"{name} needs {argument!r} always, but it is only there when "
                             f"{parameters[argument]['when']}; give the argument a default")  # fmt: skip


def call(objective: Objective, arguments: Sequence[tuple[str, str, bool]], trial: Any, fix: Mapping[str, Any]) -> Any:
    """Evaluate: the config's names as keywords, ``config`` and ``trial`` where the objective takes them."""
    names = {argument for argument, kind, _ in arguments if kind == "one"}
    rest = any(kind == "rest" for _, kind, _ in arguments)
    keywords = {name: value for name, value in trial.config.items() if rest or name in names}
    keywords.update(fix)
    if "config" in names:
        keywords["config"] = dict(trial.config)
    if "trial" in names:
        keywords["trial"] = trial
    return objective(**keywords)


def dump(value: Any) -> bytes:
    """Pickle a user's object by value; ``functools.cache`` around a function is rebuilt in the child."""
    import cloudpickle

    cached = type(functools.lru_cache(lambda: None))

    class Pickler(cloudpickle.Pickler):
        def reducer_override(self, item: Any) -> Any:
            if type(item) is cached and _by_value(item):
                return _cached, (item.__wrapped__, item.cache_parameters())
            return super().reducer_override(item)

    buffer = io.BytesIO()
    Pickler(buffer).dump(value)
    return buffer.getvalue()


def _by_value(item: Any) -> bool:
    home = sys.modules.get(item.__module__)
    return item.__module__ in ("__main__", MAIN) or getattr(home, item.__qualname__, None) is not item


def _cached(function: Objective, parameters: Mapping[str, Any]) -> Objective:
    return functools.lru_cache(**parameters)(function)


def _function(module: types.ModuleType, name: str, where: str) -> Objective:
    function = getattr(module, name, None)
    if not callable(function):
        found = [each for each, value in vars(module).items() if inspect.isfunction(value) and not each.startswith("_")]
        raise LookupError(f"{where} has no function {name!r}; it has {', '.join(found) or 'none'}")
    return function


def _load_file(path: str) -> types.ModuleType:
    folder = os.path.dirname(path)
    if folder not in sys.path:
        sys.path.insert(0, folder)
    name = _name_of(path)
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def _name_of(path: str) -> str:
    """The file's own name where importing that finds this file, so that an objective's own processes find it too."""
    name = Path(path).stem
    if not name.isidentifier() or name in sys.modules:
        return MAIN
    found = importlib.util.find_spec(name)
    return name if found is not None and found.origin == path else MAIN


def _interactive(module: types.ModuleType) -> bool:
    return (
        hasattr(sys, "ps1") or "ipykernel" in sys.modules or Path(getattr(module, "__file__", "")).name.startswith("<")
    )
