"""An S3 over HTTP on this machine, and a way to it that can be cut, for the tests of the mirror."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

SECRETS = {"AWS_ACCESS_KEY_ID": "AKIANEVERSHOWNANYWHERE", "AWS_SECRET_ACCESS_KEY": "s3cr3t/never+shown-anywhere",
           "AWS_SESSION_TOKEN": "t0ken/never+shown-anywhere"}  # fmt: skip
BUCKET = "runs"


class Server:
    """``moto_server`` on loopback: what it holds is gone when it is killed."""

    def __init__(self, log: Path) -> None:
        self.port = _free_port()
        self._log = log
        self.start()

    def start(self) -> None:
        """Start it (again, and empty), with a bucket."""
        command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(self.port)]
        with open(self._log, "ab") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log)
        until = time.monotonic() + 90
        while True:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1):
                break
            assert time.monotonic() < until and self._process.poll() is None, self._log.read_text()
            time.sleep(0.1)
        self.client().create_bucket(Bucket=BUCKET)

    def client(self):
        """A boto3 client of its own, past the proxy."""
        import boto3

        return boto3.client("s3", endpoint_url=f"http://127.0.0.1:{self.port}", region_name="us-east-1",
                            aws_access_key_id="test", aws_secret_access_key="test")  # fmt: skip

    def kill(self) -> None:
        """As a machine that goes away."""
        self._process.kill()
        self._process.wait()


class Proxy:
    """A TCP way to a port that can be cut, at once or in the middle of what is sent, and opened again."""

    def __init__(self, port: int) -> None:
        self._to = port
        self._left: int | None = None  # bytes that still go through towards the server
        self._open = True
        self.sent = 0  # bytes, towards the server
        self._pairs: set[socket.socket] = set()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def cut(self, after: int = 0) -> None:
        """Break every connection, once ``after`` more bytes have gone through."""
        self._left = after
        if not after:
            self._break()

    def open(self) -> None:
        """Let everything through again."""
        self._left, self._open = None, True

    @property
    def is_cut(self) -> bool:
        return not self._open

    def _break(self) -> None:
        self._open = False
        for each in list(self._pairs):
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)

    def _accept(self) -> None:
        while True:
            near, _ = self._listener.accept()
            if not self._open:
                near.close()
                continue
            try:
                far = socket.create_connection(("127.0.0.1", self._to))
            except OSError:
                near.close()
                continue
            self._pairs |= {near, far}
            threading.Thread(target=self._pump, args=(near, far, True), daemon=True).start()
            threading.Thread(target=self._pump, args=(far, near, False), daemon=True).start()

    def _pump(self, source: socket.socket, target: socket.socket, up: bool) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(1 << 16):
                if up and self._left is not None:
                    data, self._left = data[: self._left], self._left - len(data)
                self.sent += len(data) if up else 0
                target.sendall(data)
                if up and self._left is not None and self._left <= 0:
                    self._break()
        for each in (source, target):
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()
            self._pairs.discard(each)


def environment(port: int) -> dict[str, str]:
    """What finds the S3 behind a port, with keys that must never be seen again."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    return kept | SECRETS | {
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}", "AWS_DEFAULT_REGION": "us-east-1", "NO_PROXY": "127.0.0.1",
        "AWS_EC2_METADATA_DISABLED": "true",
    }  # fmt: skip


@contextlib.contextmanager
def served(folder: Path) -> Iterator[Server]:
    """A server for as long as that lasts."""
    server = Server(folder / "moto.log")
    try:
        yield server
    finally:
        server.kill()


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as made:
        return made.getsockname()[1]
