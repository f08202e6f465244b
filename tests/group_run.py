"""A job of groups for tests/test_groups.py: rank 0 gives each worker its trials and prints the outcomes.

mpirun -n 5 python tests/group_run.py FOLDER '{"ranks_per_worker": 2, "isolation": "none"}' CASE...
"""

import json
import os
import sys
import time
from pathlib import Path

from mpibo.engine import messages
from mpibo.engine.environment import is_worker
from mpibo.engine.hosted import beside
from mpibo.engine.mpi import join
from mpibo.engine.ranks import MPITransport
from mpibo.engine.serving import serve
from mpibo.engine.signals import Signals
from mpibo.trial import Trial

OBJECTIVE = """
import os, time

def objective(do, trial):
    if do == "where":
        return {"value": 0, "gpus": os.environ["CUDA_VISIBLE_DEVICES"], "device": trial.device,
                "threads": os.environ["OMP_NUM_THREADS"], "parent": os.getppid()}
    if do == "until cancelled":
        for step in range(2000):
            trial.report(float(step), step=step)
            time.sleep(0.01)
    if do == "until cancelled, all":  # the first rank alone hears; it tells the others
        from mpibo import Stopped
        stopped = None
        for step in range(2000):
            time.sleep(0.01)
            try:
                if trial.comm.rank == 0:
                    trial.report(float(step), step=step)
            except Stopped as error:
                stopped = error
            if trial.comm.bcast(stopped is not None):
                raise stopped or Stopped
    if trial.comm is not None:
        rank, size = trial.comm.rank, trial.comm.size
        total = lambda: trial.comm.allreduce(rank + 1)
    else:
        import torch, torch.distributed as distributed
        rank, size = distributed.get_rank(), distributed.get_world_size()
        def total():
            ones = torch.tensor([rank + 1.0])
            distributed.all_reduce(ones)
            return ones.item()
    if do == "member crashes" and rank == 1:
        os.kill(os.getpid(), 11)
    if do == "member raises" and rank == 1:
        raise KeyError("boo")
    if do == "member raises at the end":
        total()
        if rank == 1:
            raise KeyError("boo")
        return 1.0
    if do == "member's rank dies" and rank == 1:
        os.kill(os.getppid(), 9)
    if do == "first crashes" and rank == 0:
        os._exit(3)
    found = total()
    if rank == 0:
        trial.report(found, step=1)
        return {"value": found, "size": size, "rank": int(os.environ.get("MPIBO_WORKER", 0))}
"""


def main(folder, settings, *cases):
    """Rank 0: each worker gets every case."""
    file = Path(folder, "objective.py")
    file.write_text(OBJECTIVE)
    setup = {
        "objective": {"kind": "file", "path": str(file), "function": "objective"}, "fix": {}, "argv": ["x"],
        "folder": folder, "trial_timeout": None, "memory": None, "token": str(file),
        "goals": [], "limits": [], **json.loads(settings),
    }  # fmt: skip
    world = join()
    told, ready, resources, waiting = [], [], {}, {}
    deadline = time.monotonic() + 100
    with beside(MPITransport(world, setup), world, setup, Signals()) as transport:
        while len(told) < len(cases) * len(transport.workers):
            assert time.monotonic() < deadline, (told, ready, waiting)
            worker, message = transport.receive(transport.now() + 1) or (0, {"kind": "nothing"})
            if message["kind"] == "gone":
                told += [{"worker": worker, "why": message["why"]}] * len(cases)
                world.bury([worker])
            if message["kind"] == "broken":
                told += [{"worker": worker, "line": message["line"]}] * len(cases)
            if message["kind"] == "ready":
                ready.append(worker)
                resources[worker] = message.get("resources")
                waiting[worker] = list(enumerate(cases, start=1))
            if message["kind"] == "report" and message["points"][-1]["value"] != 3.0:  # not a sum
                transport.send(worker, {"kind": "cancel", "id": message["id"], "why": "stop", "grace": 60})
            if message["kind"] == "finished":
                empty = {"value": None, "reason": None, "error": None}
                told.append({"worker": worker, "id": message["id"]} | empty | message["outcome"])
            if message["kind"] in ("ready", "finished") and waiting[worker]:
                number, case = waiting[worker].pop(0)
                transport.send(worker, messages.run(Trial(id=number, config={"do": case}, seed=5)))
        for worker in transport.workers:
            transport.send(worker, {"kind": "quit"})
    print(json.dumps({"ready": sorted(ready), "resources": resources, "told": told, "pid": os.getpid()}), flush=True)


if __name__ == "__main__":
    serve() if is_worker() else main(*sys.argv[1:])
