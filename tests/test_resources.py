"""Every core and GPU of a node is used once, by those who asked for it, and nobody has to renumber anything."""

import os
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mpibo.engine import resources
from mpibo.engine.devices import Gpus, visible
from mpibo.engine.environment import THREADS, short_addresses
from mpibo.engine.resources import Seat, assign, hosted

UNSET = {}  # an environment in which the user chose nothing


def node(workers, gpus=0, cores=range(16), manager=False, own=False):
    """A node whose ranks all may use all cores."""
    seen = Gpus(ids=tuple(map(str, range(gpus))), own=own)
    return [Seat(number, tuple(cores), seen) for number in range(0 if manager else 1, workers + 1)]


nodes = st.builds(
    node, st.integers(1, 40), st.integers(0, 8), st.integers(1, 64).map(range), st.booleans()
)  # fmt: skip
parts = st.sampled_from([None, 0, 0.125, 0.25, 0.3, 0.5, 1, 2, 4])


def given_to(shares):
    """How many ranks have each GPU."""
    return Counter(gpu for share in shares.values() for gpu in share.gpus)


# --- GPUs -----------------------------------------------------------------------------------------------------------


@given(nodes)
def test_a_fair_share_leaves_no_gpu_idle(seats):
    """Each GPU has a worker, each worker a GPU, and no GPU has two workers more than another."""
    shares = assign(seats, environ=UNSET)
    used = given_to(shares)
    assert set(used) == set(seats[0].gpus.ids)
    assert all(share.gpus for share in shares.values()) or not used
    assert not used or max(used.values()) - min(used.values()) <= 1
    assert not any(share.parked for share in shares.values())


@given(nodes, st.integers(1, 4))
def test_whole_gpus_are_given_once(seats, each):
    """Who has no GPU of its own is parked, and only then."""
    shares = assign(seats, gpus_per_worker=each, environ=UNSET)
    assert all(count == 1 for count in given_to(shares).values())
    working = [share for share in shares.values() if not share.parked]
    assert all(len(share.gpus) == each and share.sharing == 1 for share in working)
    assert len(working) == min(len(shares), len(seats[0].gpus.ids) // each)


@given(st.integers(1, 8), st.sampled_from([2, 3, 4, 8]), st.integers(0, 5))
def test_so_many_workers_share_a_gpu_as_fit_into_it(gpus, fit, more):
    """With 0.125 eight workers share one, not nine."""
    shares = assign(node(gpus * fit + more, gpus), gpus_per_worker=1 / fit, environ=UNSET)
    assert set(given_to(shares).values()) == {fit}
    assert sum(share.parked for share in shares.values()) == more
    assert {share.sharing for share in shares.values() if not share.parked} == {fit}


@given(nodes, st.sampled_from([0.125, 0.25, 0.5, 1]))
def test_no_gpu_idles_while_there_are_workers(seats, part):
    """A small part is an upper bound: workers spread over the GPUs before they share one."""
    shares = assign(seats, gpus_per_worker=part, environ=UNSET)
    assert len(given_to(shares)) == min(len(shares), len(seats[0].gpus.ids))


def test_zero_gpus_hides_them():
    seats = node(2, 4)
    share = assign(seats, gpus_per_worker=0, environ=UNSET)[1]
    assert share.gpus == () and not share.parked and "no GPU" in share.text
    setup = resources.seated({}, seats[0], share)
    assert setup["variables"]["CUDA_VISIBLE_DEVICES"] == "" and setup["variables"]["MPIBO_DEVICE"] == "cpu"


def test_gpus_that_the_scheduler_gave_to_each_task_stay_where_they_are():
    """Under Slurm's --gpus-per-task each rank's own GPU is called 0."""
    shares = assign(node(4, 1, own=True), gpus_per_worker=1, environ=UNSET)
    assert all(share.gpus == ("0",) and share.sharing == 1 for share in shares.values())


def test_ranks_that_see_different_lists_take_from_their_own():
    """As a wrapper script makes them that sets CUDA_VISIBLE_DEVICES by the local rank."""
    seats = [Seat(number, (0, 1), Gpus(ids=(str(number % 2),))) for number in (1, 2, 3, 4)]
    shares = assign(seats, environ=UNSET)
    assert [shares[number].gpus for number in (1, 2, 3, 4)] == [("1",), ("0",), ("1",), ("0",)]
    assert shares[1].sharing == 2


@pytest.mark.parametrize(
    ("environ", "names", "ids"),
    [
        ({"CUDA_VISIBLE_DEVICES": "2,3"}, ("CUDA_VISIBLE_DEVICES",), ("2", "3")),
        ({"CUDA_VISIBLE_DEVICES": "GPU-ab, MIG-cd"}, ("CUDA_VISIBLE_DEVICES",), ("GPU-ab", "MIG-cd")),
        ({"CUDA_VISIBLE_DEVICES": ""}, ("CUDA_VISIBLE_DEVICES",), ()),
        ({"CUDA_VISIBLE_DEVICES": "1,-1,2"}, ("CUDA_VISIBLE_DEVICES",), ("1",)),
        ({"ROCR_VISIBLE_DEVICES": "4,5"}, ("ROCR_VISIBLE_DEVICES",), ("4", "5")),
        # what HIP calls 0 is then the first of ROCR's list: that one stays
        ({"ROCR_VISIBLE_DEVICES": "4,5", "HIP_VISIBLE_DEVICES": "0"}, ("HIP_VISIBLE_DEVICES",), ("0",)),
        ({"ZE_AFFINITY_MASK": "0.0,0.1"}, ("ZE_AFFINITY_MASK",), ("0.0", "0.1")),
        (
            {"CUDA_VISIBLE_DEVICES": "6", "HIP_VISIBLE_DEVICES": "6"},
            ("CUDA_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES"),
            ("6",),
        ),
    ],
)
def test_the_visible_list_is_taken_as_it_is(environ, names, ids, tmp_path):
    assert visible(environ, tmp_path) == Gpus(names, ids)


@pytest.mark.parametrize(
    "more", [{"SLURM_GPUS_PER_TASK": "a100:2"}, {"SLURM_TRES_PER_TASK": "cpu=4,gres/gpu=2"}], ids=str
)
def test_slurm_says_when_each_task_has_its_own(more, tmp_path):
    """Unless the list is longer: then the tasks were not bound, and see the GPUs of all."""
    step = {"SLURM_STEP_NUM_TASKS": "4", **more}
    assert visible({"CUDA_VISIBLE_DEVICES": "0,1", **step}, tmp_path).own
    assert not visible({"CUDA_VISIBLE_DEVICES": "0,1,2,3", **step}, tmp_path).own
    assert not visible({"CUDA_VISIBLE_DEVICES": "0,1", **more}, tmp_path).own  # a batch script, no task of a step


def test_without_a_list_the_system_is_asked(tmp_path):
    assert visible({}, tmp_path).ids == ()
    (tmp_path / "sys/class/kfd/kfd/topology/nodes").mkdir(parents=True)
    for number, lanes in enumerate((0, 256)):  # the first is the processor
        (tmp_path / f"sys/class/kfd/kfd/topology/nodes/{number}").mkdir()
        (tmp_path / f"sys/class/kfd/kfd/topology/nodes/{number}/properties").write_text(f"x 1\nsimd_count {lanes}\n")
    assert visible({}, tmp_path) == Gpus(("HIP_VISIBLE_DEVICES",), ("0",))
    (tmp_path / "dev").mkdir()
    for name in ("nvidia0", "nvidia3", "nvidiactl", "nvidia-uvm"):
        (tmp_path / "dev" / name).touch()
    assert visible({}, tmp_path) == Gpus(("CUDA_VISIBLE_DEVICES",), ("0", "1"))


def test_parts_of_a_gpu_are_known_by_their_uuids(tmp_path):
    (tmp_path / "proc/driver/nvidia/capabilities/gpu0/mig/gi7").mkdir(parents=True)
    listing = (
        "GPU 0: NVIDIA A100 (UUID: GPU-5d5b)\n  MIG 3g.20gb Device 0: (UUID: MIG-c6d4)\n"
        "  MIG 3g.20gb Device 1: (UUID: MIG-cba6)\nGPU 1: NVIDIA A100 (UUID: GPU-77aa)\n"
    )
    assert visible({}, tmp_path, listing).ids == ("MIG-c6d4", "MIG-cba6", "GPU-77aa")


# --- rank 0's node --------------------------------------------------------------------------------------------------


def test_rank_0_hosts_a_worker_where_a_gpu_would_idle():
    """With as many tasks as GPUs; with one task more each worker has one."""
    eight = node(7, 8, manager=True)
    assert hosted(eight) and hosted(eight, 1) and hosted(eight, 0.5) and not hosted(eight, 2) and not hosted(eight, 0)
    assert not hosted(node(8, 8, manager=True)) and not hosted(node(8, 8)) and not hosted(node(7, 0, manager=True))
    shares = assign([*eight, Seat(64, eight[0].cores, eight[0].gpus)], environ=UNSET)
    assert [shares[number].gpus for number in (1, 7, 64)] == [("0",), ("6",), ("7",)]


@pytest.mark.parametrize(
    ("tasks", "gpus_per_worker", "ranks_per_worker"),
    [(64, 0.125, 1), (16, 0.5, 1), (4, 2, 1), (8, 2, 2), (16, 1, 2), (4, 4, 2)],
)
def test_no_share_of_a_gpu_is_left_where_there_are_as_many_tasks(tasks, gpus_per_worker, ranks_per_worker):
    """Eight GPUs; with one task more rank 0 takes no part."""
    seats = node(tasks - 1, 8, manager=True)
    assert hosted(seats, gpus_per_worker, ranks_per_worker)
    assert not hosted(node(tasks, 8, manager=True), gpus_per_worker, ranks_per_worker)
    extra = Seat(tasks, seats[0].cores, seats[0].gpus)
    shares = assign([*seats, extra], None, gpus_per_worker, ranks_per_worker, environ=UNSET)
    assert len(shares) == tasks and not any(share.parked for share in shares.values())
    given = given_to(shares)
    assert len(given) == 8 and len(set(given.values())) == 1


def test_rank_0_hosts_a_worker_on_a_gpu_of_its_own():
    assert hosted(node(3, 1, manager=True, own=True), 1)


def test_rank_zeros_children_get_cores_of_their_own_where_there_are_some():
    assert resources.for_rank_zero([4, 5, 6], shared=False) == ([4], [5, 6])
    assert resources.for_rank_zero([4, 5], shared=True) == ([4, 5], [4, 5])
    assert resources.for_rank_zero([4], shared=False) == ([4], [4])


# --- cores and threads ----------------------------------------------------------------------------------------------


@given(nodes, st.integers(1, 8))
def test_cores_are_bound_once_where_there_are_enough(seats, each):
    """Else nobody is bound; either way nobody starts more threads than it has cores."""
    shares = assign(seats, cores_per_worker=each, environ=UNSET)
    enough = each * len(shares) <= len(seats[0].cores)
    bound = [core for share in shares.values() for core in share.cores or ()]
    assert len(bound) == len(set(bound)) == (each * len(shares) if enough else 0)
    assert all(share.threads == min(each, len(seats[0].cores)) for share in shares.values())


@given(nodes, parts)
def test_a_fair_share_of_threads_fits_the_node(seats, part):
    """The manager takes part; who is parked does not."""
    shares = assign(seats, gpus_per_worker=part, environ=UNSET)
    threads = [share.threads for share in shares.values() if not share.parked]
    ranks = len(threads) + (seats[0].number == 0)
    assert all(share.cores is None for share in shares.values())
    assert sum(threads) <= max(len(seats[0].cores), ranks)
    assert set(threads) <= {max(1, len(seats[0].cores) // ranks)} if threads else True


def test_ranks_that_a_launcher_has_bound_keep_their_cores():
    seats = [Seat(number, tuple(range(4 * number, 4 * number + 4))) for number in range(4)]
    shares = assign(seats, environ=UNSET)
    assert shares[2].text == "4 cores (8-11), 4 threads" and shares[2].cores is None
    shares = assign(seats, cores_per_worker=2, environ=UNSET)
    assert [share.cores for share in shares.values()] == [(4, 5), (8, 9), (12, 13)]
    assert all(share.threads == 4 for share in assign(seats, cores_per_worker=9, environ=UNSET).values())


@pytest.mark.parametrize("name", THREADS)
def test_threads_that_the_user_chose_stay(name):
    share = assign(node(2), cores_per_worker=4, environ={name: "3"})[1]
    assert share.threads is None and f"{name}=3" in share.text


def test_ranks_of_one_evaluation_divide_what_it_gets():
    shares = assign(node(4, 4), cores_per_worker=4, gpus_per_worker=2, ranks_per_worker=2, environ=UNSET)
    assert [share.gpus for share in shares.values()] == [("0",), ("1",), ("2",), ("3",)]
    assert shares[4].cores == (6, 7)
    with pytest.raises(ValueError, match="3 GPUs can't be divided among 2 ranks"):
        assign(node(4, 4), gpus_per_worker=3, ranks_per_worker=2, environ=UNSET)


def test_the_log_says_it_in_one_line():
    assert assign(node(3, 4), 4, 1, environ=UNSET)[3].text == "4 cores (8-11), 4 threads, GPU 2"
    assert assign(node(8, 1), None, 0.125, environ=UNSET)[2].text == (
        "16 cores (0-15) shared by 8, 2 threads, GPU 0 shared by 8"
    )
    assert assign(node(2, 4), environ=UNSET)[2].text.endswith("8 threads, GPUs 2,3")
    assert assign(node(2, 1), gpus_per_worker=1, environ=UNSET)[2].text == (
        "parked: 1 GPU visible, 1 for each worker, none is left"
    )


def test_a_process_settles_into_its_share(monkeypatch):
    """Variables and cores; cores that are not there are let be."""
    before = os.sched_getaffinity(0)
    monkeypatch.setenv("MPIBO_DEVICE", "cpu")
    try:
        first = min(before)
        resources.settle({"variables": {"MPIBO_DEVICE": "cuda"}, "cores": [first]})
        assert os.sched_getaffinity(0) == {first} and os.environ["MPIBO_DEVICE"] == "cuda"
        resources.settle({"cores": [9999]})
        assert os.sched_getaffinity(0) == {first}
    finally:
        os.sched_setaffinity(0, before)


def test_local_workers_share_what_this_process_sees(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "5,7")
    seats = resources.local_seats(4)
    shares = assign(seats)
    setup = resources.local_setups(4, {"objective": "o"})[4]
    assert setup["resources"] == shares[4].text
    assert setup["variables"]["CUDA_VISIBLE_DEVICES"] == "7" and setup["variables"]["MPIBO_DEVICE"] == "cuda"
    assert setup["objective"] == "o" and "GPU 7 shared by 2" in setup["resources"]
    assert list(resources.local_setups(4, {"gpus_per_worker": 1})) == [1, 2]


BY_SLURM = {"SLURM_PROCID": "0", "PMI_FD": "12"}


@pytest.mark.parametrize(
    ("more", "told"),
    [
        ({}, True),
        ({"HYDI_CONTROL_FD": "9"}, False),  # by mpirun, in the allocation
        ({"MPIR_CVAR_CH4_NETMOD": "ucx"}, False),
        ({"UCX_TLS": "tcp"}, False),
        ({"MPI4PY_LIBMPI": "/opt/site/libmpi.so"}, False),
    ],
)
def test_pips_mpich_is_told_to_keep_addresses_short_under_slurm(more, told, monkeypatch):
    """And nobody else is, nor who has chosen."""
    found = {"mpich": ["a distribution"]}
    monkeypatch.setattr("importlib.metadata.distributions", lambda name: iter(found.get(name, [])))
    assert short_addresses(BY_SLURM | more) == ({"MPIR_CVAR_CH4_NETMOD": "ofi"} if told else {})
    found.clear()
    assert short_addresses(BY_SLURM | more) == {}
    assert short_addresses({"PMI_FD": "12"}) == {}
