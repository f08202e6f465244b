"""How a space is written: in Python's shorthand, in JSON and TOML, in files, and in lines for a reader.

Whatever is read comes as parameters by name and the texts of ``forbid``.
"""

from __future__ import annotations

import json
import tomllib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from mpibo import notation
from mpibo.parameters import Parameter

Written = tuple[dict[str, Parameter], Any]  # parameters, and forbid as it stands there
RESERVED = ("trial", "config")


def from_shorthand(parameters: Any) -> dict[str, Parameter]:
    """The parameters that a person means by a dict, with names that a space may have.

    Raises:
        ValueError: A name that is empty, reserved or has blanks, quotes, ``=`` or braces; a parameter without meaning.
        TypeError: No dict, an empty one, a name that is no text, a value that no config can hold.
    """
    if not isinstance(parameters, Mapping) or not parameters:
        raise TypeError(f"a space is a dict of at least one parameter, got {parameters!r:.80}")
    return {name: _parameter(name, value) for name, value in parameters.items()}


def forbid_of(texts: Any) -> tuple[str, ...]:
    """The expressions of ``forbid``. TypeError: no list of texts."""
    if not isinstance(texts, (list, tuple)) or not all(isinstance(text, str) for text in texts):
        raise TypeError(f"forbid must be a list of expressions in text, got {texts!r}")
    return tuple(texts)


def to_json(parameters: Mapping[str, Parameter], forbid: Sequence[str]) -> dict[str, Any]:
    """A dict that strict JSON can hold."""
    listed = [{"name": name, **parameter.to_json()} for name, parameter in parameters.items()]
    return {"parameters": listed, "forbid": list(forbid)}


def from_json(data: Any) -> Written:
    """What stands in ``to_json``'s dict."""
    if not isinstance(data, Mapping) or not isinstance(data.get("parameters"), list):
        raise ValueError(f'a space in JSON is {{"parameters": [...], "forbid": [...]}}, got {data!r:.80}')
    notation.check_keys(data, ("parameters",), ("forbid",))
    found: dict[str, Parameter] = {}
    for item in data["parameters"]:
        if not isinstance(item, Mapping) or "name" not in item:
            raise ValueError(f"a parameter in JSON is an object with a name, got {item!r:.80}")
        rest = dict(item)
        name = rest.pop("name")
        if name in found:
            raise ValueError(f"the parameter {name!r} is there twice")
        found[name] = _named(name, notation.from_json, rest)
    return found, data.get("forbid", ())


def to_toml(parameters: Mapping[str, Parameter], forbid: Sequence[str]) -> str:
    """A ``[space]`` table with ``forbid`` before it."""
    lines = [f"forbid = {notation.toml_value(forbid)}", ""] if forbid else []
    lines.append("[space]")
    for name, parameter in parameters.items():
        bare = name.isascii() and name.replace("-", "").replace("_", "a").isalnum()
        lines.append(f"{name if bare else notation.toml_value(name)} = {notation.to_toml(parameter)}")
    return "\n".join(lines) + "\n"


def from_toml(source: Any) -> Written:
    """What stands in a TOML text, or in what a TOML parser made of it."""
    try:
        data = tomllib.loads(source) if isinstance(source, str) else source
    except tomllib.TOMLDecodeError as error:
        raise ValueError(f"not TOML: {error}") from None
    if not isinstance(data, Mapping) or not isinstance(data.get("space"), Mapping):
        raise ValueError(f"expected a table [space], got {data!r:.80}")
    notation.check_keys(data, ("space",), ("forbid",))
    found = {name: _named(name, notation.from_toml, value) for name, value in data["space"].items()}
    return found, data.get("forbid", ())


def from_file(path: Path) -> Written:
    """What stands in a ``.toml`` or ``.json`` file (JSON as of ``to_json``, or of TOML's structure)."""
    if path.suffix == ".toml":
        return from_toml(path.read_text(encoding="utf-8"))
    if path.suffix == ".json":
        data = json.loads(path.read_text(encoding="utf-8"), object_pairs_hook=_once)
        return (from_json if isinstance(data, dict) and "parameters" in data else from_toml)(data)
    raise ValueError("expected a .toml or .json file")


def described(parameters: Mapping[str, Parameter], forbid: Sequence[str]) -> str:
    """A line per parameter, aligned, and one per forbidden combination."""
    rows = [(name, p.kind, p.summary(), f"when {p.when}" if p.when else "") for name, p in parameters.items()]
    width = [max(len(row[k]) for row in rows) for k in range(3)]
    lines = [f"{a:{width[0]}}  {b:{width[1]}}  {c:{width[2]}}  {d}".rstrip() for a, b, c, d in rows]
    return "\n".join([*lines, *(f"forbid  {text}" for text in forbid)])


def _parameter(name: Any, value: Any) -> Parameter:
    if not isinstance(name, str):
        raise TypeError(f"a parameter's name must be text, got {name!r}")
    if not name or any(char.isspace() or char in "'\"`={}" for char in name):
        raise ValueError(f"a parameter's name must be text without blanks, quotes, = and braces, got {name!r}")
    if name in RESERVED:
        raise ValueError(f"the name {name!r} is reserved for what else an objective gets: choose another")
    return _named(name, notation.from_shorthand, value)


def _named(name: Any, make: Callable[[Any], Parameter], value: Any) -> Parameter:
    try:
        return make(value)
    except (TypeError, ValueError) as error:
        raise type(error)(f"parameter {name!r}: {error}") from None


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object, of which no name comes twice."""
    found: dict[str, Any] = {}
    for name, value in pairs:
        if name in found:
            raise ValueError(f"the name {name!r} is there twice")
        found[name] = value
    return found
