"""A whole run in virtual time: the real manager, journal, search and strategies; simulated workers."""

from mpibo.engine import messages
from mpibo.engine.ends import Limits
from mpibo.engine.manager import Manager
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


class Training(Simulated):
    """Simulated workers whose trials report at each step, save the last one, and hear that they are to stop."""

    def __init__(self, count, curve, *arguments, **named):
        super().__init__(count, None, *arguments, **named)
        self._curve = curve
        self._stopping = set()
        self.spans = []  # worker, when a trial began, when it ended

    def send(self, worker, message):
        if message["kind"] == "cancel" and message["why"] == "stop":
            self._stopping.add(message["id"])
        elif message["kind"] == "run":
            self._train(worker, messages.unpack(messages.pack(message)))
        else:
            super().send(worker, message)

    def _train(self, worker, run):
        self._running[worker] = run["id"]
        first = max((each["step"] for each in run.get("checkpoints", ())), default=0)
        each = self._duration(run, self._rng)
        for done, step in enumerate(range(first + 1, run["budget"] + 1), start=1):
            told = self._curve(run["config"], step)
            point = {"step": step, "value": told, "metrics": {"first": first}}
            if run.get("rung") and step == run["budget"]:
                point["checkpoint"] = {"step": step, "sha256": f"{run['id']:064x}", "bytes": 100}
            self._at(done * each, worker, {"kind": "report", "id": run["id"], "points": [point]})
        spent = (run["budget"] - first) * each
        outcome = Outcome(
            State.DONE, self._curve(run["config"], run["budget"]), metrics={"first": first}, duration=spent
        )
        self._at(spent, worker, messages.finished(run["id"], outcome))

    def receive(self, until):
        while (arrived := super().receive(until)) is not None:
            worker, message = arrived
            if message["kind"] != "report":
                return arrived
            number = message["id"]
            if self._running.get(worker) != number:
                continue
            if number in self._stopping:
                value = message["points"][0]["value"]
                self._at(0.0, worker, messages.finished(number, Outcome(State.STOPPED, value, duration=1.0)))
                self._stopping.discard(number)
            return arrived
        return None


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
    if curve is None:
        transport = wrap(Simulated(workers, objective, duration, latency=1e-4, seed=seed, aims=aims))
    else:
        transport = wrap(Training(workers, curve, duration, latency=1e-4, seed=seed, aims=aims))
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
