"""Every strategy keeps the contract; their names and options are told from text."""

from __future__ import annotations

import copy
import os
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from mpibo import testing
from mpibo.space import Float, Space
from mpibo.strategies import DEFAULT, METHODS, Strategy, make
from mpibo.table import Trials, key
from mpibo.testing import Run, check_strategy, mixed_space, small_space
from mpibo.trial import Proposal

STRATEGIES = (
    "random", "grid", "grid:levels=3", "lhs", "lhs:size=5", "sobol", "ts", "ts:model=rf,initial=random", "ambs",
    "ambs:model=et,pending=lie-worst,initial=lhs", "ambs:pending=lie-best,n_initial=3", "ambs:pending=none,kappa=0",
    "ambs:model=et,pending=believer,acquisition=logei,kappa=decay", "ts-hallucinated", "ts:model=gp,candidates=64",
    "ts-hallucinated:model=gp,candidates=64", "gp-ei:candidates=64",
    "ambs:model=gp,pending=believer,acquisition=mixed,candidates=64",
    "ambs:model=gp,pending=penalise-hard,acquisition=logei,candidates=64", "auto", "tpe", "adaptive", "evolution",
    "ambs:model=gp,pending=lie-worst,acquisition=pi,kappa=random,candidates=64",
)  # fmt: skip
MODELS = (
    "ts", "ts:model=rf", "ambs", "ambs:model=et", "ambs:pending=none", "ambs:pending=cl_max", "ts:model=gp",
    "ambs:model=gp,pending=believer", "ambs:model=gp,pending=penalise-soft", "ts-hallucinated:model=gp", "auto",
)  # fmt: skip


@pytest.mark.parametrize("check", testing.CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize("method", STRATEGIES)
def test_contract(method, check):
    """All strategies keep all of the contract."""
    check(testing.maker_of(method))


@pytest.mark.parametrize("method", STRATEGIES)
def test_no_config_of_a_small_space_is_missed_or_repeated(method):
    """A space is used up to its last config, then the answer is empty, with lists longer than what is left."""
    run = Run(testing.maker_of(method), small_space())
    for n in (1, 3, 2, 40):
        for proposal in run.ask(n):
            run.space.check(proposal.config)
        for trial in run.start():
            run.end(trial, run.value(trial))
    assert {key(x) for x in run.trials.X} == {key(x) for x in run.space.enumerate(20_000)}
    assert run.ask(3) == []


@pytest.mark.parametrize("method", MODELS)
def test_batch_of_a_model_is_all_distinct(method):
    """A large batch of model points has no two alike, although all come from one fit."""
    run = Run(testing.maker_of(method), mixed_space())
    run.ask(40)
    for trial in run.start():
        run.end(trial, run.value(trial))
    answer = run.ask(128)
    assert len(answer) == 128 and all(p.origin == "model" for p in answer)


@pytest.mark.parametrize("method", MODELS)
def test_model_waits_for_the_initial_design(method):
    """Design points until max(10, 2 p) results are in, failed ones counted; then model points."""
    run = Run(testing.maker_of(method), Space({"x": (0.0, 1.0), "y": (0.0, 1.0)}))
    run.ask(11)
    started = run.start()
    for count, trial in enumerate(started[:10]):
        assert {p.origin for p in run.ask(1)} == {"design"}, count
        run.waiting.clear()
        run.end(trial, None if trial == 3 else run.value(trial))
    assert {p.origin for p in run.ask(2)} == {"model"}


def test_a_space_of_many_parameters_does_not_wait_for_twice_as_many_results():
    """40 are enough: a search of 64 configs is no design alone."""
    run = Run(testing.maker_of("ambs"), Space({f"x{i}": (0.0, 1.0) for i in range(30)}))
    run.ask(40)
    for count, trial in enumerate(run.start()):
        assert {p.origin for p in run.ask(1)} == {"design"}, count
        run.waiting.clear()
        run.end(trial, run.value(trial))
    assert {p.origin for p in run.ask(2)} == {"model"}


def test_kept_model_is_used_when_no_fit_is_wanted():
    """Without a wish for a fit the forest stays as it is, but the answers are new ones."""
    run = Run(testing.maker_of("ambs"), mixed_space())
    run.ask(30)
    for trial in run.start():
        run.end(trial, run.value(trial))
    first = run.ask(2)
    ring = list(run.strategy.model.forest.ring)
    run.end(run.start(1)[0], 0.0)
    second = run.ask(2, fit=False)
    assert list(run.strategy.model.forest.ring) == ring
    assert second and second != first
    run.ask(1)
    assert list(run.strategy.model.forest.ring) != ring


@pytest.mark.parametrize("method", ["ambs:model=gp,pending=believer", "ts:model=gp"])
def test_kept_hyperparameters_are_used_when_no_fit_is_wanted(method):
    """Without a wish for a fit, results come in and hyperparameters stay as they are; a fit comes when it is due."""
    run = Run(testing.maker_of(method), mixed_space())
    for n, fit, fits, rows in ((30, 1, 0, 0), (1, 1, 1, 30), (9, 1, 1, 31), (2, 0, 1, 40), (2, 1, 2, 42)):
        answer = run.ask(n, fit=bool(fit))
        gp = run.strategy.model.gp
        assert len(answer) == n and (gp.fits if gp else 0) == fits
        assert (~np.isnan(run.strategy.model.z)).sum() == rows
        for trial in run.start():
            run.end(trial, run.value(trial))


def test_gp_ei_is_the_worksheets():
    """Three spread points, then EI of a squared-exponential process without priors, refitted after each result."""
    run = Run(testing.maker_of("gp-ei"), Space({"x": (-5.0, 5.0), "y": (-5.0, 5.0)}))
    run.results(3)
    assert (np.sort(np.floor(3 * run.trials.X), axis=0) == [[0, 0], [1, 1], [2, 2]]).all()  # one in each third
    assert {p.origin for p in run.ask(1)} == {"model"}
    made = run.strategy
    kernel = made.model.gp.kernel
    assert (made.acquisition, kernel.kind, kernel.additive, made.model.gp.kind) == ("ei", "rbf", False, "none")
    assert np.exp(kernel.theta_of(*made.model.begin)) == pytest.approx([0.2, 0.05, 0.2, 0.2])
    assert kernel.prior[1].min() > 1e5  # deviations of the priors
    run.results(2)
    assert made.model.gp.fits == 2 and made.model.gp.due(6) and not made.model.gp.due(5)


def test_synchronous_thompson_waits_for_its_round():
    """A draw for each worker; then nothing while something runs or waits; then the next round, from all results."""
    for method in ("ts-sync", "ts-sync:model=gp,candidates=64"):
        run = Run(testing.maker_of(method), mixed_space())
        run.trials.workers = 4
        for k in range(5):
            answer = run.ask(8)
            assert len(answer) == 4 and {p.origin for p in answer} == {"design" if 4 * k < 18 else "model"}
            assert run.ask(8) == []
            running = run.start()
            while running:
                assert run.ask(2) == []
                run.end(running.pop(), run.value(len(running)))
    tiny = Run(testing.maker_of("ts-sync"), small_space())
    for _ in range(4):
        tiny.ask(3)
        for trial in tiny.start():
            tiny.end(trial, 1.0)
    assert tiny.trials.n == 7 and tiny.ask(3) == []


def test_lies_keep_proposals_apart():
    """With a forest that sees no pending points a second ask goes where the first went; lies move it away."""

    def distance(method):
        run = Run(testing.maker_of(method), Space({f"x{i}": (0.0, 1.0) for i in range(3)}), seed=1)
        run.results(30)
        first = run.space.encode([p.config for p in run.ask(12)])
        run.start()
        return np.median([np.linalg.norm(x - first[0]) for x in first[1:]])

    assert distance("ambs:pending=lie-mean") > distance("ambs:pending=none")


@pytest.mark.parametrize("method", ["ts", "ts:model=rf", "ambs", "ambs:model=et", "auto", "gp-ei"])
def test_model_beats_chance(method):
    """On a bowl of ten numbers a model's 40 points after the design find lower values than as many random ones."""

    def best(method):
        found = []
        for seed in range(3):
            run = Run(testing.maker_of(method), Space({f"x{i}": (0.0, 1.0) for i in range(10)}), seed)
            for _ in range(12):
                run.ask(5)
                for trial in run.start():
                    run.end(trial, run.value(trial))
            found.append(run.trials.y.min())
        return np.mean(found)

    assert best(method) < 0.9 * best("random")


def test_proposals_do_not_depend_on_the_hash_seed():
    """Two processes whose sets have other orders give the same answers."""
    code = (
        "from mpibo.testing import *\n"
        "for method in ('random', 'lhs', 'ts', 'ambs', 'ambs:model=gp,pending=penalise-soft,candidates=64'):\n"
        "    for space in (mixed_space(), small_space()):\n"
        "        print(method, list(busy_run(maker_of(method), space, 3, 10)))\n"
    )
    first, second = (
        subprocess.check_output([sys.executable, "-c", code], env=os.environ | {"PYTHONHASHSEED": seed}, text=True)
        for seed in ("1", "2")
    )
    assert first == second and "ambs" in first


def test_first_proposals_need_numpy_only():
    """Design points, also those of model-based methods, come before any library of the model is loaded."""
    code = (
        "import sys\n"
        "from mpibo.testing import *\n"
        "for method in ('random', 'grid', 'lhs', 'sobol', 'ts', 'ambs', 'auto', 'gp-ei', 'tpe', 'evolution'):\n"
        "    assert Run(maker_of(method), mixed_space()).ask(8)\n"
        "print({'scipy', 'sklearn', 'ConfigSpace'} & set(sys.modules))\n"
    )
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "set()"


def test_strategies_pickle_and_go_on():
    """A search that is pickled in its middle goes on as if it had not been."""
    for method in (*MODELS, "lhs", "sobol", "grid", "tpe", "adaptive", "evolution", "ts-sync"):
        run = Run(testing.maker_of(method), mixed_space())
        run.ask(20)
        for trial in run.start():
            run.end(trial, run.value(trial))
        run.ask(2)  # of a model, the first
        for trial in run.start():
            run.end(trial, run.value(trial))
        twin = copy.deepcopy(run)
        twin.strategy = pickle.loads(pickle.dumps(run.strategy))
        assert twin.ask(4) == run.ask(4)


# --- names and options ---


def test_options_have_the_types_of_the_signature():
    """Text becomes numbers, None or text as the constructor wants it."""
    made = make("ambs:kappa=0.5,pending=cl_max,model=et,n_initial=7,initial=lhs")
    assert (made.kappa, made.pending) == (0.5, "lie-worst")
    assert made._opening.n_initial == 7 and made.model.forest.kind == "et"
    assert make("ts:n_initial=none")._opening.n_initial is None
    assert (make("ambs:kappa=random").kappa, make("ambs").kappa, make("ambs:model=gp").kappa) == ("random", 1.96, 3)
    assert make("ts:model=gp,additive=false,kernel=rbf").model.additive is False
    assert make("grid:levels=7").levels == 7
    assert isinstance(make(DEFAULT), Strategy)
    assert all(isinstance(make(name), Strategy) for name in METHODS)


@pytest.mark.parametrize(
    ("method", "told"),
    [
        ("ambz", "expected one of random, grid, lhs, sobol, ambs, ts"),
        ("ambs:kapa=2", "ambs takes model=, acquisition=, kappa="),
        ("random:x=1", "random takes none"),
        ("ambs:kappa", "no option 'kappa'"),
        ("ambs:kappa=x", "expected a number or one of decay, random"),
        ("ambs:kappa=-1", "kappa >= 0"),
        ("ambs:kappa=nan", "kappa >= 0"),
        ("ambs:kappa=1,kappa=2", "twice"),
        ("ambs:n_initial=2.5", "expected a whole number"),
        ("ts:n_initial=0", "n_initial >= 1"),
        ("ambs:model=gbm", "expected one of rf, et, gp"),
        ("ambs:acquisition=ucb", "expected one of lcb, ei, logei, pi"),
        ("ambs:pending=liar", "expected one of none, lie-best, lie-mean, lie-worst, believer, penalise-soft"),
        ("ambs:pending=penalise-hard", "needs model=gp"),
        ("ambs:model=gp,kernel=matern12", "expected one of matern52, rbf"),
        ("ts:model=gp,transform=log", "expected one of none, clip, yeo-johnson, ranks"),
        ("ambs:model=gp,additive=maybe", "expected true or false"),
        ("ambs:model=gp,lipschitz=here", "expected one of global, local"),
        ("ambs:model=gp,begin=1", "from Python only"),
        ("ts:model=gp,candidates=1", "candidates >= 2"),
        ("ts:initial=grid", "expected one of random, lhs, sobol"),
        ("grid:levels=0", "at least 1 level"),
        ("lhs:size=0", "at least 1 point"),
        ("no_such_file.py:Mine", "there is no file no_such_file.py"),
    ],
)
def test_what_is_wrong_is_told_in_one_line(method, told):
    with pytest.raises(ValueError, match="method") as caught:
        make(method)
    assert told in str(caught.value) and "\n" not in str(caught.value)


def test_make_takes_objects_and_files(tmp_path: Path):
    """A strategy of one's own is an object, or a class in a file with options like any other's."""
    file = tmp_path / "mine.py"
    file.write_text(
        "from __future__ import annotations\n"
        "from mpibo.trial import Proposal\n"
        "class Mine:\n"
        "    def __init__(self, scale: float = 1.0):\n"
        "        self.scale = scale\n"
        "    def propose(self, trials, n, rng):\n"
        "        return [Proposal(config) for config in trials.space.decode(trials.space.sample(n, rng))]\n"
        "class Other:\n"
        "    pass\n"
    )
    made = make(f"{file}:Mine:scale=3")
    assert made.scale == 3.0 and make(made) is made
    with pytest.raises(ValueError, match="Mine takes scale="):
        make(f"{file}:Mine:size=3")
    with pytest.raises(ValueError, match="has no 'Nobody'"):
        make(f"{file}:Nobody")
    with pytest.raises(TypeError, match="propose"):
        make(f"{file}:Other")
    with pytest.raises(TypeError, match="propose"):
        make(type(made))


# --- the contract suite itself ---


class Sampler:
    """A strategy with a fault to choose."""

    def __init__(self, fault: str = "") -> None:
        self.fault = fault

    def propose(self, trials: Trials, n: int, rng: np.random.Generator) -> list[Proposal]:
        if self.fault == "random":
            rng = np.random.default_rng()
        found, seen = [], set(trials.taken)
        configs = trials.space.decode(trials.space.sample(50 * n, rng))
        for config, x in zip(configs, trials.space.encode(configs), strict=True):
            if len(found) < n and (self.fault == "repeats" or key(x) not in seen):
                found.append(Proposal(config))
                seen.add(key(x))
        match self.fault:
            case "writes" if trials.n:
                trials.y[0] = 0.0
            case "numpy":
                found = [Proposal(p.config | {"lr": np.float64(p.config.get("lr", 0.1))}) for p in found]
            case "outside":
                found = [Proposal(p.config | {"lr": 10.0}) for p in found]
            case "many":
                found = found * 2
            case "fails" if not trials.done.any():
                raise ZeroDivisionError
        return found


def test_check_strategy_passes_an_honest_one():
    check_strategy(Sampler)
    check_strategy(Sampler())
    check_strategy("sobol")


@pytest.mark.parametrize(
    ("fault", "told"),
    [
        ("random", "different answers"),
        ("repeats", "twice"),
        ("writes", "changed the table"),
        ("numpy", "plain Python types"),
        ("outside", "it proposed"),
        ("many", "asked for 6 proposals"),
    ],
)
def test_check_strategy_finds_faults(fault, told):
    with pytest.raises(AssertionError, match=told):
        check_strategy(Sampler(fault))


def test_check_strategy_lets_errors_through():
    with pytest.raises(ZeroDivisionError):
        check_strategy(lambda: Sampler("fails"))


def test_repeats_asked_for_as_such_are_allowed():
    """A proposal whose origin is repeat may be one that is done."""

    class Repeater(Sampler):
        def propose(self, trials, n, rng):
            if trials.n:
                return [Proposal(trials.space.decode(trials.X[:1])[0], origin="repeat")]
            return super().propose(trials, n, rng)

    run = Run(Repeater, Space({"x": Float(0.0, 1.0)}))
    run.ask(1)
    run.start()
    assert run.ask(1)
