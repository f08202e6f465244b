"""The contract of every transport: what is sent arrives, answers come back, and time goes on."""

import random

import pytest

from mpibo.engine import messages
from mpibo.engine.transport import Flaky, Local, Simulated
from mpibo.trial import State, Trial


def local(count, folder):
    file = folder / "objective.py"
    file.write_text("def objective(x):\n    return 2 * x\n")
    setup = {
        "objective": {"kind": "file", "path": str(file), "function": "objective"}, "fix": {}, "argv": ["x"],
        "folder": None, "isolation": "process", "trial_timeout": None, "memory": None, "threads": 1,
    }  # fmt: skip
    return Local(count, setup)


def serial(count, folder):
    return local(1, folder)


def simulated(count, folder):
    return Simulated(count, lambda config: 2 * config["x"], lambda run, rng: rng.uniform(0.5, 1.5))


def flaky(count, folder):
    return Flaky(simulated(count, folder), delay=0.3, late=2.0)


contract = pytest.mark.parametrize("make", [local, serial, simulated, flaky])


def ready(transport):
    """Wait until every worker has said that it is there."""
    said = set()
    while said != set(transport.workers):
        arrived = transport.receive(transport.now() + 10)
        if arrived:
            assert arrived[1]["kind"] == "ready" and arrived[1]["host"]
            said.add(arrived[0])


@contract
def test_every_trial_is_answered_once_by_its_worker(tmp_path, make):
    with make(3, tmp_path) as transport:
        ready(transport)
        given, outcomes = {}, {}
        numbers = iter(range(20))
        idle = list(transport.workers)
        while len(outcomes) < 20:
            while idle and (number := next(numbers, None)) is not None:
                worker = idle.pop()
                given[number] = worker
                transport.send(worker, messages.run(Trial(id=number, config={"x": float(number)})))
            arrived = transport.receive(transport.now() + 10)
            if arrived and arrived[1]["kind"] == "finished":
                worker, message = arrived
                assert given[message["id"]] == worker and message["id"] not in outcomes
                outcomes[message["id"]] = messages.outcome(message)
                idle.append(worker)
    assert all(outcome.state is State.DONE and outcome.value == 2 * number for number, outcome in outcomes.items())


@contract
def test_receive_comes_back_when_it_is_told_to(tmp_path, make):
    with make(2, tmp_path) as transport:
        ready(transport)
        for wait in (0.0, 0.05, 0.2):
            until = transport.now() + wait
            assert transport.receive(until) is None
            assert transport.now() >= until


@contract
def test_a_message_that_is_too_large_is_refused_where_it_is_sent(tmp_path, make):
    with make(1, tmp_path) as transport, pytest.raises(ValueError, match="65536"):
        transport.send(1, {"kind": "run", "text": "x" * 70_000})


def test_simulated_time_costs_none():
    transport = Simulated(1000, lambda config: 0.0, lambda run, rng: 3600.0)
    ready(transport)
    for worker in transport.workers:
        transport.send(worker, messages.run(Trial(id=worker, config={})))
    while transport.receive(transport.now() + 7200):
        pass
    assert transport.now() >= 3600.0


def test_a_killed_worker_is_never_heard_of_again():
    transport = Flaky(Simulated(10, lambda config: 0.0), seed=random.Random(3).randrange(99), kill=1.0, spare=(1,))
    ready(transport)
    for worker in transport.workers:
        transport.send(worker, messages.run(Trial(id=worker, config={})))
    heard = []
    for _ in range(100):
        arrived = transport.receive(transport.now() + 1)
        heard += [arrived[0]] if arrived else []
    assert heard == [1] and transport.dead == set(range(2, 11))
