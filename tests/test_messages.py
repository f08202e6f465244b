"""Messages are strict JSON, whatever is in them."""

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mpibo.engine import messages
from mpibo.trial import Outcome, State

floats = st.floats(allow_nan=False, allow_infinity=False)
text = st.text(st.characters(codec=None), max_size=8)  # halves of surrogate pairs too
values = st.recursive(
    st.none() | st.booleans() | st.integers() | floats | text,
    lambda items: st.lists(items, max_size=4) | st.dictionaries(text, items, max_size=4),
    max_leaves=12,
)


@given(st.dictionaries(text, values, max_size=5))
def test_what_is_sent_arrives_as_it_was(message):
    """Numbers to the last bit and of the same type, any text; and the json module reads the same."""
    data = messages.pack(message)
    assert repr(messages.unpack(data)) == repr(message) == repr(json.loads(data))


@pytest.mark.parametrize("wrong", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("holder", [lambda item: item, lambda item: [1, {"a": item}]])
def test_what_json_can_not_say_is_an_error(wrong, holder):
    """Not silently null."""
    with pytest.raises(ValueError, match="JSON"):
        messages.pack({"kind": "finished", "value": holder(wrong), "reason": None})


@pytest.mark.parametrize(
    "outcome",
    [
        Outcome(State.DONE, 0.5, metrics={"a": [1, None]}, duration=2.0, host="n1"),
        Outcome(State.FAILED, reason="exception", error="\ud800", duration=1.0),
    ],
)
def test_an_outcome_comes_back_whole(outcome):
    """What it does not have is left out on the way."""
    assert messages.outcome(messages.unpack(messages.pack(messages.finished(7, outcome)))) == outcome
