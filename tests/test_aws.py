"""AWS ParallelCluster: the cluster files under the official pcluster, the scripts with stand-ins of what they call."""

import getpass
import json
import os
import re
import shlex
import socket
import subprocess
import sys
import tarfile
import time
import urllib.request
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from string import Template

import pytest
from fakes import Fakes

ROOT = Path(__file__).resolve().parent.parent
CLUSTERS = sorted((ROOT / "aws-parallelcluster").glob("*.yaml"))
VALUES = {
    "REGION": "us-east-1",
    "SUBNET": "subnet-0123456789abcdef0",
    "COMPUTE_SUBNET": "subnet-0123456789abcdef1",
    "KEY": "mpibo",
    "BUCKET": "mpibo-results",
    "PREFIX": "mpibo/mpibo",
    "SSH_FROM": "0.0.0.0/0",
    "TORCH_INDEX": "",
}

# A stand-in of the AWS command line: an account without anything but its default VPC.
AWS = """
case "$*" in
*get-caller-identity*) echo 123456789012 ;;
*describe-instance-type-offerings*) printf 'us-east-1b\\n%.0s' $(seq "${TYPES:-4}"); echo us-east-1a ;;
*describe-subnets*) printf 'us-east-1a\\tsubnet-a\\nus-east-1b\\tsubnet-b\\n' ;;
*head-bucket* | *describe-key-pairs*) exit 1 ;;
"s3 cp"*) cp "${@: -2:1}" "$KEPT/" ;;
esac
"""
PCLUSTER = """
case "$*" in
*create-cluster*)
    while [ $# -gt 0 ]; do [ "$1" != --cluster-configuration ] || cp "$2" "$KEPT/cluster.yaml"; shift; done
    echo "${ANSWER:-Request would have succeeded}" ;;
*describe-cluster*headNode*) echo '"i-0123"' ;;
*describe-cluster*)
    read -r now <"$KEPT/states" && sed -i 1d "$KEPT/states"
    [ "$now" != GONE ] || { echo "Cluster 'mpibo' does not exist" >&2; exit 1; }
    [ "$now" != AWAY ] || { echo "Could not connect to the endpoint" >&2; exit 1; }
    echo "\\"$now\\"" ;;
*ssh*) printf '{\\n  "command": "ssh ubuntu@192.0.2.7 "\\n}\\n' ;;
esac
"""


@pytest.fixture
def cloud(tmp_path):
    """Calls a script of ours with stand-ins of pcluster, aws and ssh; the folder ``kept`` has what they were given."""
    fakes = Fakes(tmp_path / "bin")
    fakes.add("aws", AWS)
    fakes.add("pcluster", PCLUSTER)
    fakes.add("ssh", "exit ${SSH_CODE:-0}")
    kept = tmp_path / "kept"
    kept.mkdir()

    def call(line, states="", **more):
        (kept / "states").write_text("".join(f"{state}\n" for state in states.split()))
        environ = fakes.environ(KEPT=str(kept), MPIBO_KEY=str(tmp_path / "keys" / "key"), MPIBO_WAIT="0", **more)
        environ.setdefault("AWS_DEFAULT_REGION", "us-east-1")
        return subprocess.run(shlex.split(line), cwd=ROOT, env=environ, capture_output=True, text=True)

    call.fakes, call.kept = fakes, kept
    return call


def fill(path, **changes):
    return Template(path.read_text()).substitute(VALUES | changes)


def test_up_fills_in_the_file_and_waits(cloud):
    """From nothing to a cluster: bucket, key pair, files, cluster file; it ends when jobs can be submitted."""
    done = cloud("scripts/aws_up.sh cpu", "CREATE_IN_PROGRESS AWAY CREATE_IN_PROGRESS CREATE_COMPLETE")
    assert done.returncode == 0, done.stderr
    calls = cloud.fakes.calls
    assert "aws s3 mb s3://mpibo-123456789012-us-east-1" in calls
    assert any(call.startswith("aws ec2 import-key-pair --key-name mpibo-") for call in calls)
    text = (cloud.kept / "cluster.yaml").read_text()
    assert "${" not in text
    assert "SubnetId: subnet-b" in text  # zone a has not all instance types
    assert "s3://mpibo-123456789012-us-east-1/mpibo/mpibo/install.sh" in text
    with tarfile.open(cloud.kept / "mpibo.tar.gz") as archive:
        assert {"setup.cfg", "slurm/mnist.sh", "scripts/environment.sh"} <= set(archive.getnames())
    assert sum("describe-cluster" in call for call in calls) == 4


def test_up_says_why_it_ends(cloud):
    """A refused file, a cluster that fails, credentials that are missing: exit code 2 and a line."""
    done = cloud("scripts/aws_up.sh gpu --dryrun true", ANSWER="InvalidInstanceType", TYPES="2")
    assert done.returncode == 2 and "gpu.yaml is refused" in done.stderr
    done = cloud("scripts/aws_up.sh cpu", "CREATE_IN_PROGRESS CREATE_FAILED")
    assert done.returncode == 2 and "CREATE_FAILED" in done.stderr
    done = cloud("scripts/aws_up.sh cpu", TYPES="3")
    assert done.returncode == 2 and "set MPIBO_SUBNET" in done.stderr
    done = cloud("scripts/aws_up.sh efa")
    assert done.returncode == 2 and "efa needs MPIBO_COMPUTE_SUBNET" in done.stderr
    done = cloud("scripts/aws_up.sh tpu")
    assert done.returncode == 2 and "got tpu" in done.stderr
    cloud.fakes.add("aws", "exit 255")
    done = cloud("scripts/aws_up.sh cpu")
    assert done.returncode == 2 and "aws configure" in done.stderr


def test_submit_passes_every_word(cloud):
    """Also those with blanks and quotes; the exit code is that of sbatch."""
    line = "scripts/aws_submit.sh --nodes=4 slurm/run.sh 'my tune.py:train' --limits 'a <= 2'"
    assert cloud(line).returncode == 0
    sent = cloud.fakes.calls[-1].partition("ubuntu@192.0.2.7 ")[2]
    assert sent.startswith("cd /shared/mpibo && sbatch")
    assert shlex.split(sent.partition("sbatch ")[2]) == shlex.split(line)[1:]
    assert cloud("scripts/aws_submit.sh", SSH_CODE="3").returncode == 3
    assert cloud.fakes.calls[-1].endswith("sbatch slurm/mnist.sh")


def test_down_copies_the_runs_before_it_deletes(cloud):
    """Nothing is deleted where they can't be copied; it ends when the cluster is gone, not when AWS can't be asked."""
    done = cloud("scripts/aws_down.sh", SSH_CODE="1")
    assert done.returncode == 2 and "the cluster stays" in done.stderr
    assert not any("delete-cluster" in call for call in cloud.fakes.calls)
    done = cloud("scripts/aws_down.sh", "DELETE_IN_PROGRESS AWAY DELETE_IN_PROGRESS GONE")
    assert done.returncode == 0, done.stderr
    names = " ".join(cloud.fakes.calls)
    assert names.index("aws s3 sync") < names.index("delete-cluster")
    assert sum("describe-cluster" in call for call in cloud.fakes.calls) == 4


def test_down_may_stop_or_discard(cloud):
    """``--stop`` stops the head node too; ``--discard`` asks no node."""
    assert cloud("scripts/aws_down.sh --stop").returncode == 0
    assert cloud.fakes.calls[-1] == "aws ec2 stop-instances --instance-ids i-0123"
    assert not any("delete-cluster" in call for call in cloud.fakes.calls)
    assert cloud("scripts/aws_down.sh --discard", "GONE").returncode == 0
    assert not any(call.startswith("ssh") for call in cloud.fakes.calls)
    assert cloud("scripts/aws_down.sh --now").returncode == 2


def test_one_node_installs_and_the_others_wait(tmp_path):
    """Compute nodes may be up before the head node is done; they go on when it is, and fail when it fails."""
    fakes = Fakes(tmp_path / "bin")
    fakes.add("aws", f'sleep 1; cat "{tmp_path}/${{3##*/}}" 2>/dev/null || cat "{tmp_path}/${{4##*/}}"')
    (tmp_path / "scripts").mkdir()
    (tmp_path / "scripts" / "environment.sh").write_text(
        'set_up() { echo "$1 $MPIBO_TORCH $MPIBO_TORCH_INDEX" >>set_up; }\n'
    )
    with tarfile.open(tmp_path / "mpibo.tar.gz", "w:gz") as archive:
        archive.add(tmp_path / "scripts", "scripts")

    def node(kind, archive="mpibo.tar.gz", folder="shared"):
        config = tmp_path / f"{kind}.config"
        config.write_text(f"cfn_node_type={kind}\ncfn_cluster_user={getpass.getuser()}\n")
        install = [ROOT / "aws-parallelcluster" / "install.sh", f"s3://b/{archive}", tmp_path / folder]
        environ = fakes.environ(MPIBO_NODE_CONFIG=str(config), MPIBO_INSTALL_WAIT="60")
        return subprocess.Popen([*install, "cpu=https://i.example/cpu"], env=environ, stderr=subprocess.PIPE, text=True)

    nodes = [node("ComputeFleet"), node("ComputeFleet"), node("HeadNode")]
    assert [one.wait(timeout=60) for one in nodes] == [0, 0, 0]
    assert (tmp_path / "shared" / "set_up").read_text() == "run cpu https://i.example/cpu\n"  # once
    assert len(fakes.calls) == 1

    nodes = [node("ComputeFleet", folder="other"), node("HeadNode", "missing.tar.gz", folder="other")]
    assert [one.wait(timeout=60) for one in nodes] == [1, 1]
    assert "failed on" in nodes[0].stderr.read()


def test_commands_of_the_page_with_stand_ins(cloud):
    """Every line of docs/aws.md, as it stands there, after the installation: each ends with 0."""
    cloud.fakes.add("scp")
    page = (ROOT / "docs" / "aws.md").read_text()
    lines = [line for line in re.findall(r"^ {4}(\S.*)$", page, re.MULTILINE) if "venv" not in line.split("/")[0]]
    lines += [
        line.removeprefix(".venv-aws/bin/")
        for line in re.findall(r"^ {4}(\.venv-aws/bin/(?!pip).*)$", page, re.MULTILINE)
    ]
    assert len(lines) >= 10
    for line in lines:
        states = "GONE" if "aws_down" in line else "CREATE_COMPLETE"
        done = cloud(line, states)
        assert done.returncode == 0, f"{line}: {done.stderr}"
    submitted = [call for call in cloud.fakes.calls if call.startswith("ssh ") and "sbatch" in call]
    assert len(submitted) == sum("aws_submit" in line for line in lines)


def test_the_page_has_the_cluster_files_prices_right():
    """What a row of docs/aws.md sums up is the sum, and every instance type of a cluster file has a price."""
    page = (ROOT / "docs" / "aws.md").read_text()
    rows = dict(re.findall(r"^\| (.+?) \|.*?([\d.]+)\D*\|$", page, re.MULTILINE))
    price = {name.strip("*"): float(value) for name, value in rows.items()}
    head = price["head node"] + price["its disk and public address"] + price["EFS `/shared`"]
    lustre = price["FSx for Lustre `/fsx` (`gpu.yaml`, `efa.yaml`)"]
    node = price["a node of `cpu`, with disk and address"]
    assert round(head, 2) == price["no job**: `cpu.yaml`"]
    assert round(head + lustre, 2) == price["no job**: `gpu.yaml`"]
    assert round(head + lustre + price["NAT gateway with its address (`efa.yaml`)"], 2) == price["no job**: `efa.yaml`"]
    assert round(head + 2 * node, 2) == price["`slurm/mnist.sh`** on `cpu.yaml`, 2 nodes"]
    for path in CLUSTERS:
        types = re.findall(r"InstanceType: (\S+)", path.read_text())
        assert any(name in page for name in types[1:]) and types[0] in page


# From here on with the official pcluster.


def installed(folder, *packages):
    """The ``bin`` of an environment with these packages, made on first use; git ignores it."""
    venv = ROOT / folder
    if not (venv / ".ready").exists():
        subprocess.run([sys.executable, "-m", "venv", venv], check=True)
        subprocess.run([venv / "bin" / "python", "-m", "pip", "install", "-q", *packages], check=True)
        (venv / ".ready").touch()
    return venv / "bin"


@pytest.fixture(scope="module")
def pcluster():
    """As docs/aws.md has it installed."""
    line = re.search(r"\.venv-aws/bin/pip install (.*)", (ROOT / "docs" / "aws.md").read_text())
    return installed(".venv-aws", *line[1].split())


LOAD = """
import sys, yaml
from pcluster.schemas.cluster_schema import ClusterSchema
for path in sys.argv[1:]:
    ClusterSchema(cluster_name="mpibo").load(yaml.safe_load(open(path)))
"""


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_pcluster_takes_every_file_and_refuses_bad_ones(pcluster, tmp_path):
    """Offline: the schema of the installed release."""

    def load(*texts):
        paths = [tmp_path / f"{number}.yaml" for number in range(len(texts))]
        for path, text in zip(paths, texts, strict=True):
            path.write_text(text)
        environ = {**os.environ, "AWS_DEFAULT_REGION": "us-east-1"}
        command = [pcluster / "python", "-c", LOAD, *paths]
        return subprocess.run(command, env=environ, capture_output=True, text=True)

    good = [fill(path) for path in CLUSTERS]
    done = load(*good)
    assert done.returncode == 0, done.stderr
    for wrong, why in [("MaxCount: eight", "MaxCount"), ("MaximumCount: 8", "MaximumCount")]:
        done = load(good[0].replace("MaxCount: 8", wrong))
        assert done.returncode == 1 and why in done.stderr


@contextmanager
def moto(folder, version):
    """A server that plays AWS on loopback, with images under the names that pcluster looks for; its address."""
    python = sys.executable if find_spec("moto") else installed(".venv-moto", "moto[server]") / "python"
    systems = ("ubuntu-2404-lts-hvm", "amzn2023-hvm")
    images = [
        {
            "ami_id": f"ami-0{number:016x}", "name": f"aws-parallelcluster-{version}-{system}-x86_64-202610010000 x",
            "architecture": "x86_64", "state": "available", "public": True, "owner_id": "247102896272",
            "owner_alias": "amazon", "image_location": "amazon/x", "sriov": "simple", "root_device_type": "ebs",
            "root_device_name": "/dev/sda1", "description": "stand-in", "image_type": "machine", "platform": None,
            "virtualization_type": "hvm", "hypervisor": "xen", "creation_date": "2026-10-01T00:00:00.000Z",
        }
        for number, system in enumerate(systems)
    ]  # fmt: skip
    (folder / "images.json").write_text(json.dumps(images))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    address = f"http://127.0.0.1:{port}"
    with (folder / "moto.log").open("w") as log:
        server = subprocess.Popen(
            [python, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)], stdout=log, stderr=log,
            env={**os.environ, "MOTO_AMIS_PATH": str(folder / "images.json")},
        )  # fmt: skip
    try:
        end = time.monotonic() + 120
        while True:
            try:
                urllib.request.urlopen(f"{address}/moto-api/", timeout=5).close()
                break
            except OSError:
                assert time.monotonic() < end and server.poll() is None, (folder / "moto.log").read_text()
                time.sleep(0.2)
        yield address
    finally:
        server.terminate()
        server.wait()


# What moto does not play: a launch that is only tried, and the type of a key.
GAPS = "type:HeadNodeLaunchTemplateValidator type:ComputeResourceLaunchTemplateValidator type:KeyPairValidator"


def private_subnet(environ):
    """Makes one behind a NAT gateway, in the first zone, as an account with EFA needs it; its id."""

    def aws(line, query):
        command = ["aws", "ec2", *line.split(), "--query", query, "--output", "text"]
        return subprocess.run(command, env=environ, capture_output=True, text=True, check=True).stdout.strip()

    first = "Subnets[?AvailabilityZone=='us-east-1a']"
    vpc, public = aws("describe-subnets", f"[{first}.VpcId, {first}.SubnetId][][]").split()
    subnet = aws(
        f"create-subnet --vpc-id {vpc} --cidr-block 172.31.240.0/20 --availability-zone us-east-1a", "Subnet.SubnetId"
    )
    address = aws("allocate-address --domain vpc", "AllocationId")
    gateway = aws(f"create-nat-gateway --subnet-id {public} --allocation-id {address}", "NatGateway.NatGatewayId")
    table = aws(f"create-route-table --vpc-id {vpc}", "RouteTable.RouteTableId")
    aws(
        f"create-route --route-table-id {table} --destination-cidr-block 0.0.0.0/0 --nat-gateway-id {gateway}", "Return"
    )
    aws(f"associate-route-table --route-table-id {table} --subnet-id {subnet}", "AssociationId")
    return subnet


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_pcluster_would_make_every_cluster(pcluster, tmp_path):
    """``aws_up.sh --dryrun true`` with the real pcluster and aws: it looks at subnet, bucket, queues, file systems."""
    version = json.loads(subprocess.run([pcluster / "pcluster", "version"], capture_output=True, check=True).stdout)[
        "version"
    ]
    with moto(tmp_path, version) as address:
        environ = {
            **os.environ, "AWS_ENDPOINT_URL": address, "AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test",
            "AWS_DEFAULT_REGION": "us-east-1", "AWS_EC2_METADATA_DISABLED": "true", "HOME": str(tmp_path),
            "PATH": f"{pcluster}:{os.environ['PATH']}", "MPIBO_KEY": str(tmp_path / "key"),
        }  # fmt: skip

        def dry(kind):
            command = [ROOT / "scripts" / "aws_up.sh", kind, "--dryrun", "true", "--suppress-validators", *GAPS.split()]
            return subprocess.run(command, env=environ, capture_output=True, text=True)

        environ["MPIBO_COMPUTE_SUBNET"] = private_subnet(environ)
        for path in CLUSTERS:
            done = dry(path.stem)
            assert done.returncode == 0, f"{path.name}: {done.stdout}{done.stderr}"
        bad = tmp_path / "bad.yaml"
        for before, after, why in [
            ("InstanceType: c7i.4xlarge", "InstanceType: c7i.16xlarge", "'c7i.16xlarge': 32"),
            ("MountDir: /shared", "MountDir: /etc", "/etc"),
        ]:
            bad.write_text((ROOT / "aws-parallelcluster" / "cpu.yaml").read_text().replace(before, after))
            done = dry(str(bad))
            assert done.returncode == 2 and why in done.stdout, f"{after}: {done.stdout}{done.stderr}"
