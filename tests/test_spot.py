"""A spot interruption notice is the deadline: mpibo/spot_watch.sh, against a metadata service on loopback."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from mpibo.engine.ends import CLOSING, GRACE

ROOT = Path(__file__).resolve().parent.parent
WATCH = ROOT / "mpibo" / "spot_watch.sh"
NOTICE = '{"action": "terminate", "time": "2026-11-21T18:02:00Z"}'


class Service(ThreadingHTTPServer):
    """Version 2 of the metadata service: a PUT gives a token, nothing is told without one that is valid."""

    daemon_threads = True

    notice = False

    def __init__(self, host="127.0.0.1", port=0):
        super().__init__((host, port), Answer)
        self.life_cycle = "spot"
        self.tokens = 0
        self.asked = 0

    @property
    def address(self):
        return f"http://127.0.0.1:{self.server_address[1]}"


class Answer(BaseHTTPRequestHandler):
    def do_PUT(self):
        seconds = self.headers.get("X-aws-ec2-metadata-token-ttl-seconds", "")
        if self.path != "/latest/api/token" or not seconds.isdigit():
            return self._send(400)
        self.server.tokens += 1
        return self._send(200, f"token-{self.server.tokens}")

    def do_GET(self):
        if self.headers.get("X-aws-ec2-metadata-token") != f"token-{self.server.tokens}":
            return self._send(401)
        if self.path == "/latest/meta-data/instance-life-cycle":
            return self._send(200, self.server.life_cycle)
        self.server.asked += 1
        if self.path == "/latest/meta-data/spot/instance-action" and self.server.notice:
            return self._send(200, NOTICE)
        return self._send(404, "<html>no such item</html>")

    def _send(self, code, text=""):
        self.send_response(code)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, *_):
        pass


@pytest.fixture
def service():
    with Service() as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


def environ(address):
    return {**os.environ, "AWS_EC2_METADATA_SERVICE_ENDPOINT": address, "MPIBO_SPOT_SECONDS": "0.1"}


def watch(address, *command):
    return subprocess.Popen([WATCH, *command], env=environ(address), stdout=-1, stderr=-1, text=True)


def until(condition, seconds=60):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


def test_nothing_happens_before_the_notice(service):
    """The command runs once, after the notice, and its exit code is the watcher's."""
    watcher = watch(service.address, "sh", "-c", "echo told; exit 7")
    until(lambda: service.asked >= 3)
    assert watcher.poll() is None
    service.notice = True
    out, err = watcher.communicate(timeout=60)
    assert (out, watcher.returncode) == ("told\n", 7)
    assert NOTICE in err


def test_a_token_that_has_expired_is_renewed(service):
    """A job may run longer than the six hours that a token lasts."""
    watcher = watch(service.address, "echo", "told")
    until(lambda: service.asked >= 1)
    service.tokens += 1  # what the watcher holds is no longer valid
    service.notice = True
    assert watcher.communicate(timeout=60)[0] == "told\n"


@pytest.mark.parametrize(("life_cycle", "code"), [("spot", 0), ("on-demand", 1)])
def test_only_a_spot_instance_is_one(service, life_cycle, code):
    service.life_cycle = life_cycle
    assert subprocess.run([WATCH, "--check"], env=environ(service.address)).returncode == code


def test_elsewhere_there_is_no_spot_instance():
    """Nobody answers: no spot instance, and no wait for one."""
    start = time.monotonic()
    assert subprocess.run([WATCH, "--check"], env=environ("http://127.0.0.1:9")).returncode == 1
    assert time.monotonic() - start < 20


def test_the_notice_ends_a_run_in_order(service, tmp_path):
    """The manager takes it for the deadline: exit code 75, so that the scheduler starts it again; nothing is lost."""
    run = tmp_path / "run"
    command = [sys.executable, "-m", "mpibo.run", "synthetic:branin", "--max-trials", "1000000", "--workers", "2"]
    manager = subprocess.Popen([*command, "--out", str(run)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    watcher = watch(service.address, "kill", "-USR1", str(manager.pid))
    journal = run / "journal.jsonl"
    until(lambda: journal.exists() and '"end"' in journal.read_text())
    service.notice = True
    assert manager.wait(timeout=60) == 75
    assert watcher.wait(timeout=60) == 0
    assert json.loads((run / "status.json").read_text())["exit_code"] == 75


DEAF = """
import time
space = {"x": (0.0, 1.0)}
def train(x, *, trial):
    (trial.folder / "began").touch()
    time.sleep(100)
"""


def test_a_notice_in_the_run_folder_says_how_long_trials_have(tmp_path):
    """23 s until the machine is gone: those that hear nothing are killed after 3 s, not 20."""
    (tmp_path / "tune.py").write_text(DEAF)
    run = tmp_path / "run"
    command = [sys.executable, "-m", "mpibo.run", "tune.py:train", "--max-trials", "9", "--workers", "2"]
    manager = subprocess.Popen([*command, "--out", str(run)], cwd=tmp_path, stdout=-3, stderr=-3)
    until(lambda: len(list(run.glob("trials/*/began"))) == 2)
    (run / "notice").write_text((datetime.now(UTC) + timedelta(seconds=CLOSING + 3)).isoformat())
    began = time.monotonic()
    manager.send_signal(signal.SIGUSR1)
    assert manager.wait(timeout=60) == 75 and 2 < time.monotonic() - began < GRACE
    assert (run / "journal.jsonl").read_text().count('"lost"') == 2
