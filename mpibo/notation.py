"""How a parameter is written: in Python's shorthand, in JSON and in TOML."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any

import numpy as np

from mpibo.parameters import UNSET, Choice, Constant, Float, Int, Parameter

_KINDS: dict[str, tuple[type[Any], tuple[str, ...], tuple[str, ...]]] = {
    "float": (Float, ("low", "high"), ("log", "step", "default", "when")),
    "int": (Int, ("low", "high"), ("log", "step", "default", "when")),
    "choice": (Choice, ("values",), ("ordered", "default", "when")),
    "constant": (Constant, ("value",), ("when",)),
}


def from_shorthand(value: Any) -> Parameter:
    """The parameter that a person means: ``(1e-5, 1e-1, "log")``, ``(1, 6)``, ``["adam", "sgd"]``, ``3``.

    Raises:
        ValueError: A tuple that is no range, or ``(0, 1)``, which could be a fraction or a switch.
        TypeError: A value of another type.
    """
    if isinstance(value, Parameter):
        return value
    if isinstance(value, list):
        return Choice(value)
    if not isinstance(value, tuple):
        return Constant(value)
    bounds = [item.item() if isinstance(item, np.generic) else item for item in value]
    log = len(bounds) == 3 and bounds[2] == "log"
    if log:
        bounds.pop()
    if len(bounds) != 2 or not all(type(bound) in (int, float) for bound in bounds):
        raise ValueError(f'a range is (low, high) or (low, high, "log"), got {value!r}; write a list for a choice')
    low, high = bounds
    if float in (type(low), type(high)):
        return Float(low, high, log=log)
    if (low, high) == (0, 1):
        raise ValueError("(0, 1) could mean two things: write (0.0, 1.0) for a fraction or Int(0, 1) for 0 or 1")
    return Int(low, high, log=log)


def from_json(data: Any) -> Parameter:
    """The parameter of ``Parameter.to_json``.

    Raises:
        ValueError: An unknown type or key, or one missing.
    """
    if not isinstance(data, Mapping) or data.get("type") not in _KINDS:
        raise ValueError(f"a parameter in JSON is an object with a type ({', '.join(_KINDS)}), got {data!r}")
    kind, needed, options = _KINDS[data["type"]]
    check_keys(data, ("type", *needed), options)
    given = {name: value for name, value in data.items() if name != "type"}
    if kind is Choice:
        given["values"] = [_from_json(value) for value in _array("values", given["values"])]
    for name in given.keys() & {"value", "default"}:
        given[name] = _from_json(given[name])
    parts = [given.pop(name) for name in needed]
    return kind(*parts, **given)


def to_toml(parameter: Parameter) -> str:
    """The parameter as the right side of a TOML line."""
    given = {item.name: getattr(parameter, item.name) for item in fields(parameter)}  # type: ignore[arg-type]
    _, needed, options = _KINDS[parameter.kind]
    main: Any = [given[name] for name in needed]
    main = main if len(needed) == 2 else main[0]
    absent = {"log": False, "ordered": False, "default": UNSET if parameter.kind == "choice" else None}
    rest = {name: given[name] for name in options if given[name] is not absent.get(name)}
    if not rest and (parameter.kind == "choice" or (parameter.kind == "constant" and not isinstance(main, tuple))):
        return toml_value(main)
    parts = [f"{name} = {toml_value(value)}" for name, value in {parameter.kind: main, **rest}.items()]
    return "{" + ", ".join(parts) + "}"


def from_toml(value: Any) -> Parameter:
    """The parameter that a TOML value means: an array is a choice, a table says its kind, else it is a constant.

    Raises:
        ValueError: A table without one of the keys float, int, choice and constant, or with an unknown key.
    """
    value = _from_toml(value)
    if isinstance(value, tuple):
        return Choice(value)
    if not isinstance(value, dict):
        return Constant(value)
    kinds = [name for name in _KINDS if name in value]
    if len(kinds) != 1:
        raise ValueError(f"a table needs one of the keys {', '.join(_KINDS)}, got {', '.join(value) or 'none'}")
    name = kinds[0]
    kind, needed, options = _KINDS[name]
    check_keys(value, (name,), options)
    main = value.pop(name)
    if kind is Constant:
        return Constant(main, **value)
    if kind is Choice:
        return Choice(_array(name, main), **value)
    if len(_array(name, main)) != len(needed):
        raise ValueError(f"expected {name} = [low, high], got {name} = {list(main)}")
    return kind(*main, **value)


def toml_value(value: Any) -> str:
    """A value in TOML; None is ``{none = true}``."""
    if value is None:
        return "{none = true}"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (tuple, list)):
        return "[" + ", ".join(map(toml_value, value)) + "]"
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007F")
    return repr(value)


def check_keys(data: Mapping[str, Any], needed: Sequence[str], options: Sequence[str] = ()) -> None:
    """ValueError: a key too many, or one missing."""
    for name in data:
        if name not in (*needed, *options):
            raise ValueError(f"unknown key {name!r}; known are {', '.join((*needed, *options))}")
    for name in needed:
        if name not in data:
            raise ValueError(f"the key {name!r} is missing, got {', '.join(map(str, data)) or 'none'}")


def _from_json(value: Any) -> Any:
    if isinstance(value, dict) and list(value) == ["tuple"]:
        return tuple(_from_json(item) for item in _array("tuple", value["tuple"]))
    return value


def _from_toml(value: Any) -> Any:
    if isinstance(value, list):
        return tuple(map(_from_toml, value))
    if isinstance(value, Mapping):
        return None if value == {"none": True} else {str(name): _from_toml(item) for name, item in value.items()}
    return value


def _array(name: str, value: Any) -> Any:
    if not isinstance(value, (list, tuple)):
        raise ValueError(f"{name} must be an array, got {value!r}")
    return value
