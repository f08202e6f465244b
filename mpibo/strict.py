"""Strict JSON: what our journal and messages are written in. NaN, infinity and unknown types are errors."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any


def encoder(item: str, key: str) -> Callable[[Any], str]:
    """A function from values to JSON text, in ASCII.

    ``json.JSONEncoder.encode`` makes its C encoder anew for every value, a third of the time of a short line; this one
    is made once. Where there is no such encoder (PyPy) it is the slow one.

    Args:
        item: What stands between items. key: What stands after keys.
    """
    slow = json.JSONEncoder(allow_nan=False, separators=(item, key))
    make = getattr(json.encoder, "c_make_encoder", None)
    if make is None:
        return slow.encode
    fast = make(None, slow.default, json.encoder.encode_basestring_ascii, None, key, item, False, False, False)
    join = "".join

    def encode(value: Any) -> str:
        return join(fast(value, 0)) if isinstance(value, dict) else slow.encode(value)

    return encode
