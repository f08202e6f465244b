"""Rank 0's own worker is one among the others: the manager hears all of them, and waits for none."""

import os
import select
import time

import pytest

from mpibo.engine import messages
from mpibo.engine.hosted import Hosted
from mpibo.engine.working.worker import Worker
from mpibo.trial import State, Trial

CHILD = 99  # the descriptor of a child that is none


class Others:
    """In place of the ranks' transport: messages that come at their times, on a clock of its own."""

    def __init__(self, *arriving):
        self.workers = [1, 2]
        self.wakeups = []
        self.time = 0.0
        self.arriving = sorted(arriving, key=lambda each: each[0])
        self.sent = []
        self.watched = []
        self.open = False

    def __enter__(self):
        self.open = True
        return self

    def __exit__(self, *_):
        self.open = False

    def now(self):
        return self.time

    def send(self, worker, message):
        self.sent.append((worker, message["kind"]))

    def receive(self, until):
        self.watched = list(self.wakeups)
        if self.arriving and self.arriving[0][0] <= until:
            self.time, worker, message = self.arriving.pop(0)
            return worker, message
        if select.select([each for each in self.wakeups if each != CHILD], [], [], 0)[0]:
            return None
        self.time = max(self.time, until)
        return None


class Puppet:
    """In place of a ``Worker``: says ``beat`` at each full second."""

    def __init__(self, send):
        self.send, self.told = send, []
        self.done, self.descriptors, self.steps, self.clock = False, [CHILD], 0, None
        self.due = 1.0

    def start(self):
        self.send({"kind": "ready", "host": "here"})

    def handle(self, message):
        self.told.append(message)
        self.done = message["kind"] == "quit"

    def step(self):
        self.steps += 1
        if not self.done and self.clock.time >= self.due:
            self.due += 1.0
            self.send({"kind": "beat"})

    def wake(self):
        return self.due

    def close(self):
        self.done = True


def hosted(*arriving):
    """The transport, its ranks and its own worker, number 3."""
    others = Others(*arriving)
    transport = Hosted(others, 3, Puppet)
    transport._part.clock = others
    return transport, others, transport._part


def test_messages_of_all_workers_come_in_time():
    transport, others, worker = hosted((0.5, 1, {"kind": "ready"}), (1.5, 2, {"kind": "ready"}))
    assert list(transport.workers) == [1, 2, 3]
    heard = []
    with transport:
        assert others.open
        while (arrived := transport.receive(2.25)) is not None:
            heard.append((transport.now(), arrived[0], arrived[1]["kind"]))
        assert heard == [(0.0, 3, "ready"), (0.5, 1, "ready"), (1.0, 3, "beat"), (1.5, 2, "ready"), (2.0, 3, "beat")]
        assert transport.now() == 2.25
    assert worker.done and not others.open


def test_each_worker_gets_its_own_messages():
    transport, others, worker = hosted()
    with transport:
        transport.send(1, {"kind": "beat"})
        transport.send(3, {"kind": "quit"})
        assert others.sent == [(1, "beat")] and worker.told == [{"kind": "quit"}]
        transport.receive(0.0)  # it was ready before
        assert transport.receive(7.0) is None and transport.now() == 7.0  # its clock does not matter any more


def test_what_wakes_the_manager_still_does():
    """Its descriptors and the child's are waited on together; only its own end the wait."""
    read, write = os.pipe()
    transport, others, _ = hosted()
    with transport:
        transport.receive(0.0)
        transport.wakeups[:] = [read]
        assert transport.receive(0.5) is None and transport.now() == 0.5
        assert others.watched == [read, CHILD]
        os.write(write, b"x")
        assert transport.receive(100.0) is None and transport.now() == 0.5
    os.close(read)
    os.close(write)


def test_a_flood_of_messages_does_not_starve_the_hosted_worker():
    flood = [(place / 1000, 1, {"kind": "report"}) for place in range(3000)]
    transport, _, worker = hosted(*flood)
    with transport:
        kinds = [transport.receive(2.9)[1]["kind"] for _ in range(2500)]
    assert kinds.count("beat") == 2 and worker.steps < 1000


@pytest.mark.parametrize("isolation", ["process", "fresh"])
def test_a_real_worker_evaluates_beside_the_others(tmp_path, isolation):
    """Its child is a child of this process."""
    file = tmp_path / "objective.py"
    file.write_text("import os\ndef objective(x):\n    return {'value': x, 'parent': os.getppid()}\n")
    setup = {
        "objective": {"kind": "file", "path": str(file), "function": "objective"}, "fix": {}, "argv": ["x"],
        "folder": str(tmp_path), "isolation": isolation, "trial_timeout": None, "memory": None, "threads": 1,
    }  # fmt: skip

    class Quiet(Others):
        def now(self):
            return time.monotonic()

        def receive(self, until):
            time.sleep(0.01)

    deadline = time.monotonic() + 60
    with Hosted(Quiet(), 3, lambda send: Worker(3, setup, send)) as transport:
        while True:
            assert time.monotonic() < deadline
            _, message = transport.receive(transport.now() + 1) or (3, {"kind": "nothing"})
            if message["kind"] == "ready":
                transport.send(3, messages.run(Trial(id=1, config={"x": 0.5}, seed=5)))
            if message["kind"] == "finished":
                break
    outcome = messages.outcome(message)
    assert outcome.state is State.DONE and outcome.value == 0.5 and outcome.metrics["parent"] == os.getpid()
