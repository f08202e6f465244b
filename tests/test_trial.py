"""The ledger: what the manager keeps of a run follows from the lines alone."""

from mpibo.trial import Ledger, Outcome, Proposal, State, end_event, start_event, trial_of, trial_seed, trials_of


def opened(utc="2026-01-01T00:00:00+00:00"):
    return {"kind": "open", "utc": utc, "t": 0.0}


def started(number, t=1.0, **more):
    trial = trial_of(Proposal({"x": number}), number, seed=0)
    return start_event(trial) | {"t": t} | more


def ended(number, value, t=2.0, budget=1):
    return end_event(number, Outcome(State.DONE, value, duration=1.0)) | {"t": t}


def test_the_first_end_stands():
    """A trial given up for lost stays lost, even if its worker answers later."""
    ledger = Ledger()
    ledger.apply(started(0))
    ledger.apply({"kind": "lost", "id": 0, "why": "silent", "death": True})
    assert not ledger.apply(ended(0, 0.1))
    assert ledger.counts[State.LOST] == 1 and ledger.best is None and list(ledger.lost) == [0]


def test_a_retry_takes_the_lost_one_up_and_counts_no_config():
    ledger = Ledger()
    for event in (started(0), {"kind": "lost", "id": 0, "death": True}, started(1, retry_of=0)):
        ledger.apply(event)
    assert not ledger.lost and ledger.configs == 1
    ledger.apply({"kind": "lost", "id": 1, "death": True})
    assert ledger.deaths[0] == 2  # counted for the first attempt
    assert ledger.root(ledger.lost[1]) == 0


def test_the_incumbent_is_the_best_at_the_highest_budget():
    for maximize, best in ((False, 2), (True, 1)):
        ledger = Ledger(maximize)
        for number, (value, budget) in enumerate([(0.0, 1), (9.0, 3), (5.0, 3), (7.0, 3), (99.0, 1)]):
            ledger.apply(started(number, budget=budget))
            ledger.apply(ended(number, value))
        assert ledger.best.id == best


def test_times_count_over_all_starts():
    """Seconds since the first start on a clock of the world, elapsed time only while the run was up."""
    ledger = Ledger()
    for event in (opened(), started(0, t=5.0), opened("2026-01-01T01:00:00+00:00")):
        ledger.apply(event)
    (trial,) = ledger.apply(started(1, t=2.0))
    assert trial.started == 3602.0 and ledger.elapsed == 7.0


def test_rows_from_events():
    events = [
        opened(),
        started(0),
        started(1),
        ended(1, 0.5),
        {"kind": "add", "id": 2, "config": {"x": 9}, "value": 0.1},
    ]
    rows = trials_of(events)
    assert [(row.id, row.state, row.value) for row in rows] == [
        (0, State.RUNNING, None), (1, State.DONE, 0.5), (2, State.DONE, 0.1)
    ]  # fmt: skip
    assert rows[2].origin == "added" and rows[1].order == 0


def test_a_seed_is_its_ancestors():
    assert trial_seed(0, 3) == trial_seed(0, 3) != trial_seed(1, 3) != trial_seed(1, 4)
    assert trial_of(Proposal({}, parent=3), 9, seed=0).seed == trial_seed(0, 3)
    assert trial_of(Proposal({}, parent=7, root=3), 9, seed=0).seed == trial_seed(0, 3)
