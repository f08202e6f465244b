"""A Slurm cluster on this machine: each node in namespaces of its own, so that it can be cut off, or shot."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import stat
import subprocess
import time
from contextlib import suppress
from pathlib import Path

NETWORK = "10.77.0"
PATH = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/sbin"])
PROGRAMS = "setpriv slurmctld slurmd munged srun sbatch unshare nsenter ip".split()
# Pid 1 of a node: a shell, since it reaps what loses its parent. When it is killed the node is gone, at once.
INIT = """
mount --bind "$2" /etc/hosts; mount -t tmpfs tmpfs /dev/shm; hostname "$1"; ip link set lo up; while sleep 9; do :; done
"""
NAMESPACES = "--net --uts --mount --pid --fork --mount-proc".split()
CONF = """
ClusterName=test
SlurmctldHost=ctl({network}.254)
SlurmctldPort=26817
SlurmdPort=26818
AuthType=auth/munge
AuthInfo=socket={folder}/munge/munge.sock
SlurmUser=root
SlurmdUser=root
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool.%n
TmpFS={folder}/tmp.%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.%n.pid
SlurmctldLogFile={folder}/log/slurmctld.log
SlurmdLogFile={folder}/log/slurmd.%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SchedulerType=sched/backfill
SchedulerParameters=sched_interval=1,bf_interval=1,sched_min_interval=0
MpiDefault=none
ReturnToService=2
SlurmdParameters=config_overrides
SlurmdTimeout=15
KillWait=10
MinJobAge=600
MessageTimeout=10
InactiveLimit=0
JobRequeue=1
GresTypes=gpu
{nodes}
PartitionName=main Nodes=ALL Default=YES MaxTime=INFINITE OverSubscribe=NO State=UP
"""


def lack() -> str:
    """Why no cluster can be had here; empty where one can."""
    if os.geteuid() != 0:
        return "a cluster needs root"
    for program in PROGRAMS:
        if not shutil.which(program, path=PATH):
            return f"{program} is not installed"
    bridge = ["unshare", *NAMESPACES, "ip", "link", "add", "br0", "type", "bridge"]
    tried = subprocess.run(bridge, capture_output=True, text=True, env=os.environ | {"PATH": PATH})
    return f"namespaces or bridges are not allowed here: {tried.stderr.strip()}" if tried.returncode else ""


class Node:
    """A host of its own: name, network, processes and /dev/shm; all of it is gone when its pid 1 is."""

    def __init__(self, name: str, hosts: Path) -> None:
        self.name = name
        holder = ["setpriv", "--pdeathsig", "KILL", "unshare", *NAMESPACES, "--kill-child"]
        self._holder = subprocess.Popen(
            [*holder, "bash", "-c", INIT, "init", name, hosts], env=os.environ | {"PATH": PATH}
        )
        children = Path(f"/proc/{self._holder.pid}/task/{self._holder.pid}/children")
        wait_for(lambda: children.read_text().split(), f"{name}'s first process")
        self.pid = int(children.read_text().split()[0])
        wait_for(lambda: b"sleep" in b"".join(self._commands()), f"{name} to come up")

    def _commands(self) -> list[bytes]:
        found = []
        for each in _children(self.pid):
            with suppress(OSError):  # it has just ended
                found.append(Path(f"/proc/{each}/cmdline").read_bytes())
        return found

    def enter(self, command: list[str], folder: Path, variables: dict[str, str]) -> list[str]:
        """The command that runs a command here."""
        told = [f"{name}={value}" for name, value in variables.items()]
        there = ["env", "-C", str(folder), *told, *map(str, command)]
        return ["nsenter", "--target", str(self.pid), "--net", "--uts", "--mount", "--pid", *there]

    def shoot(self) -> None:
        """SIGKILL to all of it."""
        if self._holder.poll() is None:
            self._holder.kill()
        self._holder.wait()


class Cluster:
    """A controller and some nodes.

    Args:
        folder: Where its files lie.
        nodes: How many; their names are n1, n2, ...
        cpus: What each says it has.
    """

    def __init__(self, folder: Path, nodes: int = 3, cpus: int = 8) -> None:
        self.folder = folder
        self.work = folder / "work"
        self.nodes: dict[str, Node] = {}
        for name in ("state", "log", "munge", "work"):
            (folder / name).mkdir(parents=True)
        folder.chmod(0o755)
        names = [f"n{i}" for i in range(1, nodes + 1)]
        addresses = {name: f"{NETWORK}.{i}" for i, name in enumerate(names, start=1)}
        hosts = folder / "hosts"
        hosts.write_text("".join(f"{ip} {name}\n" for name, ip in
                                 {"localhost": "127.0.0.1", "ctl": f"{NETWORK}.254", **addresses}.items()))  # fmt: skip
        lines = [
            f"NodeName={name} NodeAddr={ip} CPUs={cpus} RealMemory=1000 Gres=gpu:2 State=UNKNOWN"
            for name, ip in addresses.items()
        ]
        self.conf = folder / "slurm.conf"
        self.conf.write_text(CONF.format(folder=folder, network=NETWORK, nodes="\n".join(lines)))
        for name in ("gpu0", "gpu1"):  # of every node; nothing opens them
            os.mknod(folder / name, 0o600 | stat.S_IFCHR, os.makedev(1, 3))
        (folder / "gres.conf").write_text(f"Name=gpu File={folder}/gpu[0-1]\n")
        key = folder / "munge.key"
        key.write_bytes(secrets.token_bytes(1024))
        key.chmod(0o400)
        try:
            self.control = Node("ctl", hosts)
            self._network("link", "add", "br0", "type", "bridge")
            self._network("addr", "add", f"{NETWORK}.254/24", "dev", "br0")
            self._network("link", "set", "br0", "up")
            munged = f"--key-file={key} --socket={folder}/munge/munge.sock --pid-file={folder}/munged.pid"
            munged += f" --log-file={folder}/log/munged.log --seed-file={folder}/munge.seed"
            self.run("munged", "--force", *munged.split())
            self.run("slurmctld", "-f", self.conf)
            for name in names:
                self.add(name, addresses[name])
            states = ["sinfo", "-h", "-o", "%t"]
            wait_for(lambda: self.run(*states, check=False).split() == ["idle"], "the nodes to be idle", 60)
        except BaseException:
            self.down()
            raise

    def _network(self, *command: str, check: bool = True) -> None:
        entered = ["nsenter", "--target", str(self.control.pid), "--net", "ip", *command]
        subprocess.run(entered, check=check, capture_output=True, env={"PATH": PATH})

    def add(self, name: str, address: str | None = None) -> None:
        """A node comes up, for the first time or again."""
        address = address or f"{NETWORK}.{name[1:]}"
        self._network("link", "del", f"to-{name}", check=False)  # a dead node's end may still be there
        node = self.nodes[name] = Node(name, self.folder / "hosts")
        self._network("link", "add", f"to-{name}", "type", "veth", "peer", "name", "eth0", "netns", str(node.pid))
        self._network("link", "set", f"to-{name}", "master", "br0", "up")
        for part in (["addr", "add", f"{address}/24", "dev", "eth0"], ["link", "set", "eth0", "up"]):
            self.run("ip", *part, on=node)
        for kind in ("spool", "tmp"):
            (self.folder / f"{kind}.{name}").mkdir(exist_ok=True)
        self.run("slurmd", "-N", name, "-f", self.conf, on=node)

    def cut(self, name: str, connected: bool = False) -> None:
        """Pull the cable of a node, or put it back."""
        self._network("link", "set", f"to-{name}", "up" if connected else "down")

    def run(self, *command: object, on: Node | None = None, check: bool = True, **variables: str) -> str:
        """Run a command on the controller (the login node), or on a node; gives what it says."""
        variables = {"SLURM_CONF": str(self.conf), "PATH": PATH} | variables
        entered = (on or self.control).enter([str(part) for part in command], self.work, variables)
        done = subprocess.run(
            entered, capture_output=True, text=True, env={"PATH": PATH} | _plain(), stdin=subprocess.DEVNULL, timeout=60
        )
        if check and done.returncode:
            raise AssertionError(f"{' '.join(map(str, command))}: code {done.returncode}\n{done.stdout}{done.stderr}")
        return done.stdout + done.stderr

    def submit(self, *command: object, **variables: str) -> int:
        """``sbatch``; gives the job's number."""
        return int(self.run("sbatch", *command, **variables).split()[-1])

    def job(self, number: int) -> dict[str, str]:
        """What ``scontrol`` knows of a job."""
        told = self.run("scontrol", "-o", "show", "job", str(number))
        return dict(part.split("=", 1) for part in told.split() if "=" in part)

    def finish(self, number: int, seconds: float = 240) -> dict[str, str]:
        """Wait for a job's end; one that was requeued does not wait for its turn."""
        deadline = time.monotonic() + seconds
        while (job := self.job(number))["JobState"] in ("PENDING", "RUNNING", "COMPLETING", "REQUEUED", "CONFIGURING"):
            assert time.monotonic() < deadline, f"{job}\n{self.output(number)}"
            if job["JobState"] == "PENDING" and job["Reason"] == "BeginTime":
                time.sleep(3)  # the nodes refuse a job in the second in which they have revoked it
                self.run("scontrol", "update", f"JobId={number}", "StartTime=now", check=False)
            time.sleep(0.5)
        return job

    def output(self, number: int) -> str:
        """What a job has printed."""
        found = self.work / f"slurm-{number}.out"
        return found.read_text() if found.exists() else "(no output)"

    def down(self) -> None:
        """Stop everything; the network goes with its last process."""
        for node in [*self.nodes.values(), *filter(None, [getattr(self, "control", None)])]:
            node.shoot()


def status(folder: Path) -> dict[str, object]:
    """A run's ``status.json``; empty while there is none."""
    try:
        return json.loads((folder / "status.json").read_text())
    except FileNotFoundError:
        return {}


def wait_for(look, what: str, seconds: float = 30):
    """Poll until something is so."""
    deadline = time.monotonic() + seconds
    while not (found := look()):
        assert time.monotonic() < deadline, f"waited {seconds} s for {what}"
        time.sleep(0.05)
    return found


def _plain() -> dict[str, str]:
    """The environment without what a launcher or another cluster left in it."""
    return {
        k: v for k, v in os.environ.items() if not k.startswith(("SLURM_", "SBATCH_", "PMI_", "MPIBO_")) and k != "PATH"
    }


def _children(pid: int) -> list[str]:
    return Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
