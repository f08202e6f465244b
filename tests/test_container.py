"""The container image is built and runs the main job, as a user without rights, with its own MPI or the machine's."""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
IMAGE = "mpibo"
USER = 4321  # anyone's number: not the image's own user
TORCH = os.environ.get("MPIBO_TEST_TORCH", "cpu")  # gpu: all this with the image for GPUs (24 GB of disk, half an hour)
BUILD = [ROOT / "scripts" / "build_image.sh", *(["--build-arg", f"TORCH={TORCH}"] if TORCH != "cpu" else [])]
# Root in a container of its own may not have what Docker has: cgroups that are its own, any number of files.
PODMAN = (
    "podman --cgroup-manager cgroupfs --events-backend file --runtime runc run --rm --pull never --network host "
    "--ulimit nofile=1024:1024 --ulimit nproc=4096:4096"
).split()


def test_apptainer_definition_names_what_is_there():
    """No Apptainer to try it with: at least its files are there, and what it runs are shell and our scripts."""
    text = (ROOT / "scripts" / "mpibo.def").read_text()
    parts = dict(re.findall(r"^%(\w+)\n(.*?)(?=^%|\Z)", text, re.MULTILINE | re.DOTALL))
    assert {"files", "post", "environment", "runscript"} <= set(parts)
    for line in parts["files"].splitlines():
        assert not line or (ROOT / line.split()[0]).exists(), line
    for name in ("post", "environment", "runscript"):
        subprocess.run(["sh", "-n"], input=parts[name], text=True, check=True)
    copied = re.findall(r"^COPY (?!--from)(.+) \S+$", (ROOT / "Dockerfile").read_text(), re.MULTILINE)
    assert {name for line in copied for name in line.split() if "/" not in name} <= set(parts["files"].split())


def test_build_image_says_what_it_needs(tmp_path):
    environ = {**os.environ, "MPIBO_ENGINE": "docker", "MPIBO_BASE": "debian"}
    done = subprocess.run([ROOT / "scripts" / "build_image.sh"], env=environ, capture_output=True, text=True)
    assert done.returncode == 2 and "needs MPIBO_ENGINE=buildah" in done.stderr


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """A place for images that is ours alone, and goes with the tests; one that ``MPIBO_TEST_STORE`` names stays."""
    kept = os.environ.get("MPIBO_TEST_STORE")
    folder = Path(kept) if kept else tmp_path_factory.mktemp("store")
    folder.mkdir(exist_ok=True)
    for driver in ("overlay", "vfs"):  # vfs where a file system can't be laid over this one
        settings = f'[storage]\ndriver = "{driver}"\ngraphroot = "{folder}/root"\nrunroot = "{folder}/run"\n'
        (folder / "storage.conf").write_text(settings)
        environ = {
            **os.environ, "CONTAINERS_STORAGE_CONF": str(folder / "storage.conf"), "BUILDAH_ISOLATION": "chroot",
            "MPIBO_IMAGE": IMAGE, "MPIBO_ENGINE": "buildah",
        }  # fmt: skip
        if subprocess.run(["buildah", "info"], env=environ, capture_output=True).returncode == 0:
            break
    yield environ
    if not kept:
        subprocess.run(["buildah", "rmi", "--all", "--force"], env=environ, capture_output=True)
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="module")
def image(store):
    """The image, built by the page's command; where its base can't be pulled, upon one of Debian's packages."""
    if subprocess.run(["buildah", "inspect", "--type", "image", IMAGE], env=store, capture_output=True).returncode == 0:
        return store
    start = time.monotonic()
    done = subprocess.run(BUILD, env=store, capture_output=True, text=True)
    if done.returncode:
        base = {**store, "MPIBO_BASE": "debian"}
        done = subprocess.run(BUILD, env=base, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    seconds = time.monotonic() - start
    listing = subprocess.run(["buildah", "images", "--json", IMAGE], env=store, capture_output=True, check=True)
    size = json.loads(listing.stdout)[0]["size"]
    print(f"\nimage: {size}, built in {seconds:.0f} s", file=sys.stderr)
    return store


def run(image, folder, *words, flags=()):
    """``docker run --user ... --volume FOLDER:/job mpibo WORDS``"""
    folder.chmod(0o777)
    command = [*PODMAN, "--user", f"{USER}:{USER}", "--volume", f"{folder}:/job", *flags, IMAGE, *words]
    return subprocess.run(command, env=image, capture_output=True, text=True)


container = pytest.mark.container
patient = pytest.mark.timeout(1800)


@container
@patient
def test_the_image_is_built_for_a_user_without_rights(image):
    """Its user is not root, and nothing of the machine that built it is in its settings."""
    config = json.loads(
        subprocess.run(["buildah", "inspect", IMAGE], env=image, capture_output=True, check=True).stdout
    )
    settings = config["OCIv1"]["config"]
    assert settings["User"] == "1000" and settings["WorkingDir"] == "/job"
    assert not [value for value in settings["Env"] if "PIP" in value or "CERT" in value]


@container
@patient
def test_the_image_has_the_torch_that_was_asked_for(image, tmp_path):
    flags = ["--entrypoint", "python"]
    done = run(image, tmp_path, "-c", "import torch; print(torch.version.cuda is not None)", flags=flags)
    assert done.stdout.strip() == str(TORCH == "gpu"), done.stderr


@container
@patient
def test_run_without_words_is_the_main_job(image, tmp_path):
    """Digits, 64 trials by one manager and seven workers; the run folder is the user's own, in the mounted folder."""
    done = run(image, tmp_path)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    (folder,) = (tmp_path / "runs").iterdir()
    assert folder.name.startswith("digits")
    assert json.loads((folder / "status.json").read_text())["exit_code"] == 0
    assert folder.stat().st_uid == USER
    events = [json.loads(line) for line in (folder / "journal.jsonl").read_text().splitlines()]
    assert events[0]["settings"]["workers"] == 7
    assert [event.get("state") for event in events if event["kind"] == "end"] == ["DONE"] * 64


@container
@patient
def test_the_machines_own_mpi_can_be_bound_in(image, tmp_path):
    """A library with MPICH's ABI takes the place of the image's, in every rank, where mpi4py is told so."""
    library = Path(sys.prefix) / "lib"
    if not (library / "libmpi.so.12").exists():
        pytest.skip("there is no MPICH beside this Python")
    site = tmp_path / "site"
    shutil.copytree(library / "mpich", site / "mpich")
    shutil.copy(library / "libmpi.so.12", site)
    code = "from mpi4py import MPI; maps = MPI.COMM_WORLD.gather(open('/proc/self/maps').read()); print(*maps or [])"
    flags = ["--volume", f"{site}:/opt/site:ro", "--entrypoint", "mpirun", "--env", "LD_LIBRARY_PATH=/opt/site"]
    flags += ["--env", "MPI4PY_LIBMPI=/opt/site/libmpi.so.12"]
    done = run(image, tmp_path, "-n", "2", "python", "-c", code, flags=flags)
    assert done.returncode == 0, done.stderr
    assert set(re.findall(r"/\S*libmpi\S*", done.stdout)) == {"/opt/site/libmpi.so.12"}
    assert done.stdout.count("[stack]") == 2


@container
@patient
def test_commands_of_the_page(image, tmp_path):
    """The lines of docs/container.md that run the image with a folder mounted, with podman in docker's place."""
    (tmp_path / "tune.py").write_text("space = {'x': (0.0, 1.0)}\n\n\ndef train(x):\n    return x * x\n")
    tmp_path.chmod(0o777)
    page = (ROOT / "docs" / "container.md").read_text()
    lines = re.findall(r"^ {4}docker (run .*\$PWD.*)$", page, re.MULTILINE)
    assert len(lines) == 2
    for line in lines:
        words = line.replace("run --rm", shlex.join(PODMAN), 1)
        done = subprocess.run(["bash", "-c", words], cwd=tmp_path, env=image, capture_output=True, text=True)
        assert done.returncode == 0, f"{line}: {done.stdout[-2000:]}{done.stderr[-2000:]}"
    assert len(list((tmp_path / "runs").iterdir())) == 1
