"""The freshness law: a worker waits for a newer model only while that costs under 1 % of an evaluation."""

import pytest

from mpibo.engine.managing.supply import Supply
from mpibo.trial import Proposal


def proposals(count, ask=0):
    return [Proposal({"x": place}, ask=ask, place=place) for place in range(count)]


def answer(supply, seconds, now=0.0, idle=1, left=1000):
    request = supply.wanted(idle, left)
    supply.out(request, now)
    supply.answered(proposals(request.count), now + seconds)
    return request


def learned(workers, typical, fit=0.01, look=0.001):
    """A supply that knows how long evaluations and answers take."""
    supply = Supply(workers)
    answer(supply, look)
    supply.prepared = True
    for _ in range(3):
        supply.ended(typical)
        supply.waiting.clear()
        request = supply.wanted(workers, 1000)
        supply.out(request, 0.0)
        supply.answered(proposals(request.count), fit if request.fit else look)
    supply.waiting.clear()
    return supply


def test_before_any_result_every_worker_gets_a_design_point():
    supply = Supply(7)
    request = supply.wanted(idle=0, left=64)
    assert request.count == 7 and not request.fit


def test_one_request_at_a_time():
    supply = Supply(2)
    supply.out(supply.wanted(2, 64), now=0.0)
    assert supply.wanted(2, 64) is None


def test_long_evaluations_wait_for_the_newest_model():
    """An answer of 10 ms against an evaluation of 60 s: nothing is kept ready, each start sees every result."""
    supply = learned(7, typical=60.0)
    supply.ended(60.0)
    assert supply.wanted(idle=0, left=64) is None
    request = supply.wanted(idle=2, left=64)
    assert request.count == 2 and request.fit and request.keep == ()


def test_short_evaluations_never_wait():
    """An answer of 10 ms against an evaluation of 100 ms: enough are asked for to last until the next answer."""
    supply = learned(100, typical=0.1)
    supply.ended(0.1)
    request = supply.wanted(idle=0, left=1000)
    assert request.count >= 100 * 0.01 / 0.1


def test_short_of_proposals_the_stock_is_built_up_beside_the_idle_workers():
    """An answer of 3 % of an evaluation: the worker that waits for it is the last one to wait."""
    supply = learned(7, typical=1.0, fit=0.03)
    supply.ended(1.0)
    request = supply.wanted(idle=1, left=100)
    assert request.count >= 2


def test_a_dear_fit_is_bridged_by_the_last_model():
    supply = learned(64, typical=1.0, fit=0.5, look=0.002)
    supply.ended(1.0)
    bridge = supply.wanted(idle=0, left=1000)
    assert not bridge.fit and bridge.count >= 64 * 0.5
    supply.out(bridge, 0.0)
    supply.answered(proposals(bridge.count), 0.002)
    assert supply.wanted(idle=0, left=1000).fit


def test_nothing_is_fitted_before_the_libraries_are_there():
    supply = Supply(4)
    answer(supply, 0.001)
    supply.ended(1.0)
    request = supply.wanted(idle=4, left=100)
    assert request is None or not request.fit
    supply.prepared = True
    assert supply.wanted(idle=4, left=100).fit


def test_results_of_an_earlier_start_are_fitted_first():
    """A resume or a warm start waits for its libraries: their time is no fit's. Typical is what it was before."""
    supply = Supply(4)
    supply.resumed(20, [3.0, 1.0, 2.0])
    assert supply.typical == 2.0
    assert answer(supply, 1.5).fit
    supply.prepared = True
    supply.ended(2.0)
    request = answer(supply, 0.001, idle=4)
    assert request.fit and request.count <= 8
    supply.waiting.clear()
    supply.ended(2.0)
    assert supply.on_demand(True), "an answer takes a millisecond, not a second and a half"


def test_the_typical_duration_is_that_of_the_last_rounds():
    supply = Supply(100)
    for duration in [9.0] * 300 + [1.0] * 101:
        supply.ended(duration)
    assert supply.typical == 1.0


@pytest.mark.parametrize("left", [0, 1, 3])
def test_no_more_than_may_be_started(left):
    supply = learned(16, typical=0.01)
    supply.ended(0.01)
    request = supply.wanted(idle=16, left=left)
    assert request is None if left == 0 else request.count <= left


def test_an_empty_answer_waits_for_news():
    supply = learned(2, typical=60.0)
    supply.ended(60.0)
    supply.out(supply.wanted(1, 10), 0.0)
    supply.answered([], 0.001)
    assert supply.exhausted and supply.wanted(1, 10) is None
    supply.ended(60.0)
    assert not supply.exhausted and supply.wanted(1, 10) is not None


def test_an_answer_is_of_bounded_size():
    """Thousands of workers are served by several answers, the first of them early."""
    supply = Supply(4096)
    assert 0 < supply.wanted(idle=4096, left=100_000).count <= 1000


def served(supply, seconds, demand, idle=0):
    """One answer, during which so many trials were started, and so many workers wait after it."""
    request = answer(supply, seconds, idle=idle, left=100_000)
    for _ in range(min(demand, len(supply.waiting))):
        supply.waiting.popleft()
    supply.ended(1.0)
    return request


def test_a_proposer_that_can_not_keep_up_looks_more_often_than_it_fits():
    """While thousands of workers wait most answers are of the last model, but not all."""
    supply = Supply(4096)
    supply.prepared = True
    supply.ended(1.0)
    fits = [served(supply, 0.2, demand=4096, idle=2000).fit for _ in range(45)]
    assert 3 <= sum(fits[5:]) <= 10


def test_ends_in_bursts_are_provided_for():
    """Evaluations of equal length end together: more is kept ready than their mean rate says, at most one a worker."""
    supply = Supply(100)
    supply.prepared = True
    supply.ended(1.0)
    for _ in range(60):
        calm = served(supply, 0.1, demand=10).count
    served(supply, 0.1, demand=60)
    burst = served(supply, 0.1, demand=10).count
    assert calm < burst <= 100
    for _ in range(60):
        after = served(supply, 0.1, demand=10).count
    assert after == calm


def test_instant_evaluations_of_a_design_do_not_wait():
    """A design is as good whenever it is made; a model is not made older for evaluations of a millisecond."""

    def need(origin):
        supply = Supply(7)
        supply.prepared = True
        for _ in range(200):
            supply.ended(0.001)
        for _ in range(3):
            request = supply.wanted(7, 10_000)
            supply.out(request, 0.0)
            supply.answered([Proposal({"x": i}, origin=origin) for i in range(request.count)], 0.002)
            supply.waiting.clear()
            supply.ended(0.001)
        return supply.wanted(0, 10_000).count

    assert need("design") >= 14 > need("model")


def test_designs_that_wait_are_all_used():
    """Each is asked for once and kept: none is made in vain, and a request brings more than a handful."""
    supply = Supply(1000)
    supply.prepared = True
    for _ in range(200):
        supply.ended(1.0)
    asked, started = [], 0
    for _ in range(400):
        if (request := supply.wanted(0, 1 << 20)) is not None:
            if started > 1200:  # the first ones were asked for before it was known how long an answer takes
                assert request.fit and request.keep == tuple(supply.waiting) and request.count >= 100
            asked.append(request.count)
            supply.out(request, 0.0)
            made = [Proposal({}, origin="design", ask=len(asked), place=i) for i in range(request.count)]
            supply.answered(made, 0.01)
        for _ in range(min(20, len(supply.waiting))):
            supply.waiting.popleft()
            supply.ended(1.0)
            started += 1
    assert started >= 4000 and sum(asked) - started == len(supply.waiting)
