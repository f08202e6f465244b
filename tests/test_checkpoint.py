"""A checkpoint gives back what was put in, bit for bit, tells damage, and never runs anything."""

import contextlib
import io
import json
import os
import pickle
import random
import sys
import zipfile
from hashlib import sha256
from types import SimpleNamespace
from unittest import mock

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from mpibo.store import checkpoint
from mpibo.store.checkpoint import Unusable, load, save


class Part:
    """What has a state, and takes one of the same names; as a module of torch it first takes what fits."""

    def __init__(self, **state):
        self.state = state

    def state_dict(self):
        return self.state

    def load_state_dict(self, state):
        self.state |= {name: item for name, item in state.items() if name in self.state}
        if state.keys() != self.state.keys():
            raise KeyError("other names")


@contextlib.contextmanager
def without_torch():
    """As in a child that has not loaded it."""
    with mock.patch.dict(sys.modules, {"torch": None}):
        yield


NUMBERS = st.none() | st.booleans() | st.integers() | st.floats() | st.complex_numbers()
ARRAYS = hnp.arrays(hnp.scalar_dtypes(), hnp.array_shapes(min_dims=0, max_side=3))
KEYS = st.text(max_size=5) | st.integers() | st.none() | st.tuples(st.integers(), st.text(max_size=2))
STATES = st.dictionaries(
    KEYS,
    st.recursive(
        NUMBERS | st.text() | st.binary() | ARRAYS | st.sets(st.integers()) | st.just(np.float32(1.5)),
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS, inner, max_size=4) | st.tuples(inner, inner),
        max_leaves=12,
    ),
    max_size=5,
)


def same(one, other):
    """Of the same types and to the same bits; NaN is NaN, -0.0 is not 0.0."""
    if type(one) is not type(other):
        return False
    if isinstance(one, (np.ndarray, np.generic)):
        return one.dtype == other.dtype and one.shape == other.shape and one.tobytes() == other.tobytes()
    if isinstance(one, dict):
        return same(list(one), list(other)) and same(list(one.values()), list(other.values()))
    if isinstance(one, (set, frozenset)):
        return one == other
    if isinstance(one, (list, tuple)):
        return len(one) == len(other) and all(map(same, one, other))
    return repr(one) == repr(other)


@settings(max_examples=40, deadline=None)
@given(state=STATES, step=st.integers(0, 10**9), value=st.none() | st.floats(allow_nan=False))
def test_every_state_comes_back_without_torch(tmp_path_factory, state, step, value):
    path = tmp_path_factory.getbasetemp() / "without" / "1.ckpt"
    with without_torch():
        told = save(path, step, {"part": Part(inner=state)}, state, value)
        assert told["step"] == step and told["bytes"] == path.stat().st_size
        found = load(path, told["sha256"])
        assert same(found.state, state) and same(found.parts["part"]["inner"], state)
    assert (found.step, found.value) == (step, value)


@pytest.mark.torch
@settings(max_examples=25, deadline=None)
@given(state=STATES)
def test_every_state_comes_back_with_torch(tmp_path_factory, state):
    import torch

    path = tmp_path_factory.getbasetemp() / "with" / "1.ckpt"
    told = save(path, 1, {}, {"own": state, "tensor": torch.ones(2, dtype=torch.bfloat16)})
    found = load(path, told["sha256"]).state
    assert same(found["own"], state) and found["tensor"].dtype is torch.bfloat16


def test_numpy_alone_can_read_it(tmp_path):
    with without_torch():
        save(tmp_path / "1.ckpt", 1, {}, {"mean": np.arange(3.0)})
    with np.load(tmp_path / "1.ckpt", allow_pickle=False) as arrays:
        assert any(np.array_equal(arrays[name], np.arange(3.0)) for name in arrays)


@pytest.fixture(scope="module")
def one(tmp_path_factory):
    """A checkpoint's path, its bytes and its hash."""
    path = tmp_path_factory.mktemp("one") / "3.ckpt"
    with without_torch():
        told = save(path, 3, {"part": Part(a=1)}, {"x": np.arange(5)})
    return path, path.read_bytes(), told["sha256"]


@settings(max_examples=100, deadline=None)
@given(data=st.data())
def test_a_changed_byte_anywhere_is_found(one, data):
    path, whole, digest = one
    place = data.draw(st.integers(0, len(whole) - 1))
    changed = bytes([whole[place] ^ data.draw(st.integers(1, 255))])
    path.write_bytes(whole[:place] + changed + whole[place + 1 :])
    with pytest.raises(Unusable, match="is damaged"):
        load(path, digest)
    path.write_bytes(whole[:place])
    with pytest.raises(Unusable, match="is damaged"):
        load(path, digest)


def test_what_is_not_there_is_missing(tmp_path):
    with pytest.raises(Unusable, match="is missing"):
        load(tmp_path / "1.ckpt", "0" * 64)


class Evil:
    """Unpickled it makes a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def evil_pickle(trap):
    return pickle.dumps(Evil(trap))


def evil_array(trap):
    buffer = io.BytesIO()
    np.savez(buffer, structure=np.array([Evil(trap)], dtype=object), leaf0=np.array([Evil(trap)], dtype=object))
    return buffer.getvalue()


def evil_tensors(trap):
    import torch

    buffer = io.BytesIO()
    torch.save({"structure": "{}", "leaves": [Evil(trap)]}, buffer)
    return buffer.getvalue()


def evil_module(trap):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("archive/data.pkl", pickle.dumps(Evil(trap), protocol=2))
        archive.writestr("archive/version", "3\n")
    return buffer.getvalue()


def evil_text(trap):
    """What the text names is looked up nowhere but in torch, and must be a type of numbers there."""
    buffer = io.BytesIO()
    told = {"step": 1, "value": 1.0, "parts": {"dict": []}, "random": {"dict": []}, "state": {"dtype": "torch.load"}}
    np.savez(buffer, structure=np.frombuffer(json.dumps(told).encode(), np.uint8))
    return buffer.getvalue()


@pytest.mark.torch
@pytest.mark.parametrize("evil", [evil_pickle, evil_array, evil_tensors, evil_module, evil_text])
def test_nothing_runs_when_it_is_loaded(tmp_path, evil, monkeypatch):
    """Its hash is right: whoever can write in the run folder made both."""
    monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")
    data = evil(tmp_path / "trap")
    (tmp_path / "1.ckpt").write_bytes(data)
    with pytest.raises(Unusable, match="can't be read"):
        load(tmp_path / "1.ckpt", sha256(data).hexdigest())
    assert not (tmp_path / "trap").exists()


@pytest.mark.parametrize(
    ("state", "where"),
    [
        ({"best": {"model": [1, object()]}}, r"state\['best'\]\['model'\]\[1\] is of the type object"),
        ({"f": print}, r"state\['f'\] is of the type builtin_function_or_method"),
        ({"o": np.array([None])}, r"state\['o'\] is of the type ndarray"),
        ({"t": SimpleNamespace(a=1)}, "SimpleNamespace; a checkpoint keeps numbers, text"),
        ([1], "state must be a dict, got list"),
    ],
)
def test_what_cant_be_kept_is_refused_in_one_line(state, where):
    with pytest.raises(TypeError, match=where) as refused:
        checkpoint.check_state(state)
    assert "\n" not in str(refused.value)


def test_a_part_must_have_a_state(tmp_path):
    with pytest.raises(TypeError, match=r"resume\(forest=...\): object has no state_dict and no load_state_dict; keep"):
        checkpoint.check_part("forest", object())
    with pytest.raises(TypeError, match=r"model\['hook'\] is of the type builtin"):
        save(tmp_path / "1.ckpt", 1, {"model": Part(hook=print)}, {})


def test_a_disk_that_is_full_leaves_the_older_one(tmp_path, monkeypatch):
    path = tmp_path / "7" / "1.ckpt"
    with without_torch():
        told = save(path, 1, {}, {"a": 1})

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoint.os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        save(path, 1, {}, {"a": 2})
    assert load(path, told["sha256"]).state == {"a": 1} and os.listdir(path.parent) == ["1.ckpt"]


@pytest.mark.torch
def test_a_full_disk_is_no_error_of_torch():
    """So that it is told from an error in what is kept."""
    import torch

    class Full(io.RawIOBase):
        def write(self, data):
            raise OSError(28, "No space left on device")

    hashed = checkpoint._Hashed(Full())
    with contextlib.suppress(Exception):
        torch.save(torch.ones(100_000), hashed)
    assert hashed.error.errno == 28


def test_random_numbers_go_on_where_they_were(tmp_path):
    def numbers():
        return [random.gauss(0, 1), random.random(), np.random.standard_normal(), np.random.rand()]  # noqa: NPY002

    random.seed(3)
    np.random.seed(3)  # noqa: NPY002
    numbers()  # of each Gaussian there is a second one, kept for later
    with without_torch():
        told = save(tmp_path / "1.ckpt", 1, {}, {})
        expected = numbers()
        load(tmp_path / "1.ckpt", told["sha256"]).restore({})
    assert numbers() == expected


def test_parts_that_do_not_fit_are_left_as_they_were(tmp_path):
    """And the random numbers, too: the training starts from nothing."""
    with without_torch():
        told = save(tmp_path / "1.ckpt", 1, {"a": Part(x=1), "b": Part(y=2)}, {})
        found = load(tmp_path / "1.ckpt", told["sha256"])
    random.random()
    a, b, before = Part(x=5), Part(y=6, z=7), random.getstate()
    with pytest.raises(Unusable, match=r"does not fit \(b: KeyError: 'other names'\)"):
        found.restore({"a": a, "b": b})
    with pytest.raises(Unusable, match=r"does not fit \(it has no part 'c'; it has a, b\)"):
        found.restore({"a": a, "c": b})
    assert a.state == {"x": 5} and b.state == {"y": 6, "z": 7} and random.getstate() == before


# --- with torch -------------------------------------------------------------------------------------------------------


def network(torch, width=8, dtype=None):
    from torch import nn

    made = nn.Sequential(nn.Linear(4, width), nn.BatchNorm1d(width), nn.Dropout(0.3), nn.Linear(width, 1))
    return made.to(dtype or torch.float32)


def trained(torch, make, steps, parts=None, dtype=None):
    """Train for some steps; gives the parts and the losses."""
    model = network(torch, dtype=dtype)
    optimizer = make(model.parameters())
    optim = torch.optim.lr_scheduler
    parts = parts or {
        "model": model, "optimizer": optimizer, "steps": optim.MultiStepLR(optimizer, [2, 5], 0.5),
        "plateau": optim.ReduceLROnPlateau(optimizer), "scaler": torch.amp.GradScaler("cpu"),
    }  # fmt: skip
    losses = []
    for _ in range(steps):
        x = torch.randn(16, 4, dtype=dtype)
        parts["optimizer"].zero_grad()
        loss = (parts["model"](x) ** 2).mean()
        parts["scaler"].scale(loss).backward()
        parts["scaler"].step(parts["optimizer"])
        parts["scaler"].update()
        parts["steps"].step()
        parts["plateau"].step(loss.item())
        losses.append(loss.item())
    return parts, losses


OPTIMIZERS = {
    "adam": lambda optim: lambda p: optim.Adam(p, lr=0.01),
    "adamw": lambda optim: lambda p: optim.AdamW(p, lr=0.01, amsgrad=True),
    "sgd": lambda optim: lambda p: optim.SGD(p, lr=0.01, momentum=0.9, nesterov=True),
    "rmsprop": lambda optim: lambda p: optim.RMSprop(p, lr=0.01, centered=True),
}


@pytest.mark.torch
@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_training_goes_on_as_if_unbroken(tmp_path, name, dtype):
    """Model, optimizer, schedules and scaler: the same losses to the last bit, from freshly made parts."""
    import torch

    make, dtype = OPTIMIZERS[name](torch.optim), getattr(torch, dtype)
    torch.manual_seed(0)
    parts, _ = trained(torch, make, 4, dtype=dtype)
    told = save(tmp_path / "4.ckpt", 4, parts, {"rate": torch.tensor(0.5, dtype=dtype)})
    _, expected = trained(torch, make, 4, parts, dtype)
    torch.manual_seed(77)
    fresh, _ = trained(torch, make, 0, dtype=dtype)
    found = load(tmp_path / "4.ckpt", told["sha256"])
    trained(torch, make, 0, dtype=dtype)  # what else is made in between
    found.restore(fresh)
    assert trained(torch, make, 4, fresh, dtype)[1] == expected
    assert found.state["rate"].dtype is dtype


@pytest.mark.torch
def test_a_model_of_another_shape_is_left_as_it_was(tmp_path):
    """``load_state_dict`` itself copies what fits before it complains."""
    import torch

    told = save(tmp_path / "1.ckpt", 1, {"model": network(torch, 8)}, {})
    other = network(torch, 9)
    before = {name: tensor.clone() for name, tensor in other.state_dict().items()}
    with pytest.raises(Unusable, match=r"does not fit \(model: RuntimeError: .*size mismatch for 0.weight"):
        load(tmp_path / "1.ckpt", told["sha256"]).restore({"model": other})
    assert all(torch.equal(tensor, before[name]) for name, tensor in other.state_dict().items())


@pytest.mark.torch
def test_weights_that_are_shared_are_saved_once(tmp_path):
    import torch

    model = network(torch, 1000)
    once = save(tmp_path / "1.ckpt", 1, {"model": model}, {})
    twice = save(tmp_path / "2.ckpt", 2, {"model": model, "again": model}, {})
    assert twice["bytes"] < once["bytes"] + 5000
