"""A place in S3: objects go in and out whole and checked, large ones in parts that outlive a broken connection.

No text of an answer or of an exception is ever passed on, only its code or class: whatever the server, the endpoint or
boto3 would say about keys, tokens and signed URLs ends here.
"""

from __future__ import annotations

import base64
import hashlib
import importlib
import logging
import os
import re
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import IO, Any, TypeVar

from mpibo.store.atomic import sync_folder

PART = 8 * 2**20  # bytes of a part; a larger object goes in several
MOST_PARTS = 9000  # of one object (S3's own limit is 10,000)
TOGETHER = 1000  # objects that one request may remove, by S3's own limit
LONGEST_WAIT = 30.0  # seconds between two tries
HOPELESS = {*range(400, 500), 501} - {408, 409, 429}  # answers after which asking again will not help
NEEDS = "S3 needs the package boto3: pip install 'mpibo[aws]'"

T = TypeVar("T")


class Trouble(OSError):
    """S3 did not do what it was asked. ``hopeless``: asking again will not help (credentials, a bucket's name)."""

    def __init__(self, told: str, hopeless: bool = False) -> None:
        super().__init__(told)
        self.hopeless = hopeless


class Missing(Trouble):
    """There is no such object."""


class Conflict(Exception):
    """A conditional put found another object than the one it names."""


class Changed(ValueError):
    """Bytes that were to be sent, or have come, are not those that their hash names."""


@dataclass(frozen=True)
class Found:
    """An object: its bytes, its tag, and the seconds since it was put, by the server's clock."""

    data: bytes
    tag: str
    age: float


class Place:
    """What lies under ``s3://BUCKET/PREFIX``; names are relative to it.

    Credentials, region and endpoint are boto3's own matter (AWS_ENDPOINT_URL and so on). Every object is encrypted by
    the server, with the key that MPIBO_S3_KMS_KEY names where it is set.

    Args:
        url: Where.
        before: Called before each request; what it raises ends the call.

    Attributes:
        after: Called after each request that was answered well.

    Raises:
        Trouble: Without boto3, or with settings of it that are none.
    """

    def __init__(self, url: str, before: Callable[[], None] = lambda: None) -> None:
        self.url = url.rstrip("/")
        self.before = before
        self.after: Callable[[], None] = lambda: None
        self._bucket, _, prefix = self.url.removeprefix("s3://").partition("/")
        self._prefix = f"{prefix}/" if prefix else ""
        key = os.environ.get("MPIBO_S3_KMS_KEY")
        self._crypt = {"ServerSideEncryption": "aws:kms" if key else "AES256"} | ({"SSEKMSKeyId": key} if key else {})
        self._client = _client()
        self._singly = False  # this store removes objects one by one only

    def names(self, under: str = "") -> dict[str, int]:
        """The objects whose names begin so, with their sizes."""
        found: dict[str, int] = {}
        more: dict[str, str] = {}
        while True:
            answer = self._ask("list_objects_v2", Prefix=self._prefix + under, **more)
            for each in answer.get("Contents", ()):
                found[each["Key"].removeprefix(self._prefix)] = each["Size"]
            if not answer.get("IsTruncated"):
                return found
            more = {"ContinuationToken": answer["NextContinuationToken"]}

    def get(self, name: str) -> Found:
        """A small object.

        Raises:
            Missing: There is none.
        """
        answer = self._ask("get_object", Key=self._prefix + name)
        sent = answer["ResponseMetadata"]["HTTPHeaders"].get("date")
        age = _seconds(answer["LastModified"], parsedate_to_datetime(sent)) if sent else 0.0
        return Found(_guarded(lambda: answer["Body"].read(), self.url), answer["ETag"], age)

    def put(self, name: str, data: bytes, match: str | None = None, new: bool = False) -> str:
        """Put a small object; gives its tag.

        Args:
            match: Only in the place of the object with this tag. new: only where there is none.

        Raises:
            Conflict: There is another one, or one.
        """
        condition = {"IfMatch": match} if match else {"IfNoneMatch": "*"} if new else {}
        digest = hashlib.sha256(data)
        answer = self._ask("put_object", Key=self._prefix + name, Body=data, ChecksumAlgorithm="SHA256",
                           ChecksumSHA256=_base64(digest.digest()),
                           Metadata={"sha256": digest.hexdigest()}, **self._crypt, **condition)  # fmt: skip
        return str(answer["ETag"])

    def send(self, name: str, file: IO[bytes], start: int, size: int, sha256: str) -> None:
        """Put ``size`` bytes of an open file. Parts that an earlier try has brought there are not sent again.

        Raises:
            Changed: These bytes have another hash; nothing is there.
        """
        if size <= PART:
            data = _read(file, start, size)
            _check(hashlib.sha256(data).hexdigest(), sha256, name)
            self.put(name, data)
            return
        key = {"Key": self._prefix + name}
        upload, there = self._begun(name)
        if not upload:
            about = {"ChecksumAlgorithm": "SHA256", "Metadata": {"sha256": sha256}, **self._crypt}
            upload = self._ask("create_multipart_upload", **key, **about)["UploadId"]
        key["UploadId"] = upload
        length = max(PART, -(-size // MOST_PARTS))
        whole, parts = hashlib.sha256(), []
        for number, at in enumerate(range(start, start + size, length), start=1):
            data = _read(file, at, min(length, start + size - at))
            whole.update(data)
            part = _base64(hashlib.sha256(data).digest())
            old = there.get(number)
            tag = old["ETag"] if old and _is_same(old, data, part) else None
            if tag is None:
                tag = self._ask("upload_part", **key, PartNumber=number, Body=data, ChecksumSHA256=part)["ETag"]
            parts.append({"PartNumber": number, "ETag": tag, "ChecksumSHA256": part})
        if whole.hexdigest() != sha256:
            self._ask("abort_multipart_upload", **key)
        _check(whole.hexdigest(), sha256, name)
        try:
            self._ask("complete_multipart_upload", **key, MultipartUpload={"Parts": parts})
        except Missing:  # the answer to an earlier try was lost
            if self.names(name).get(name) != size:
                raise

    def fetch(self, name: str, target: Path, sha256: str | None) -> None:
        """Bring an object into a file, whole or not at all; a connection that breaks goes on where it was.

        Args:
            sha256: Its hash; None: the one that was put with it, if any.

        Raises:
            Changed: The object has another hash.
        """
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")
        try:
            with open(temporary, "wb") as file:
                self._load(name, file, sha256)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, target)
        finally:
            temporary.unlink(missing_ok=True)
        sync_folder(target.parent)

    def _load(self, name: str, file: IO[bytes], sha256: str | None) -> None:
        digest, got, tag = hashlib.sha256(), 0, ""

        def rest() -> None:
            nonlocal got, tag, sha256
            more = {"Range": f"bytes={got}-", "IfMatch": tag} if got else {}
            try:
                answer = self._ask("get_object", Key=self._prefix + name, **more)
            except Conflict:
                raise Trouble(f"{self.url}/{name} was put anew while it was read", hopeless=True) from None
            tag, sha256 = answer["ETag"], sha256 or answer.get("Metadata", {}).get("sha256")
            total = got + answer["ContentLength"]
            while got < total and (data := _guarded(lambda: answer["Body"].read(1 << 20), self.url)):
                file.write(data)
                digest.update(data)
                got += len(data)
            if got < total:
                raise Trouble(f"{self.url}/{name} came in part only")

        insist(rest)
        if sha256:
            _check(digest.hexdigest(), sha256, name)

    def delete(self, names: Iterable[str]) -> None:
        """Remove objects, many by one request where the store can do that; one that is not there is removed.

        Raises:
            Trouble: Some of them may be there still.
        """
        keys = [self._prefix + name for name in names]
        for at in range(0, len(keys), TOGETHER):
            part = keys[at : at + TOGETHER]
            if len(part) == 1 or self._singly or not self._delete_together(part):
                for key in part:
                    self._ask("delete_object", Key=key)

    def _delete_together(self, keys: list[str]) -> bool:
        """Gives False where the store does not take such a request."""
        try:
            answer = self._ask("delete_objects", Delete={"Objects": [{"Key": key} for key in keys], "Quiet": True})
        except Trouble as error:
            self._singly = error.hopeless or isinstance(error, Missing)
            if self._singly:
                return False
            raise
        if errors := answer.get("Errors"):
            raise Trouble(f"{self.url}: S3 does not remove {len(errors)} objects ({_plain(errors[0].get('Code'))})")
        return True

    def sweep(self, under: str, keep: Iterable[str]) -> None:
        """Give up uploads in parts that began and never ended, of names that begin so, but for some."""
        kept = {self._prefix + name for name in keep}
        for each in self._ask("list_multipart_uploads", Prefix=self._prefix + under).get("Uploads", ()):
            if each["Key"] not in kept:
                try:
                    self._ask("abort_multipart_upload", Key=each["Key"], UploadId=each["UploadId"])
                except Missing:
                    continue

    def _begun(self, name: str) -> tuple[str, dict[int, Mapping[str, Any]]]:
        """The latest upload of this object that began and did not end, and its parts by number."""
        key = self._prefix + name
        uploads = self._ask("list_multipart_uploads", Prefix=key).get("Uploads", ())
        mine = sorted((each["Initiated"], each["UploadId"]) for each in uploads if each["Key"] == key)
        if not mine:
            return "", {}
        parts: dict[int, Mapping[str, Any]] = {}
        more: dict[str, int] = {}
        while True:
            answer = self._ask("list_parts", Key=key, UploadId=mine[-1][1], **more)
            parts |= {each["PartNumber"]: each for each in answer.get("Parts", ())}
            if not answer.get("IsTruncated"):
                return mine[-1][1], parts
            more = {"PartNumberMarker": answer["NextPartNumberMarker"]}

    def _ask(self, what: str, **arguments: Any) -> Any:
        self.before()
        answer = _guarded(lambda: getattr(self._client, what)(Bucket=self._bucket, **arguments), self.url)
        self.after()
        return answer


def insist(call: Callable[[], T], tries: int = 6, wait: Callable[[float], None] = time.sleep) -> T:
    """Call until it works: after trouble that may pass again, each time after a longer wait."""
    for count in range(tries - 1):
        try:
            return call()
        except Trouble as error:
            if error.hopeless or isinstance(error, Missing):
                raise
            wait(back_off(count))
    return call()


def back_off(count: int) -> float:
    """Seconds to wait after so many failures in a row."""
    return min(LONGEST_WAIT, 0.5 * 2.0 ** min(count, 10))


def _client() -> Any:
    try:
        boto3, config = importlib.import_module("boto3"), importlib.import_module("botocore.config")
    except ImportError:
        raise Trouble(NEEDS, hopeless=True) from None
    for name in ("boto3", "botocore", "urllib3"):  # they would log headers and signatures, if asked to be chatty
        logging.getLogger(name).setLevel(logging.WARNING)
    try:
        own = bool(os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL"))
        made = config.Config(
            connect_timeout=5, read_timeout=30, retries={"total_max_attempts": 2, "mode": "standard"},
            tcp_keepalive=True, s3={"addressing_style": "path"} if own else None,
        )  # fmt: skip
        return boto3.session.Session().client("s3", config=made)
    except Exception as error:
        raise Trouble(f"boto3 can't be used as it is set up here ({type(error).__name__})", hopeless=True) from None


def _guarded(call: Callable[[], T], url: str) -> T:
    """Call boto3; all that it raises becomes one of our own errors, without its text."""
    try:
        return call()
    except Exception as error:
        answer = getattr(error, "response", None)
        if type(error).__name__ == "FlexibleChecksumError":
            raise Changed(f"{url}: an object is damaged (its checksum differs)") from None
        if not isinstance(answer, dict):
            raise _unanswered(error, url) from None
        code = _plain(answer.get("Error", {}).get("Code"))
        status = answer.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    if status == 412 or code == "PreconditionFailed":
        raise Conflict
    if code in ("NoSuchKey", "NoSuchUpload") or (status == 404 and code != "NoSuchBucket"):
        raise Missing(f"{url}: S3 answers {code}")
    raise Trouble(f"{url}: S3 answers {code}", hopeless=status in HOPELESS)


def _plain(code: object) -> str:
    """A code of S3's; nothing else that an answer might hold can hide in it."""
    return re.sub(r"\W+", "", str(code or ""))[:60]


def _unanswered(error: Exception, url: str) -> Trouble:
    name = type(error).__name__
    if "Credential" in name or "Profile" in name or name in ("TokenRetrievalError", "SSOTokenLoadError"):
        return Trouble(f"{url}: no usable AWS credentials (environment, ~/.aws, the machine's role): {name}", True)
    if name in ("ParamValidationError", "InvalidEndpointConfigurationError", "UnknownEndpointError"):
        return Trouble(f"{url}: boto3 refuses it ({name})", True)
    return Trouble(f"{url} can't be reached ({name})")


def _is_same(part: Mapping[str, Any], data: bytes, checksum: str) -> bool:
    if part.get("Size") != len(data):
        return False
    if part.get("ChecksumSHA256"):
        return bool(part["ChecksumSHA256"] == checksum)
    return bool(part["ETag"].strip('"') == hashlib.md5(data, usedforsecurity=False).hexdigest())


def _read(file: IO[bytes], start: int, size: int) -> bytes:
    file.seek(start)
    return file.read(size)


def _check(found: str, expected: str, name: str) -> None:
    if found != expected:
        raise Changed(f"{name} is damaged (its hash differs)")


def _base64(digest: bytes) -> str:
    return base64.b64encode(digest).decode()


def _seconds(earlier: datetime, later: datetime) -> float:
    return max(0.0, (later - earlier).total_seconds())
