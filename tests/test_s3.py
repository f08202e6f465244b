"""A run's mirror in S3: what is up there can go on, whatever is cut, killed, damaged or done twice."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from a_run import RUN, end, start
from s3_server import BUCKET, SECRETS, Proxy, environment, served

import mpibo
from mpibo.engine.ends import TAKEN
from mpibo.engine.keeper import Keeper
from mpibo.engine.mirroring.mirror import Mirror, Other, Taken
from mpibo.pulling import pull
from mpibo.settings import settings_from
from mpibo.store import journal, pieces
from mpibo.store.lock import Holder, Locked
from mpibo.store.owner import Lost, Owner
from mpibo.store.pieces import Gap, Piece, chain, checkpoint_name, pieces_of
from mpibo.store.s3 import PART, Changed, Conflict, Place, Trouble
from mpibo.trial import trials_of

pytest.importorskip("boto3")
pytest.importorskip("moto")
ClientError = pytest.importorskip("botocore.exceptions").ClientError

ME = Holder.me()
ELSEWHERE = replace(ME, host="elsewhere", boot="other", token="elsewhere")


# --- pieces, without a server ----------------------------------------------------------------------------------------


def piece(generation, first, last, content=""):
    return Piece(generation, first, last, hashlib.sha256(f"{first}-{last}{content}".encode()).hexdigest())


def lines(pieces):
    return [(each.piece.generation, each.piece.first, each.last) for each in chain(pieces)]


def test_pieces_of_a_fenced_owner_end_where_the_next_one_began():
    old = [piece(1, 1, 10), piece(1, 11, 20), piece(1, 21, 30)]
    assert lines(old) == [(1, 1, 10), (1, 11, 20), (1, 21, 30)]
    began = piece(2, 16, 15)  # it took over behind line 15, and has put nothing yet
    assert lines([*old, began]) == [(1, 1, 10), (1, 11, 15)]
    assert lines([*old, began, piece(2, 16, 17)]) == [(1, 1, 10), (1, 11, 15), (2, 16, 17)]
    assert lines([*old, began, piece(2, 16, 17), piece(3, 9, 8), piece(3, 9, 9)]) == [(1, 1, 8), (3, 9, 9)]
    assert lines([piece(2, 1, 0), piece(1, 1, 5)]) == []


def test_a_larger_piece_stands_for_those_that_it_holds():
    """An upload whose answer was lost, and merged pieces that were not removed yet."""
    small = [piece(1, first, first) for first in range(1, 9)]
    assert lines([*small, piece(1, 1, 6)]) == [(1, 1, 6), (1, 7, 7), (1, 8, 8)]


@pytest.mark.parametrize("lost", [0, 1, 3])
def test_missing_pieces_are_told(lost):
    own = [piece(1, 1, 10), piece(1, 11, 20), piece(1, 21, 30), piece(2, 31, 30), piece(2, 31, 40), piece(2, 41, 50)]
    del own[lost if lost < 3 else 4]
    with pytest.raises(Gap, match="are missing"):
        chain(own)


def test_a_name_is_read_back():
    one = piece(3, 812, 840)
    assert Piece.parse(one.name) == one and pieces_of([one.name, "owner.json", "journal/x.jsonl"]) == [one]


@pytest.mark.parametrize(
    "url", ["s3://AKIA:s3cr3t@runs/x", "https://user:s3cr3t@host/x", "s3://runs/../s3cr3t", "s3://runs/x?s3cr3t=1"]
)
def test_a_key_in_the_url_is_refused_and_not_repeated(url):
    with pytest.raises(ValueError, match="sync: expected s3://BUCKET/PREFIX") as caught:
        settings_from({"sync": url})
    assert "s3cr3t" not in str(caught.value)
    assert settings_from({"sync": "s3://runs/mnist/a=1/"}).sync == "s3://runs/mnist/a=1"


# --- over HTTP -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with served(tmp_path_factory.mktemp("s3")) as made:
        yield made


@pytest.fixture
def proxy(server, monkeypatch):
    made = Proxy(server.port)
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    for name, value in environment(made.port).items():
        monkeypatch.setenv(name, value)
    return made


@pytest.fixture
def url(request):
    return f"s3://{BUCKET}/{request.node.name.translate(str.maketrans('[]-', '___'))}"


@pytest.fixture
def place(proxy, url):
    return Place(url)


class Run:
    """A run folder with a journal that is synced by hand, and its mirror in this process."""

    def __init__(self, folder, place, me=ME, schedule=None):
        folder.mkdir(exist_ok=True)
        self.folder, self.place, self.warnings, self.asked = folder, place, [], []
        self.journal = journal.Journal(folder, sync=False)
        self.synced = self.journal.number
        self.owner = Owner(place, me)
        self.mirror = Mirror(folder, place, self.owner, lambda: self.synced, self.warnings.append)
        ask = place._ask

        def recorded(what, **arguments):
            answer = ask(what, **arguments)
            self.asked.append((what, arguments.get("Key", "").rpartition(f"{place._prefix}")[2]))
            return answer

        place._ask = recorded

    def write(self, *events):
        for event in events:
            self.journal.append(event)
        self.journal.write()
        self.synced = self.journal.number

    def save(self, trial, step, data):
        """A checkpoint's file, and the point that names it."""
        path = self.folder / "checkpoints" / str(trial) / f"{step}.ckpt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        told = {"step": step, "sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)}
        return {"kind": "report", "t": 1.0, "id": trial, "step": step, "value": 0.5, "checkpoint": told}

    def puts(self):
        kinds = [(what, name.partition("/")[0]) for what, name in self.asked if what in ("put_object", "delete_object")]
        self.asked.clear()
        return [each for each in kinds if each[1] != "owner.json"]


@pytest.fixture
def run(tmp_path, place):
    return Run(tmp_path / "run", place)


def back(place, tmp_path, name="back"):
    """The run as it comes back."""
    pull(place, tmp_path / name)
    return tmp_path / name


def test_a_checkpoint_goes_before_its_line_and_leaves_after_the_line_that_ends_its_use(run, tmp_path):
    run.mirror.begin()
    run.write(*RUN[:2], run.save(0, 1, b"one"))
    run.mirror.step()
    run.asked.clear()
    run.write(run.save(0, 2, b"two"))
    run.mirror.step()
    assert run.puts() == [("put_object", "checkpoints"), ("put_object", "journal"), ("delete_object", "checkpoints")]
    assert (back(run.place, tmp_path) / "checkpoints/0/2.ckpt").read_bytes() == b"two"
    run.write(run.save(0, 3, b"three"))
    run.synced -= 1
    run.mirror.step()
    assert run.puts() == []  # its line is not on the disk yet


def test_a_checkpoint_that_was_replaced_meanwhile_is_not_missed(run, tmp_path):
    """The file is gone, the line that made it useless not told yet: the mirror waits for it, once."""
    run.mirror.begin()
    run.write(*RUN[:2], run.save(0, 1, b"one"))
    (run.folder / "checkpoints/0/1.ckpt").unlink()
    run.mirror.step()
    assert run.mirror.line == 0
    run.write(run.save(0, 2, b"two"))
    run.mirror.step()
    assert run.mirror.line == 4 and (back(run.place, tmp_path) / "checkpoints/0/2.ckpt").exists()
    (run.folder / "checkpoints/0/2.ckpt").write_bytes(b"tw0")
    run.write(start(2.0, 9), run.save(9, 1, b"good"))
    (run.folder / "checkpoints/9/1.ckpt").write_bytes(b"bad")
    run.mirror.step()
    run.mirror.step()
    assert run.mirror.line == 6 and "9/1.ckpt is damaged" in run.warnings[0]


def test_an_upload_that_is_cut_goes_on_where_it_was(run, proxy, tmp_path):
    """Cut in the middle of a large checkpoint, and opened again: the parts that are there are not sent again."""
    run.mirror.begin()
    data = os.urandom(3 * PART + 5)
    run.write(*RUN[:2], run.save(0, 1, data))
    proxy.cut(after=int(2.5 * PART))
    with pytest.raises(Trouble, match="can't be reached"):
        run.mirror.step()
    with pytest.raises(Trouble):
        run.mirror.step()
    assert run.mirror.line == 0
    proxy.open()
    before = proxy.sent
    run.mirror.step()
    assert proxy.sent - before < 1.2 * PART + 100_000
    folder = back(run.place, tmp_path)
    assert (folder / "checkpoints/0/1.ckpt").read_bytes() == data
    assert (folder / journal.NAME).read_bytes() == (run.folder / journal.NAME).read_bytes()


def test_everything_is_encrypted_and_has_a_checksum(run, server):
    run.mirror.begin()
    (run.folder / "status.json").write_text("{}")
    run.write(*RUN[:2], run.save(0, 1, b"a" * (PART + 1)))
    run.mirror.step(last=True)
    client, prefix = server.client(), run.place._prefix
    found = client.list_objects_v2(Bucket=BUCKET, Prefix=prefix)["Contents"]
    assert {each["Key"].removeprefix(prefix).partition("/")[0] for each in found} == {
        "owner.json", "journal", "checkpoints", "status.json"
    }  # fmt: skip
    for each in found:
        about = client.head_object(Bucket=BUCKET, Key=each["Key"], ChecksumMode="ENABLED")
        assert about["ServerSideEncryption"] == "AES256" and about["Metadata"]["sha256"]
        assert "ChecksumSHA256" in about or not 0 < each["Size"] <= PART  # moto tells none of others


def spans(place):
    """The pieces that are there: who put which lines."""
    return [(each.generation, each.first, each.last) for each in pieces_of(place.names("journal/"))]


def test_many_pieces_become_few(run, tmp_path, monkeypatch):
    """Those of earlier starts, too: when the piece that stands for them has come they go, by one request."""
    monkeypatch.setattr(pieces, "MERGE", 4)
    monkeypatch.setattr(pieces, "GROWTH", 2)
    for events in (RUN[:7], RUN[7:8]):
        again = Run(run.folder, Place(run.place.url))
        again.mirror.begin()
        for event in events:
            again.write(event)
            again.asked.clear()
            again.mirror.step()
        again.owner.release()
    assert [(what, name[:38]) for what, name in again.asked if "delete" in what or "journal" in name] == [
        ("put_object", "journal/0002/000000000008-000000000008"),
        ("put_object", "journal/0002/000000000005-000000000008"),
        ("delete_objects", ""),
    ]
    assert spans(run.place) == [(1, 1, 4), (2, 5, 8), (2, 8, 7)]
    assert (back(run.place, tmp_path) / journal.NAME).read_bytes() == (run.folder / journal.NAME).read_bytes()


def test_a_journal_that_was_damaged_on_the_disk_replaces_nothing(run, tmp_path, monkeypatch):
    """What is in S3 was good when it came there, and can be gone on from; later lines become few all the same."""
    monkeypatch.setattr(pieces, "MERGE", 4)
    monkeypatch.setattr(pieces, "GROWTH", 2)
    run.mirror.begin()
    for event in RUN[:3]:
        run.write(event)
        run.mirror.step()
    good = (run.folder / journal.NAME).read_bytes()
    with open(run.folder / journal.NAME, "r+b") as file:
        file.seek(good.index(b'"config"'))
        file.write(b'"c0nfig"')
    for event in RUN[3:8]:
        run.write(event)
        run.mirror.step()
    assert [each[1:] for each in spans(run.place)] == [(1, 0), (1, 1), (2, 2), (3, 3), (4, 4), (5, 8)]
    assert len(run.warnings) == 1 and "is damaged" in run.warnings[0]
    assert (back(run.place, tmp_path) / journal.NAME).read_bytes().startswith(good)


@pytest.mark.parametrize("answer", ["cut", "Errors", "NotImplemented"])
def test_pieces_that_could_not_be_removed_harm_nobody(run, tmp_path, monkeypatch, answer):
    """The next pass tries again; the next start does where this one ended before; one by one where it must be so."""
    monkeypatch.setattr(pieces, "MERGE", 4)
    monkeypatch.setattr(pieces, "GROWTH", 2)
    delete, broken = run.place._client.delete_objects, True

    def answered(**arguments):
        if not broken:
            return delete(**arguments)
        if answer == "Errors":
            objects = arguments["Delete"]["Objects"]
            delete(**arguments | {"Delete": {"Objects": objects[1:]}})
            return {"Errors": [{"Key": objects[0]["Key"], "Code": "InternalError"}]}
        if answer == "NotImplemented":
            raise ClientError(
                {"Error": {"Code": answer}, "ResponseMetadata": {"HTTPStatusCode": 501}}, "delete_objects"
            )
        raise ConnectionError

    monkeypatch.setattr(run.place._client, "delete_objects", answered)
    run.mirror.begin()
    for event in RUN[:4]:
        run.write(event)
        run.mirror.step()
    assert len(spans(run.place)) == {"cut": 6, "Errors": 3, "NotImplemented": 2}[answer]
    assert (back(run.place, tmp_path) / journal.NAME).read_bytes() == (run.folder / journal.NAME).read_bytes()
    if answer == "Errors":  # the next start
        run.owner.release()
        run = Run(run.folder, Place(run.place.url))
        run.mirror.begin()
    broken = False
    run.mirror.step()
    assert len(spans(run.place)) == 2


def test_a_restart_goes_on_behind_what_is_there(run, tmp_path):
    run.mirror.begin()
    run.write(*RUN[:4])
    run.mirror.step()
    run.owner.release()
    again = Run(run.folder, Place(run.place.url), ELSEWHERE)
    again.write(*RUN[4:])
    again.mirror.begin()
    assert again.owner.generation == 2 and again.mirror.line == 4
    again.mirror.step()
    assert (back(run.place, tmp_path) / journal.NAME).read_bytes() == (run.folder / journal.NAME).read_bytes()


def test_another_run_and_an_older_state_are_refused(run, tmp_path):
    run.mirror.begin()
    run.write(*RUN)
    run.mirror.step()
    run.owner.release()
    for name, events, told in [
        ("older", RUN[:4], "holds more of this run"),
        ("other", RUN[:1] + RUN[2:], "another run"),
    ]:
        other = Run(tmp_path / name, Place(run.place.url))
        other.write(*events, *[end(20.0, 4, 1.0, 1.0)] * 9 * (name == "other"))
        with pytest.raises(Other, match=told):
            other.mirror.begin()
    with pytest.raises(ValueError, match="holds another run"):
        pull(run.place, tmp_path / "other")
    assert pull(run.place, tmp_path / "older") == len(RUN)


def test_a_place_that_was_cleared_is_filled_again(run, tmp_path):
    run.mirror.begin()
    run.write(*RUN)
    run.mirror.step()
    run.place.delete(run.place.names())
    run.owner._due = 0.0
    with pytest.raises(Lost):
        run.mirror.step()
    anew = Mirror(run.folder, run.place, run.owner, lambda: run.synced, run.warnings.append)
    anew.begin()
    anew.step()
    assert (back(run.place, tmp_path) / journal.NAME).read_bytes() == (run.folder / journal.NAME).read_bytes()


# --- damage ----------------------------------------------------------------------------------------------------------


def test_a_damaged_piece_is_found(run, server, tmp_path):
    run.mirror.begin()
    for part in (RUN[:4], RUN[4:]):
        run.write(*part)
        run.mirror.step()
    name = next(name for name, size in run.place.names("journal/").items() if size)
    good = run.place.get(name).data
    run.place.put(name, good.replace(b"0.5", b"0.4"))
    with pytest.raises(Changed, match=r"000000000001-000000000004-.*is damaged"):
        pull(run.place, tmp_path / "back")
    assert not (tmp_path / "back").exists()
    run.place.delete([name])
    with pytest.raises(ValueError, match="lines 1 to 4 are missing"):
        pull(run.place, tmp_path / "back")


def test_a_damaged_checkpoint_is_left_out(run, tmp_path, caplog):
    run.mirror.begin()
    run.write(*RUN[:4], *RUN[4:7], run.save(2, 1, b"one"), start(9.0, 5), run.save(5, 1, b"good"))
    run.mirror.step()
    run.place.put(checkpoint_name(2, 1, hashlib.sha256(b"one").hexdigest()), b"oNe")
    folder = back(run.place, tmp_path)
    assert (
        "is damaged" in caplog.text
        and not (folder / "checkpoints/2").is_dir()
        or not list((folder / "checkpoints/2").iterdir())
    )
    assert (folder / "checkpoints/5/1.ckpt").read_bytes() == b"good"


def test_an_object_of_an_odd_name_stays_in_s3(run, tmp_path, caplog):
    run.mirror.begin()
    run.write(*RUN)
    run.mirror.step()
    run.place.put("logs/../../outside", b"x")
    back(run.place, tmp_path)
    assert "odd name" in caplog.text and not (tmp_path / "outside").exists()


# --- owners ----------------------------------------------------------------------------------------------------------


def test_of_two_owners_one_is_fenced_off(run, tmp_path):
    """The first was silent for too long; what it still puts is not part of the run, and it is told at once."""
    run.mirror.begin()
    run.write(*RUN[:4])
    run.mirror.step()
    second = Run(tmp_path / "second", Place(run.place.url), ELSEWHERE)
    pull(run.place, second.folder)
    second = Run(second.folder, Place(run.place.url), ELSEWHERE)
    with pytest.raises(Locked, match=f"process {ME.pid} on"):
        second.mirror.begin()
    second.owner._silence = 0.0
    second.mirror.begin()
    run.write(*RUN[4:6])
    run.mirror.step()  # it does not know yet: its next word is due in 30 s
    second.write(*RUN[6:8])
    second.mirror.step()
    assert (back(run.place, tmp_path) / journal.NAME).read_bytes() == (second.folder / journal.NAME).read_bytes()
    run.owner._due = 0.0
    with pytest.raises(Taken, match="another cluster has taken"):
        run.mirror.step()
    run.write(run.save(2, 1, b"late"))
    with pytest.raises(Taken):
        run.mirror.step()


def test_a_dead_owner_of_this_machine_and_a_requeued_job_are_taken_over_at_once(place):
    Owner(place, replace(ME, pid=2**22 + 1, started=1, token="gone")).acquire()
    Owner(place, replace(ME, job="slurm:c:7", token="job")).acquire()
    Owner(place, replace(ELSEWHERE, job="slurm:c:7", restarts=1, token="requeued")).acquire()
    with pytest.raises(Locked):
        Owner(place, replace(ME, boot="another cluster whose host has our name")).acquire()


def test_an_answer_that_was_lost_is_no_fence(place, monkeypatch):
    """The put worked, its answer did not come: the next one finds our own object."""
    owner = Owner(place, ME)
    owner.acquire()
    owner._tag = '"of an earlier put"'
    assert owner.refresh(now=True) and owner.refresh(now=True)


@pytest.mark.parametrize("known", ["new", "match", None])
def test_a_store_without_conditions_is_refused(place, monkeypatch, known):
    put = place.put

    def half(name, data, match=None, new=False):
        return put(name, data, match if known == "match" else None, new and known == "new")

    monkeypatch.setattr(place, "put", half)
    with pytest.raises(Trouble, match="knows no conditional puts"):
        Owner(place, ME).acquire()
    monkeypatch.undo()
    with pytest.raises(Conflict):
        place.put("x", b"", new=True) and place.put("x", b"", new=True)


def test_a_manager_whose_place_was_taken_ends(tmp_path):
    """As one whose lock was taken; the reason is the run's last line."""
    mirror = SimpleNamespace(poll=lambda synced: f"taken at {synced}")
    keeper = Keeper(None, tmp_path, SimpleNamespace(synced=7, trouble=None), mirror)
    assert keeper() == "taken at 7" and TAKEN == "taken"


# --- whole runs ------------------------------------------------------------------------------------------------------

TRAIN = """
import time
space = {"x": (0.0, 1.0)}
class Sum:
    total = 0.0
    def state_dict(self): return {"total": self.total}
    def load_state_dict(self, state): self.total = state["total"]
def train(x, *, trial):
    part = Sum()
    first = trial.resume(part=part)
    print("first", first, flush=True)
    for step in range(first, trial.budget):
        part.total += x
        time.sleep(SECONDS)
        trial.report(part.total, step=step + 1, state={"steps": step + 1})
"""


def mpibo_(*arguments, folder, port, timeout=100):
    return subprocess.run(
        [sys.executable, "-m", "mpibo", *map(str, arguments)], cwd=folder, env=environment(port), capture_output=True,
        text=True, timeout=timeout,
    )  # fmt: skip


LAUNCHED = {
    "OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
    "PRTE_MCA_rmaps_default_mapping_policy": ":oversubscribe", "OMPI_MCA_rmaps_base_oversubscribe": "1",
}  # fmt: skip


def begun(*arguments, folder, port):
    """The same, while it goes on."""
    command = [sys.executable, "-m", "mpibo", "run", *map(str, arguments), "--out", "run", "--progress", "none"]
    return subprocess.Popen(command, cwd=folder, env=environment(port), stderr=subprocess.PIPE, text=True)


def until(claim, seconds=90):
    end = time.monotonic() + seconds
    while not claim():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.1)


def count(path, kind):
    """Lines of a kind in a run folder's journal."""
    return path.read_bytes().count(f'"kind": "{kind}"'.encode()) if path.exists() else 0


def rows(path):
    return [
        (trial.id, trial.config, trial.state, trial.value, trial.retry_of)
        for trial in trials_of(journal.read(path).events)
    ]


def checkpoints(folder):
    """Every checkpoint of a run folder, and its bytes."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.glob("checkpoints/*/*")}


def test_without_boto3_one_line_before_the_first_trial(tmp_path, monkeypatch):
    (tmp_path / "boto3.py").write_text("raise ImportError\n")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")]))
    done = mpibo_("run", "synthetic:branin", "--max-trials", 3, "--sync", "s3://runs/x", folder=tmp_path, port=1)
    assert done.returncode == 2 and len(done.stderr.splitlines()) == 1
    assert "pip install 'mpibo[aws]'" in done.stderr and not (tmp_path / "runs").exists()


def test_the_extra_is_all_that_it_needs():
    """``pip install 'mpibo[aws]'`` where mpibo is: with boto3 there it is done, and asks no index."""
    command = [sys.executable, "-m", "pip", "install", "--dry-run", "--disable-pip-version-check", "mpibo[aws]"]
    away = {"PIP_INDEX_URL": "http://127.0.0.1:9/simple", "PIP_RETRIES": "0"}
    done = subprocess.run(command, env=os.environ | away, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0 and re.search(r"satisfied: boto3\b", done.stdout), done.stderr


AWAY = pytest.param(None, "can't be reached", marks=pytest.mark.slow)


@pytest.mark.parametrize(("where", "told"), [("s3://no-such-bucket/x", "NoSuchBucket"), AWAY])
def test_a_bad_place_is_told_before_the_first_trial(proxy, tmp_path, where, told):
    """Also an S3 that can't be reached, where a run begins: a wrong endpoint would be found out at its end."""
    flags = ["--max-trials", 3, "--sync", where or "s3://runs/x"]
    done = mpibo_("run", "synthetic:branin", *flags, folder=tmp_path, port=proxy.port if where else 1)
    assert done.returncode == 2 and told in done.stderr.splitlines()[-1] and not list(tmp_path.rglob(journal.NAME))


@pytest.mark.slow
def test_a_run_goes_on_from_s3_alone(server, proxy, url, tmp_path):
    """Told to end; folder and script are gone; what comes back has the same trials, goes on from its checkpoints, and
    nothing anywhere, S3's objects included, holds a credential."""
    (tmp_path / "first").mkdir()
    (tmp_path / "first" / "train.py").write_text(TRAIN.replace("SECONDS", "0.4"))
    flags = ["--max-trials", 3, "--budget", 8, "--seed", 5, "--workers", 2, "--method", "random", "--sync", url]
    process = begun("train.py:train", *flags, folder=tmp_path / "first", port=proxy.port)
    local = tmp_path / "first" / "run" / journal.NAME
    until(lambda: count(local, "report"))
    process.send_signal(signal.SIGUSR1)
    _, told = process.communicate(timeout=90)
    assert process.returncode == 75, told
    before, ours = rows(local.parent), local.read_bytes()
    (tmp_path / "first").rename(tmp_path / "gone")
    (tmp_path / "second").mkdir()
    pulled = mpibo_("pull", url, "copy", folder=tmp_path / "second", port=proxy.port)
    assert pulled.returncode == 0, pulled.stderr
    assert (tmp_path / "second/copy" / journal.NAME).read_bytes() == ours and rows(tmp_path / "second/copy") == before
    done = mpibo_("resume", url, "--max-trials", 4, folder=tmp_path / "second", port=proxy.port)
    assert done.returncode == 0, done.stderr
    folder = tmp_path / "second" / "runs" / url.rpartition("/")[2]
    after = rows(folder)
    assert [row[:2] for row in after[: len(before)]] == [row[:2] for row in before]
    retried = {row[4] for row in after if row[4] is not None}
    assert retried and len([row for row in after if str(row[2]) == "DONE"]) == 4
    logs = "".join(path.read_text() for path in (folder / "logs").iterdir())
    firsts = [int(line.split()[1]) for line in logs.splitlines() if line.startswith("first ")]
    assert any(first > 0 for first in firsts)
    assert json.loads((folder / "status.json").read_text())["exit_code"] == 0
    client = server.client()
    everything = [path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()]
    for each in client.list_objects_v2(Bucket=BUCKET, Prefix=url.removeprefix(f"s3://{BUCKET}/"))["Contents"]:
        everything.append(client.get_object(Bucket=BUCKET, Key=each["Key"])["Body"].read())
    everything += [text.encode() for text in (told, pulled.stdout, pulled.stderr, done.stdout, done.stderr)]
    assert not [secret for secret in SECRETS.values() for data in everything if secret.encode() in data]


@pytest.mark.mpi
@pytest.mark.slow
@pytest.mark.timeout(240)
def test_a_schedule_under_mpirun_goes_on_from_s3_alone(proxy, url, tmp_path):
    """The commands of docs/s3.md, smaller: a run with promotions is told to end and its folder deleted; what is pulled
    replays to the same proposals and has every checkpoint of use; resumed, it goes on with them to the end."""
    (tmp_path / "train.py").write_text(TRAIN.replace("SECONDS", "0.05"))
    launch = [str(Path(sys.executable).with_name("mpirun")), "-n", "3", sys.executable, "-m", "mpibo"]
    flags = ["--schedule", "asha:eta=3", "--budget", "1:9", "--max-trials", "24", "--method", "tpe", "--sync", url]
    process = subprocess.Popen(
        [*launch, "run", "train.py:train", *flags, "--out", "run", "--progress", "none"], cwd=tmp_path,
        env=LAUNCHED | environment(proxy.port), stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    local = tmp_path / "run" / journal.NAME
    until(lambda: local.exists() and local.read_bytes().count(b'"origin": "promotion"') >= 4)
    process.send_signal(signal.SIGUSR1)
    _, told = process.communicate(timeout=90)
    assert json.loads((tmp_path / "run" / "status.json").read_text())["exit_code"] == 75, told
    ours, saved = local.read_bytes(), checkpoints(tmp_path / "run")
    shutil.rmtree(tmp_path / "run")

    pulled = mpibo_("pull", url, "back", folder=tmp_path, port=proxy.port)
    assert pulled.returncode == 0 and "left out" not in pulled.stderr, pulled.stderr
    assert (tmp_path / "back" / journal.NAME).read_bytes() == ours
    assert len(saved) > 3 and checkpoints(tmp_path / "back") == saved
    replayed = mpibo_("replay", "back", folder=tmp_path, port=proxy.port)
    assert replayed.returncode == 0 and replayed.stdout.startswith("identical"), replayed.stdout

    done = subprocess.run(
        [*launch, "resume", url], cwd=tmp_path, env=LAUNCHED | environment(proxy.port), capture_output=True, text=True,
        timeout=150,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    folder = tmp_path / "runs" / url.rpartition("/")[2]
    assert (folder / journal.NAME).read_bytes().startswith(ours)
    result = mpibo.load(folder)
    assert result.why_ended == "max_trials" and result.best.budget == 9
    steps = re.findall(
        r"^first (\d+)$", "".join(path.read_text() for path in (folder / "logs").iterdir()), re.MULTILINE
    )
    assert {"0", "1", "3"} <= set(steps)
    assert mpibo_("replay", folder, folder=tmp_path, port=proxy.port).returncode == 0
    again = mpibo_("pull", url, "again", folder=tmp_path, port=proxy.port)
    assert (
        again.returncode == 0
        and (tmp_path / "again" / journal.NAME).read_bytes() == (folder / journal.NAME).read_bytes()
    )


@pytest.mark.slow
def test_a_server_that_is_killed_costs_the_run_nothing(tmp_path):
    """It comes back empty, while the run goes on: everything is brought up once more."""
    with served(tmp_path) as own:
        flags = ["--fix", "seconds=0.2", "--max-trials", 150, "--method", "random", "--sync", "s3://runs/killed"]
        process = begun("synthetic:sleep", *flags, folder=tmp_path, port=own.port)
        client = own.client()
        until(lambda: client.list_objects_v2(Bucket=BUCKET, Prefix="killed/journal/").get("Contents"))
        own.kill()
        time.sleep(3)
        own.start()
        _, told = process.communicate(timeout=110)
        assert process.returncode == 0 and "goes on and catches up" in told, told
        done = mpibo_("pull", "s3://runs/killed", "back", folder=tmp_path, port=own.port)
        assert done.returncode == 0, done.stderr
        assert (tmp_path / "back" / journal.NAME).read_bytes() == (tmp_path / "run" / journal.NAME).read_bytes()


def waits(path, first, last):
    """Mean seconds between a worker's trials, of those that a worker began in these lines of the journal."""
    events = journal.read(path).events
    workers, ended, found = {}, {}, []
    for event in events:
        if event["kind"] == "start":
            if first < event["n"] <= last and event["worker"] in ended:
                found.append(event["t"] - ended[event["worker"]])
            workers[event["id"]] = event["worker"]
        elif event["kind"] == "end":
            ended[workers[event["id"]]] = event["t"]
    return sum(found) / len(found)


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_an_outage_of_30_seconds_costs_no_worker_time(proxy, url, tmp_path):
    """Between two trials a worker waits for milliseconds, whether S3 is there or not."""
    flags = ["--fix", "seconds=0.5", "--workers", 2, "--max-trials", 240, "--method", "random", "--sync", url]
    process = begun("synthetic:sleep", *flags, folder=tmp_path, port=proxy.port)
    local = tmp_path / "run" / journal.NAME
    until(lambda: count(local, "end") >= 60)
    cut, at = local.read_bytes().count(b"\n"), time.monotonic()
    proxy.cut()
    time.sleep(30)
    opened, lasted = local.read_bytes().count(b"\n"), time.monotonic() - at
    proxy.open()
    _, told = process.communicate(timeout=150)
    assert process.returncode == 0 and "goes on and catches up" in told and "answers again" in told, told
    assert (back(Place(url), tmp_path) / journal.NAME).read_bytes() == local.read_bytes()
    before, during = waits(local, 10, cut), waits(local, cut, opened)
    print(f"waits between trials: {1e3 * before:.2f} ms before, {1e3 * during:.2f} ms in {lasted:.0f} s without S3")
    assert during < before + 0.02


@pytest.mark.slow
def test_a_run_that_was_fenced_off_ends_and_says_so(proxy, url, tmp_path):
    """Another cluster takes the place over: within 30 s the first run ends, its folder tells why."""
    flags = ["--fix", "seconds=0.5", "--max-trials", 500, "--method", "random", "--sync", url]
    process = begun("synthetic:sleep", *flags, folder=tmp_path, port=proxy.port)
    until(lambda: count(tmp_path / "run" / journal.NAME, "end"))
    Owner(Place(url), ELSEWHERE, silence=0.0).acquire()
    _, told = process.communicate(timeout=60)
    assert process.returncode == 1 and told.splitlines()[-1].startswith("mpibo: another cluster has taken s3://")
    status = json.loads((tmp_path / "run" / "status.json").read_text())
    assert (status["state"], status["why_ended"], status["exit_code"]) == ("ended", "taken", 1)


@pytest.mark.slow
def test_a_killed_manager_leaves_a_place_that_can_be_taken_over(proxy, url, tmp_path):
    """Its mirror brings up what it was told of, gives the place back, and ends."""
    flags = ["--fix", "seconds=0.3", "--max-trials", 500, "--method", "random", "--sync", url]
    process = begun("synthetic:sleep", *flags, folder=tmp_path, port=proxy.port)
    local = tmp_path / "run" / journal.NAME
    until(lambda: count(local, "end") >= 3)
    process.kill()
    process.wait()
    place = Place(url)
    until(lambda: json.loads(place.get("owner.json").data)["released"])
    ours, theirs = local.read_bytes(), (back(place, tmp_path) / journal.NAME).read_bytes()
    assert ours.startswith(theirs) and len(ours.splitlines()) - len(theirs.splitlines()) <= 4
    Owner(place, ELSEWHERE).acquire()
