"""Scripts as people write them: module-level functions, lambdas, closures, cached loaders; with and without mpirun."""

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

import mpibo
from mpibo.trial import State

MPIRUN = str(Path(sys.executable).with_name("mpirun"))
LAUNCH = {"python": [sys.executable], "mpirun": [MPIRUN, "-n", "3", sys.executable]}
ENVIRONMENT = os.environ | {
    "OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
    "PRTE_MCA_rmaps_default_mapping_policy": ":oversubscribe", "OMPI_MCA_rmaps_base_oversubscribe": "1",
}  # fmt: skip

both = pytest.mark.parametrize("launch", ["python", pytest.param("mpirun", marks=pytest.mark.mpi)])


def run_script(folder, launch, text, timeout=60):
    """Run a script's text as tune.py; gives the finished process."""
    (folder / "tune.py").write_text(textwrap.dedent(text))
    return subprocess.run(
        [*LAUNCH[launch], "tune.py"], cwd=folder, env=ENVIRONMENT, capture_output=True, text=True, timeout=timeout
    )  # fmt: skip


@both
def test_the_script_of_the_manual(tmp_path, launch):
    """A guarded script with a cached loader; rank 0 alone returns, and what follows runs once."""
    done = run_script(tmp_path, launch, """
        import functools, os, mpibo

        space = mpibo.Space({"lr": (1e-5, 1e-1, "log"), "layers": (1, 6), "optimizer": ["adam", "sgd"],
                             "momentum": mpibo.Float(0.0, 0.99, when="optimizer == 'sgd'")},
                            forbid=["layers > 4 and lr > 0.01"])

        @functools.cache
        def data():
            print("loading in", os.getpid())
            return [1.0, 2.0]

        def train(lr, layers, optimizer, momentum=0.0, *, trial: mpibo.RunningTrial):
            first = trial.resume()
            for epoch in range(first, 3):
                trial.report(abs(lr - 1e-3) + layers / epoch if epoch else 9.0, step=epoch + 1)
            return abs(lr - 1e-3) + sum(data()) - 3 + momentum * 0

        if __name__ == "__main__":
            result = mpibo.minimize(train, space, max_trials=14, out="run", workers=2, progress="none",
                                    start=[{"lr": 1e-3, "optimizer": "adam"}])
            print("best", result.best.value, result.best.config["optimizer"], len(result.trials), result.why_ended)
            again = mpibo.minimize(train, space, max_trials=5, out="second", progress="none")
            print("again", len(again.trials))
        """)  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["best 0.0 adam 14 max_trials", "again 5"]
    logs = "".join(path.read_text() for path in (tmp_path / "run" / "logs").iterdir())
    assert 1 <= logs.count("loading in") <= 2  # once per child, not once per trial
    result = mpibo.load(tmp_path / "run")
    assert all(trial.state is State.DONE for trial in result.trials)
    assert all(("momentum" in trial.config) == (trial.config["optimizer"] == "sgd") for trial in result.trials)


@both
def test_lambdas_closures_and_cached_closures(tmp_path, launch):
    done = run_script(tmp_path, launch, """
        import functools, mpibo

        def made(offset):
            @functools.lru_cache(maxsize=3)
            def shift():
                return offset
            return lambda x: (x - 0.5) ** 2 + shift()

        class Model:
            def loss(self, x):
                return abs(x)

        if __name__ == "__main__":
            def show(name, function):
                result = mpibo.minimize(function, {"x": (0.0, 1.0)}, max_trials=4, out=name, progress="none")
                print(name, [trial.state.value for trial in result.trials], result.best.value >= 2.0)
            show("lambda", lambda x: x + 2)
            show("closure", made(2.0))
            show("partial", functools.partial(lambda x, y: x + y, y=2.0))
            show("method", Model().loss)
        """)  # fmt: skip
    assert done.returncode == 0, done.stderr
    states = "['DONE', 'DONE', 'DONE', 'DONE']"
    assert done.stdout.splitlines() == [
        f"lambda {states} True", f"closure {states} True", f"partial {states} True", f"method {states} False"
    ]  # fmt: skip


@both
def test_a_script_without_guard_is_told_so(tmp_path, launch):
    done = run_script(tmp_path, launch, """
        import mpibo
        def train(x): return x
        mpibo.minimize(train, {"x": (0.0, 1.0)}, max_trials=4, out="run", progress="none")
        """)  # fmt: skip
    assert done.returncode == 2 and "Traceback" not in done.stderr
    assert done.stderr.count("if __name__ == '__main__':") == 1


@both
def test_an_exception_on_rank_0_ends_the_job(tmp_path, launch):
    done = run_script(tmp_path, launch, """
        import mpibo
        def train(x): return x
        if __name__ == "__main__":
            result = mpibo.minimize(train, {"x": (0.0, 1.0)}, max_trials=4, out="run", progress="none")
            raise RuntimeError("after the search")
        """)  # fmt: skip
    assert done.returncode != 0 and done.stderr.count("RuntimeError: after the search") == 1


def test_maximize_and_metrics(tmp_path):
    def accuracy(x, config):
        return {"value": 1 - abs(x - 0.5), "double": 2 * config["x"]}

    result = mpibo.maximize(accuracy, {"x": (0.0, 1.0)}, max_trials=25, out=tmp_path / "run", progress="none")
    assert result.best.value == max(trial.value for trial in result.trials) > 0.95
    assert all(trial.metrics["double"] == 2 * trial.config["x"] for trial in result.trials)
    frame = result.to_pandas()
    assert frame["value"].max() == result.best.value and {"config.x", "metrics.double"} <= set(frame.columns)


def test_a_strategy_of_ones_own(tmp_path):
    class Corner:
        def propose(self, trials, n, rng):
            made = [{"x": 0.125 * (trials.n + i)} for i in range(n)]
            return [mpibo.Proposal(config) for config in made if config["x"] <= 1.0]

    result = mpibo.minimize(
        lambda x: x, {"x": (0.0, 1.0)}, method=Corner(), max_trials=20, out=tmp_path / "run", progress="none"
    )
    assert sorted(trial.config["x"] for trial in result.trials) == [0.125 * i for i in range(9)]
    assert result.why_ended == "exhausted"


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({}, "when is the search to end"),
        ({"max_trials": 0}, "max_trials"),
        ({"max_trials": 4, "method": "amsb"}, "amsb"),
        ({"max_trials": 4, "max_trails": 3}, "did you mean 'max_trials'"),
        ({"max_trials": 4, "walltime": "soon"}, "walltime"),
        ({"max_trials": 4, "start": [{"y": 1}]}, "y"),
        ({"max_trials": 4, "fix": {"x": 1}}, "parameter of the space"),
    ],
)
def test_bad_input_is_one_line(tmp_path, settings, told):
    with pytest.raises(ValueError, match=told) as error:
        mpibo.minimize(lambda x: x, {"x": (0.0, 1.0)}, out=tmp_path / "run", **settings)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("function", "told"),
    [
        (lambda: 0, "no argument 'x'"),
        (lambda x, y: 0, "needs 'y'"),
        (lambda x, m: 0, "only there when"),
    ],
)
def test_the_signature_is_held_against_the_space(tmp_path, function, told):
    space = {"x": (0.0, 1.0)}
    if told.startswith("only"):
        space["m"] = mpibo.Float(0.0, 1.0, when="x > 0.5")
    with pytest.raises(ValueError, match=told):
        mpibo.minimize(function, space, max_trials=3, out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_another_space_or_sign_is_refused_and_a_reached_limit_told(tmp_path):
    def search(space=None, **more):
        settings = {"max_trials": 3, "out": tmp_path / "run", "progress": "none"} | more
        return mpibo.minimize(lambda x: x, space or {"x": (0.0, 1.0)}, **settings)

    first = search()
    with pytest.raises(ValueError, match="another space"):
        search({"x": (0.0, 2.0)})
    with pytest.raises(ValueError, match="is to minimise"):
        search(maximize=True)
    with pytest.raises(ValueError, match="raise --max-trials"):
        search()
    more = search(max_trials=6)
    assert [trial.config for trial in more.trials[:3]] == [trial.config for trial in first.trials] and len(
        more.trials
    ) == 6
