"""Several ranks are one worker: one trial, one outcome, and when one of them fails none of the others hangs."""

import json
import math
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mpibo.engine.environment import THREADS
from mpibo.engine.group import groups_of, telling
from mpibo.engine.working.following import Member
from mpibo.engine.working.leading import MEMBER_LEASE, PATIENCE, SETTLE, Group

HERE = Path(__file__).parent
MPIRUN = str(Path(sys.executable).with_name("mpirun"))


@given(st.lists(st.integers(0, 4), max_size=40), st.integers(1, 6))
def test_every_rank_has_one_place(nodes, size):
    """As many workers as there can be; fewer ranks are left over than make one; numbered by their first ranks."""
    groups, left = groups_of(nodes, size)
    assert sorted(rank for ranks in [*groups, left] for rank in ranks) == list(range(1, len(nodes) + 1))
    assert all(len(ranks) == size for ranks in groups) and len(left) < size
    assert len(groups) == len(nodes) // size and groups == sorted(groups)


@given(st.lists(st.integers(0, 4), max_size=40), st.integers(1, 6))
def test_a_worker_is_on_one_node_where_possible(nodes, size):
    """Only ranks that their nodes could not use come together across nodes."""
    groups, _ = groups_of(nodes, size)
    whole = sum(len({nodes[rank - 1] for rank in ranks}) == 1 for ranks in groups)
    assert whole >= sum(nodes.count(node) // size for node in set(nodes))


# --- the first rank, its members and their workers, without MPI and in virtual time ---------------------------------


class Puppet:
    """In place of a ``Worker``: it keeps what it is told, and says what the test lets it say."""

    def __init__(self, setup, send):
        self.setup, self.send = setup, send
        self.told, self.closed, self.busy, self.descriptors = [], False, False, []

    def start(self):
        self.send({"kind": "ready", "host": "h", "pid": 1})

    def handle(self, message):
        self.told.append(message)
        self.busy = self.busy or message["kind"] == "run"

    def step(self):
        """Nothing is due."""

    def wake(self):
        return math.inf

    def close(self):
        self.closed = True

    abandon = close

    def ends(self, number, state="DONE", value=1.0, reason=None):
        self.busy = False
        outcome = {"state": state, "value": value, "reason": reason, "error": reason and f"because of {reason}",
                   "duration": 1.0, "host": None, "metrics": {}}  # fmt: skip
        self.send({"kind": "finished", "id": number, "outcome": outcome})


class Ensemble:
    """A group of ranks in one process; a message arrives at once, but to a rank that is dead."""

    def __init__(self, folder, size=3, isolation="process", beside=None):
        self.time = 0.0
        self.said = []  # to the manager
        self.puppets = [[] for _ in range(size)]  # of each rank, one after the other
        self.dead = set()
        setup = {"isolation": isolation, "folder": str(folder)}

        def make(place):
            def puppet(setup, send):
                self.puppets[place].append(Puppet(setup, send))
                return self.puppets[place][-1]

            return puppet

        def tell(place, message):
            if place not in self.dead:
                self.members[place].handle(message)

        def hear(place):
            return lambda message: None if place in self.dead else self.group.hear(place, message)

        self.group = Group(7, size, setup, self.said.append, tell, make(0), True, beside, now=lambda: self.time)
        self.members = {place: Member(setup, hear(place), make(place), True) for place in range(1, size)}
        for part in (self.group, *self.members.values()):
            part.start()

    def now(self, place):
        """The present worker of a rank."""
        return self.puppets[place][-1]

    def run(self, number):
        self.group.handle({"kind": "run", "id": number, "config": {}, "budget": 1, "seed": 0})

    def later(self, seconds):
        self.time += seconds
        self.group.step()

    @property
    def finished(self):
        return [message for message in self.said if message["kind"] == "finished"]


@pytest.fixture
def ensemble(tmp_path):
    return Ensemble(tmp_path)


def test_the_manager_sees_one_worker(ensemble):
    """One ready, one outcome, the first rank's; a member needs no value."""
    assert [message["kind"] for message in ensemble.said] == ["ready"]
    ensemble.run(1)
    assert all(puppets[0].told[0]["id"] == 1 for puppets in ensemble.puppets)
    ensemble.now(1).ends(1, "FAILED", None, "value")
    ensemble.now(0).ends(1, value=0.5)
    ensemble.later(1)
    assert not ensemble.finished  # one is still at it
    ensemble.now(2).ends(1, value=3.0)
    ensemble.later(0)
    assert [message["outcome"]["value"] for message in ensemble.finished] == [0.5]
    assert all(len(puppets) == 1 for puppets in ensemble.puppets)  # the children live on


def test_a_member_that_fails_ends_the_trial_of_all(ensemble):
    """All get new children and a new rendezvous; what the old ones say counts no more."""
    files = {puppets[0].setup["group"]["file"] for puppets in ensemble.puppets}
    assert len(files) == 1
    ensemble.run(1)
    ensemble.now(2).ends(1, "FAILED", None, "crash")
    ensemble.later(SETTLE / 2)
    assert not ensemble.finished
    ensemble.later(SETTLE)
    (message,) = ensemble.finished
    assert message["outcome"]["reason"] == "crash" and message["outcome"]["error"].startswith("rank 2 of the 3")
    assert all(puppets[0].closed and len(puppets) == 2 for puppets in ensemble.puppets)
    again = {puppets[1].setup["group"]["file"] for puppets in ensemble.puppets}
    assert len(again) == 1 and not again & files
    assert [puppets[1].setup["group"]["rank"] for puppets in ensemble.puppets] == [0, 1, 2]
    ensemble.run(2)
    ensemble.puppets[1][0].ends(2, "FAILED", None, "crash")
    ensemble.puppets[0][0].ends(2, "FAILED", None, "crash")
    for place in range(3):
        ensemble.now(place).ends(2)
    ensemble.later(0)
    assert [message["outcome"]["state"] for message in ensemble.finished] == ["FAILED", "DONE"]
    assert [message["kind"] for message in ensemble.said].count("ready") == 1


def test_the_cause_is_told_not_what_it_brought_about(ensemble):
    """A crash breaks the others' connections, and they are sooner with their exceptions."""
    ensemble.run(1)
    ensemble.now(0).ends(1, "FAILED", None, "exception")
    ensemble.now(2).ends(1, "FAILED", None, "exception")
    ensemble.later(SETTLE / 2)
    ensemble.now(1).ends(1, "FAILED", None, "crash")
    ensemble.later(0)
    assert [message["outcome"]["reason"] for message in ensemble.finished] == ["crash"]


@pytest.mark.parametrize("first", ["DONE", "STOPPED"])
def test_members_that_do_not_come_to_an_end_are_not_waited_for(ensemble, first):
    ensemble.run(1)
    ensemble.now(0).ends(1, first)
    assert ensemble.group.wake() == (PATIENCE if first == "DONE" else SETTLE)
    ensemble.later(PATIENCE)
    assert [message["outcome"]["state"] for message in ensemble.finished] == [first]
    assert all(len(puppets) == 2 for puppets in ensemble.puppets)


def test_a_cancel_goes_to_the_first_rank(ensemble):
    """Near the end no new children start, but if there is another trial after all."""
    ensemble.run(1)
    ensemble.group.handle({"kind": "cancel", "id": 1, "why": "end", "grace": 5})
    assert [message["kind"] for message in ensemble.now(0).told] == ["run", "cancel"]
    assert [message["kind"] for message in ensemble.now(1).told] == ["run"]
    ensemble.now(0).ends(1, "LOST", None, "lost")
    ensemble.later(SETTLE)
    assert ensemble.finished[0]["outcome"]["state"] == "LOST"
    assert all(len(puppets) == 1 for puppets in ensemble.puppets)
    ensemble.run(2)
    assert all(len(puppets) == 2 and puppets[1].told[0]["id"] == 2 for puppets in ensemble.puppets)


def test_a_dead_member_is_the_end_of_the_worker(ensemble):
    """Beats keep the lease; the manager hears of it, the other ranks are let go."""
    for _ in range(10):
        ensemble.time += 20
        for place in (1, 2):
            ensemble.now(place).send({"kind": "beat"})
        ensemble.group.step()
    ensemble.run(1)
    ensemble.dead.add(2)
    while not ensemble.group.done:
        assert ensemble.time < 1000
        ensemble.later(10)
        ensemble.now(1).send({"kind": "beat"})
    assert ensemble.said[-1]["kind"] == "gone" and "rank 2 of the 3 of worker 7" in ensemble.said[-1]["why"]
    assert 200 + MEMBER_LEASE < ensemble.time <= 220 + MEMBER_LEASE and ensemble.group.bereaved
    assert ensemble.members[1].done and ensemble.now(0).closed and ensemble.now(1).closed


def test_the_member_beside_the_manager_may_be_silent(tmp_path):
    """While a disk is full the manager does nothing else: that is no reason to give its group up."""
    ensemble = Ensemble(tmp_path, beside=2)
    ensemble.run(1)
    for _ in range(20):
        ensemble.now(1).send({"kind": "beat"})
        ensemble.later(MEMBER_LEASE / 4)
        assert ensemble.group.wake() > ensemble.time
    assert not ensemble.group.done
    for place in range(3):
        ensemble.now(place).ends(1)
    ensemble.later(0)
    assert [message["outcome"]["value"] for message in ensemble.finished] == [1.0]


def test_a_connection_that_a_dead_rank_broke_fails_no_trial(ensemble):
    """It is not the trial's fault: the manager is told of the worker's end, and asks the trial again elsewhere."""
    ensemble.run(1)
    ensemble.dead.add(2)
    ensemble.now(0).ends(1, "FAILED", None, "exception")
    ensemble.now(1).ends(1, "FAILED", None, "exception")
    while not ensemble.group.done:
        assert ensemble.time < 1000
        assert ensemble.group.wake() > ensemble.time
        ensemble.time = min(ensemble.group.wake(), ensemble.time + 10)
        ensemble.now(1).send({"kind": "beat"})
        ensemble.later(1e-3)
    assert not ensemble.finished and ensemble.said[-1]["kind"] == "gone"


def test_a_rank_that_can_not_load_the_objective_says_so_once(ensemble):
    ensemble.run(1)
    for place in (1, 2):
        ensemble.now(place).send({"kind": "broken", "line": "no torch", "error": "E"})
    ensemble.later(10 * MEMBER_LEASE)
    told = [message for message in ensemble.said if message["kind"] != "ready"]
    assert told == [{"kind": "broken", "line": "rank 1 of the group: no torch", "error": "E"}]


def test_in_the_ranks_themselves_nothing_is_killed(tmp_path):
    """A member that is late takes the next trial when it is free."""
    ensemble = Ensemble(tmp_path, isolation="none")
    ensemble.run(1)
    ensemble.now(0).ends(1)
    ensemble.now(1).ends(1)
    ensemble.later(PATIENCE)
    assert ensemble.finished[0]["outcome"]["state"] == "DONE"
    ensemble.run(2)
    late = ensemble.now(2)
    assert [message["id"] for message in late.told] == [1]
    late.ends(1)
    ensemble.members[2].step()
    assert [message["id"] for message in late.told] == [1, 2]
    assert all(len(puppets) == 1 and puppets[0].setup["group"] is None for puppets in ensemble.puppets)


def test_a_fresh_group_for_each_trial(tmp_path):
    ensemble = Ensemble(tmp_path, isolation="fresh")
    for number in (1, 2):
        ensemble.run(number)
        for place in range(3):
            ensemble.now(place).ends(number)
        ensemble.later(0)
    assert len(ensemble.finished) == 2 and all(len(puppets) == 3 for puppets in ensemble.puppets)


outcomes = st.sampled_from([("DONE", None), ("STOPPED", None), ("LOST", "lost")]) | st.tuples(
    st.just("FAILED"), st.sampled_from(["crash", "exit", "memory", "timeout", "exception", "value", "nonfinite"])
)


@given(st.dictionaries(st.integers(0, 5), outcomes, min_size=1))
def test_whose_outcome_counts(told):
    """A value stands but for a member's failure; whoever is chosen has ended, and a member only by failing."""
    messages = {rank: {"outcome": {"state": state, "reason": reason}} for rank, (state, reason) in told.items()}
    chosen = telling(messages)
    if 0 in told and told[0][0] == "STOPPED":
        assert chosen == 0
    if chosen:
        assert told[chosen][0] in ("FAILED", "LOST") and told[chosen][1] not in ("value", "nonfinite")
    elif told.get(0) == ("DONE", None):
        failed = [rank for rank, (state, _) in told.items() if state == "FAILED"]
        assert all(told[rank][1] in ("value", "nonfinite") for rank in failed)


# --- with real ranks ------------------------------------------------------------------------------------------------


def evaluate(folder, ranks, settings, *cases, **environ):
    """What rank 0 prints, the outcomes of each worker in order, and the log."""
    command = [MPIRUN, "-n", str(ranks), sys.executable, str(HERE / "group_run.py"), str(folder), json.dumps(settings)]
    environ = {name: value for name, value in os.environ.items() if name not in THREADS} | environ
    ran = subprocess.run([*command, *cases], capture_output=True, text=True, timeout=110, env=environ)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    answer = json.loads(ran.stdout.splitlines()[-1])
    told = {}
    for each in answer["told"]:
        told.setdefault(each["worker"], []).append(each)
    return answer, told, ran.stderr


@pytest.mark.mpi
def test_ranks_share_a_communicator(tmp_path):
    """Isolation none: two workers of two ranks, one rank is left over; an exception of a member is the trial's."""
    settings = {"ranks_per_worker": 2, "isolation": "none"}
    answer, told, log = evaluate(tmp_path, 6, settings, "sum", "member raises at the end", "sum")
    assert answer["ready"] == [1, 2] and "rank 5 left over and parked" in log
    for outcomes in told.values():
        assert [each["value"] for each in outcomes] == [3.0, None, 3.0]
        assert outcomes[0]["metrics"]["size"] == 2
        assert outcomes[1]["error"].startswith("rank 1 of the 2") and "KeyError: 'boo'" in outcomes[1]["error"]


@pytest.mark.mpi
@pytest.mark.torch
@pytest.mark.parametrize("ranks", [3, pytest.param(5, marks=pytest.mark.slow)])
def test_children_form_a_torch_group(tmp_path, ranks):
    """After a crash new children form a new one; the rendezvous leaves nothing behind."""
    settings = {"ranks_per_worker": 2, "isolation": "process"}
    answer, told, _ = evaluate(tmp_path, ranks, settings, "sum", "member crashes", "sum")
    assert answer["ready"] == list(range(1, ranks // 2 + 1)) == sorted(told)
    for outcomes in told.values():
        assert [each["value"] for each in outcomes] == [3.0, None, 3.0]
        assert [each["reason"] for each in outcomes] == [None, "crash", None]
        assert "SIGSEGV" in outcomes[1]["error"]
    assert not list(tmp_path.glob(".group*"))


@pytest.mark.mpi
def test_no_gpu_idles_when_rank_0_has_taken_its_place(tmp_path):
    """Three GPUs, three ranks: rank 0 hosts the third worker, on what is called 7 here, and nothing is renumbered."""
    answer, told, _ = evaluate(tmp_path, 3, {"isolation": "process"}, "where", CUDA_VISIBLE_DEVICES="2,5,7")
    assert answer["ready"] == [1, 2, 3]
    assert [told[worker][0]["metrics"]["gpus"] for worker in (1, 2, 3)] == ["2", "5", "7"]
    assert {told[worker][0]["metrics"]["device"] for worker in (1, 2, 3)} == {"cuda"}
    assert [told[worker][0]["metrics"]["parent"] == answer["pid"] for worker in (1, 2, 3)] == [False, False, True]


@pytest.mark.mpi
@pytest.mark.torch
def test_rank_0_takes_its_place_in_a_group(tmp_path):
    """Four GPUs, four ranks, two to a worker: the second worker's other rank is rank 0; after a crash they go on."""
    settings = {"ranks_per_worker": 2, "gpus_per_worker": 2, "isolation": "process"}
    answer, told, log = evaluate(tmp_path, 4, settings, "sum", "member crashes", "sum", CUDA_VISIBLE_DEVICES="4,5,6,7")
    assert answer["ready"] == [1, 2] == sorted(told) and "parked" not in log
    for outcomes in told.values():
        assert [each["value"] for each in outcomes] == [3.0, None, 3.0]
        assert [each["reason"] for each in outcomes] == [None, "crash", None]
    assert not list(tmp_path.glob(".group*"))


@pytest.mark.mpi
def test_parts_of_gpus_are_all_given(tmp_path):
    """Two GPUs in halves and four ranks: rank 0 hosts the fourth worker."""
    settings = {"isolation": "process", "gpus_per_worker": 0.5}
    answer, told, _ = evaluate(tmp_path, 4, settings, "where", CUDA_VISIBLE_DEVICES="2,5")
    assert answer["ready"] == [1, 2, 3, 4]
    assert [told[worker][0]["metrics"]["gpus"] for worker in (1, 2, 3, 4)] == ["2", "2", "5", "5"]


@pytest.mark.mpi
def test_a_worker_without_a_gpu_is_parked(tmp_path):
    """Where each is to have one; it says so, and is given nothing."""
    settings = {"isolation": "process", "gpus_per_worker": 1}
    answer, told, _ = evaluate(tmp_path, 4, settings, "where", CUDA_VISIBLE_DEVICES="GPU-ab,GPU-cd")
    assert answer["ready"] == [1, 2]
    assert [told[worker][0]["metrics"]["gpus"] for worker in (1, 2)] == ["GPU-ab", "GPU-cd"]
    assert "is parked: 2 GPUs visible" in told[3][0]["line"]


@pytest.mark.mpi
@pytest.mark.parametrize(("ranks_per_worker", "case"), [(1, "until cancelled"), (2, "until cancelled, all")])
def test_an_objective_in_the_rank_hears_that_it_is_to_end(tmp_path, ranks_per_worker, case):
    """At its reports; afterwards the ranks take the next trial."""
    settings = {"ranks_per_worker": ranks_per_worker, "isolation": "none"}
    _, told, _ = evaluate(tmp_path, 1 + ranks_per_worker, settings, case, case)
    assert [each["state"] for each in told[1]] == ["STOPPED", "STOPPED"]
    assert all(each["value"] >= 0 and each["duration"] < 15 for each in told[1])
