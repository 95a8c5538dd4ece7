"""What a container and other processes leave counts, not only what the machine has."""

import subprocess
import sys

import psutil
import pytest

from fidelity import limits

GIB = 2**30


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """A machine whose control groups are files of the test."""
    monkeypatch.setattr(limits, "_CGROUPS", tmp_path / "fs")
    monkeypatch.setattr(limits, "_OWN_CGROUP", tmp_path / "own")

    def make(own, **files):
        (tmp_path / "own").write_text(own)
        for name, text in files.items():
            path = tmp_path / "fs" / name.replace("__", "/").replace("memory_", "memory.", 1).replace("cpu_", "cpu.", 1)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)

    return make


def test_without_a_limit_it_is_the_machines(machine):
    machine("0::/user\n", user__memory_max="max\n", memory_max="max\n")
    assert limits.total_bytes() == psutil.virtual_memory().total
    assert abs(limits.free_bytes() - psutil.virtual_memory().available) < GIB


def test_the_smallest_limit_of_all_groups_counts_without_what_can_be_dropped(machine):
    stat = f"anon 5\ninactive_file {GIB // 4}\n"
    machine(
        "0::/a/b\n", a__memory_max=f"{GIB}\n", a__memory_current=f"{GIB // 2}\n", a__memory_stat=stat, a__b__memory_max="max\n"
    )
    assert limits.total_bytes() == GIB
    assert limits.free_bytes() == 3 * GIB // 4


def test_the_first_version_too(machine):
    names = {"memory__x__memory_limit_in_bytes": f"{GIB}\n", "memory__x__memory_usage_in_bytes": f"{GIB // 8}\n"}
    machine("5:cpu,memory:/x\n4:pids:/y\n", **names)
    assert (limits.total_bytes(), limits.free_bytes()) == (GIB, 7 * GIB // 8)


def test_a_group_that_is_over_its_limit_has_nothing_left(machine):
    machine("0::/\n", memory_max="1000\n", memory_current="2000\n")
    assert limits.free_bytes() == 0


@pytest.mark.parametrize("own", ["", "noise", "0::/\n"])
def test_nothing_that_is_missing_or_odd_fails(machine, own):
    machine(own if own != "noise" else "0::/gone\n", memory_max="many\n")
    assert limits.total_bytes() == psutil.virtual_memory().total


@pytest.mark.skipif(sys.platform != "linux", reason="other systems limit memory in other ways")
def test_a_limit_of_the_process_counts():
    script = "import resource; resource.setrlimit(resource.RLIMIT_AS, (2**33, 2**33)); from fidelity import limits; "
    script += "print(limits.total_bytes(), limits.free_bytes())"
    told = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout.split()
    assert int(told[0]) <= 2**33
    assert int(told[1]) < 2**33


def test_as_many_files_as_are_needed_may_be_open():
    pytest.importorskip("resource", reason="this system has no such limit")
    script = (
        "import resource as r; from fidelity.limits import allow_open_files as allow\n"
        "r.setrlimit(r.RLIMIT_NOFILE, (64, 200)); print(allow(50), allow(128), r.getrlimit(r.RLIMIT_NOFILE)[0], allow(999))"
    )
    done = subprocess.run([sys.executable, "-c", script], check=False, capture_output=True, text=True)
    assert done.stdout.split() == ["64", "128", "128", "200"], done.stderr


@pytest.fixture
def load(monkeypatch):
    """Two cores whose use, and the time, are the test's."""
    now = {"seconds": 0.0, "others": 0.0}
    idle = psutil.cpu_times()._replace(**dict.fromkeys(psutil.cpu_times()._fields, 0.0))
    monkeypatch.setattr(limits.time, "perf_counter", lambda: now["seconds"])
    monkeypatch.setattr(limits.psutil, "cpu_times", lambda percpu: [idle, idle._replace(user=now["others"], idle=9.0)])
    monkeypatch.setattr(limits, "_own_cores", lambda: range(2))
    monkeypatch.setattr(limits, "_quotas", lambda: ())
    monkeypatch.setattr(limits, "_LOAD", limits._Load())

    def advance(seconds, busy):
        now["seconds"] += seconds
        now["others"] += busy * seconds

    return advance


def test_cores_that_others_keep_busy_are_not_free(load):
    assert limits.free_cores() == 2
    load(1.0, 0.75)
    assert limits.free_cores() == pytest.approx(1.25, abs=0.02)
    load(0.01, 0.0)  # too short to tell
    assert limits.free_cores() == pytest.approx(1.25, abs=0.02)
    load(1.0, 0.0)
    assert limits.free_cores() == pytest.approx(2, abs=0.02)
    load(1000.0, 1.0)  # so long that it says nothing of now
    assert limits.free_cores() == pytest.approx(2, abs=0.02)


def test_where_the_system_does_not_tell_all_cores_are_free(load, monkeypatch):
    def refuse(**_given):
        raise PermissionError

    load(1.0, 1.0)
    monkeypatch.setattr(limits.psutil, "cpu_times", refuse)
    monkeypatch.setattr(limits, "_LOAD", limits._Load())
    load(1.0, 0.0)
    assert limits.free_cores() == 2


def test_a_containers_quota_counts(machine):
    machine("0::/a\n", a__cpu_max="150000 100000\n", cpu_max="max 100000\n")
    assert list(limits._quotas()) == [1.5]


def test_a_quota_of_the_first_version_counts(machine):
    machine("3:cpu,cpuacct:/x\n", cpu__x__cpu_cfs_quota_us="50000\n", cpu__x__cpu_cfs_period_us="100000\n")
    assert list(limits._quotas()) == [0.5]
