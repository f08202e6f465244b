"""A whole run in virtual time: the real manager, journal, search and strategies; simulated workers."""

from mpibo.engine.ends import Limits
from mpibo.engine.managing.manager import Manager
from mpibo.engine.played import begun, training_of
from mpibo.engine.proposer import Inline
from mpibo.engine.transport import Simulated
from mpibo.goals import aims_of
from mpibo.search import Search
from mpibo.space import Space
from mpibo.store.journal import Journal
from mpibo.trial import Outcome, State

SPACE = {"x": (0.0, 1.0), "k": (1, 8), "c": ["a", "b", "c"]}


def value(config):
    """Smallest at x = 0.3, k = 4, c = 'b'."""
    return (config["x"] - 0.3) ** 2 + 0.05 * abs(config["k"] - 4) + (config["c"] != "b")


def lognormal(run, rng):
    return rng.lognormvariate(0.0, 0.5)


def trained(curve):
    """Trainings that report at each step and save the last one; each step takes the trial's seconds."""

    def training(run, each):
        first = begun(run)
        points = [
            {"step": step, "value": curve(run["config"], step), "metrics": {"first": first}}
            for step in range(first + 1, run["budget"] + 1)
        ]
        told = curve(run["config"], run["budget"])
        outcome = Outcome(State.DONE, told, metrics={"first": first}, duration=len(points) * each)
        return training_of(run, outcome, points)

    return training


def simulate(
    folder, method="random", *, workers=8, max_trials=40, objective=value, duration=lognormal, space=SPACE, seed=0,
    wrap=lambda transport: transport, cost=lambda event: 0.0, start=(), maximize=False,
    goals=(), limits=(), noise=False, schedule=None, budget=1, curve=None,
    interrupted=lambda: None, hook=lambda journal: None, wait=lambda seconds: None,
    close=True, orphans=None, prior=(), noticed=lambda: None, **ends,
):  # fmt: skip
    """Run to the end in ``folder``; gives the manager, how it ended, and the transport."""
    made = Space(space)
    ends = {"lease": 1e9, "rungs": schedule is not None} | ends  # simulated workers do not beat
    aims = aims_of(maximize, goals, limits)
    training = None if curve is None else trained(curve)
    transport = wrap(Simulated(workers, objective, duration, latency=1e-4, seed=seed, aims=aims, training=training))
    journal = Journal(folder, now=transport.now, sync=False)
    hook(journal)
    told = {"maximize": maximize, "goals": list(goals), "limits": list(limits), "noise": noise}
    search = Search(made, method, seed=seed, workers=workers, max_trials=max_trials, start=start, schedule=schedule,
                    budget=budget, **told)  # fmt: skip
    settings = {
        "max_trials": max_trials,
        "workers": workers,
        "method": str(method),
        "seed": seed,
        "start": list(start),
        "budget": budget,
        **({"schedule": schedule} if schedule else {}),
        **told,
    }
    opening = {"utc": "2026-01-01T00:00:00+00:00", "host": "here", "settings": settings, "space": made.to_json()}
    manager = Manager(
        Limits(max_trials=max_trials, seed=seed, aims=aims, **ends), transport,
        Inline(search, transport.now, cost), journal, opening, interrupted, tick=1.0, wait=wait, orphans=orphans,
        prior=() if journal.events else prior, noticed=noticed,
    )  # fmt: skip
    with transport:
        ended = manager.run()
    if close:
        journal.close()
    return manager, ended, transport
