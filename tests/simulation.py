"""A whole run in virtual time: the real manager, journal, search and strategies; simulated workers."""

from mpibo.engine.ends import Limits
from mpibo.engine.manager import Manager
from mpibo.engine.proposer import Inline
from mpibo.engine.transport import Simulated
from mpibo.goals import aims_of
from mpibo.search import Search
from mpibo.space import Space
from mpibo.store.journal import Journal

SPACE = {"x": (0.0, 1.0), "k": (1, 8), "c": ["a", "b", "c"]}


def value(config):
    """Smallest at x = 0.3, k = 4, c = 'b'."""
    return (config["x"] - 0.3) ** 2 + 0.05 * abs(config["k"] - 4) + (config["c"] != "b")


def lognormal(run, rng):
    return rng.lognormvariate(0.0, 0.5)


def simulate(
    folder, method="random", *, workers=8, max_trials=40, objective=value, duration=lognormal, space=SPACE, seed=0,
    wrap=lambda transport: transport, cost=lambda event: 0.0, start=(), maximize=False,
    goals=(), limits=(), noise=False, interrupted=lambda: None, hook=lambda journal: None, wait=lambda seconds: None,
    close=True, orphans=None, **ends,
):  # fmt: skip
    """Run to the end in ``folder``; gives the manager, how it ended, and the transport."""
    made = Space(space)
    ends.setdefault("lease", 1e9)  # simulated workers do not beat
    aims = aims_of(maximize, goals, limits)
    transport = wrap(Simulated(workers, objective, duration, latency=1e-4, seed=seed, aims=aims))
    journal = Journal(folder, now=transport.now, sync=False)
    hook(journal)
    told = {"maximize": maximize, "goals": list(goals), "limits": list(limits), "noise": noise}
    search = Search(made, method, seed=seed, workers=workers, max_trials=max_trials, start=start, **told)
    settings = {
        "max_trials": max_trials,
        "workers": workers,
        "method": str(method),
        "seed": seed,
        "start": list(start),
        **told,
    }
    opening = {"utc": "2026-01-01T00:00:00+00:00", "host": "here", "settings": settings, "space": made.to_json()}
    manager = Manager(
        Limits(max_trials=max_trials, seed=seed, aims=aims, **ends), transport,
        Inline(search, transport.now, cost), journal, opening, interrupted, tick=1.0, wait=wait, orphans=orphans,
    )  # fmt: skip
    with transport:
        ended = manager.run()
    if close:
        journal.close()
    return manager, ended, transport
