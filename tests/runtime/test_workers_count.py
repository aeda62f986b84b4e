"""How many workers and how much memory, from trees of files as the kernel lays them out."""

import os
import subprocess
import sys

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cpr_kit.errors import StartError
from cpr_kit.runtime.workers import cgroup, count
from cpr_kit.runtime.workers.limits import Limits

V2 = "sys/fs/cgroup"
GB = 1 << 30


@pytest.fixture
def tree(tmp_path):
    """tree({"path": "text"}) -> a root with those files."""

    def make(files):
        for name, text in files.items():
            file = tmp_path / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text)
        return tmp_path

    return make


@pytest.mark.parametrize(
    ("files", "processors"),
    [
        pytest.param({}, None, id="no groups at all"),
        pytest.param({"proc/self/cgroup": "0::/\n", f"{V2}/cpu.max": "150000 100000\n"}, 1.5, id="2, namespace"),
        pytest.param({"proc/self/cgroup": "0::/\n", f"{V2}/cpu.max": "max 100000\n"}, None, id="2, no limit"),
        pytest.param({"proc/self/cgroup": "0::/a/b\n", f"{V2}/a/b/cpu.max": "50000 100000"}, 0.5, id="2, own group"),
        pytest.param(
            {
                "proc/self/cgroup": "0::/a/b\n",
                f"{V2}/a/b/cpu.max": "max 100000",
                f"{V2}/a/cpu.max": "200000 100000",
                f"{V2}/cpu.max": "400000 100000",
            },
            2.0,
            id="2, the tightest around it",
        ),
        pytest.param(
            {"proc/self/cgroup": "0::/../../init\n", f"{V2}/cpu.max": "300000 100000"}, 3.0, id="2, outside a namespace"
        ),
        pytest.param(
            {
                "proc/self/cgroup": "3:cpu,cpuacct:/docker/abc\n0::/\n",
                f"{V2}/cpu,cpuacct/cpu.cfs_quota_us": "250000\n",
                f"{V2}/cpu,cpuacct/cpu.cfs_period_us": "100000\n",
            },
            2.5,
            id="1, the mount is the container's group",
        ),
        pytest.param(
            {
                "proc/self/cgroup": "1:cpu:/a/b\n",
                f"{V2}/cpu/a/b/cpu.cfs_quota_us": "-1\n",
                f"{V2}/cpu/a/b/cpu.cfs_period_us": "100000\n",
                f"{V2}/cpu/a/cpu.cfs_quota_us": "100000\n",
                f"{V2}/cpu/a/cpu.cfs_period_us": "50000\n",
            },
            2.0,
            id="1, nested",
        ),
        pytest.param(
            {
                "proc/self/cgroup": "1:cpu:/\n0::/\n",
                f"{V2}/unified/cpu.max": "100000 100000",
                f"{V2}/cpu/cpu.cfs_quota_us": "300000",
                f"{V2}/cpu/cpu.cfs_period_us": "100000",
            },
            1.0,
            id="both",
        ),
        *(
            pytest.param({"proc/self/cgroup": "0::/\n", f"{V2}/cpu.max": text}, None, id=f"malformed {text!r}")
            for text in ("", "100000", "100000 0", "-5 100000", "a b", "1 2 3", "1.5 1", "\x00\xff", "\u0664 \u0662")
        ),
        *(
            pytest.param({"proc/self/cgroup": text, f"{V2}/cpu.max": "100000 100000"}, None, id=f"malformed {text!r}")
            for text in ("", "\n", "0", "0:", "::", "a:b:c:d")
            if not text.startswith("::")
        ),
    ],
)
def test_processors(tree, files, processors):
    assert cgroup.processors(tree(files)) == processors


@pytest.mark.parametrize(
    ("files", "memory"),
    [
        ({}, None),
        ({"proc/self/cgroup": "0::/\n", f"{V2}/memory.max": "max\n"}, None),
        ({"proc/self/cgroup": "0::/a\n", f"{V2}/a/memory.max": f"{4 * GB}\n", f"{V2}/memory.max": f"{2 * GB}"}, 2 * GB),
        ({"proc/self/cgroup": "4:memory:/x\n", f"{V2}/memory/memory.limit_in_bytes": f"{3 * GB}\n"}, 3 * GB),
        ({"proc/self/cgroup": "4:memory:/x\n", f"{V2}/memory/memory.limit_in_bytes": "9223372036854771712\n"}, None),
        ({"proc/self/cgroup": "4:memory:/x\n", f"{V2}/memory/memory.limit_in_bytes": "much\n"}, None),
    ],
)
def test_memory(tree, files, memory):
    assert cgroup.memory(tree(files)) == memory


@settings(max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(lines=st.text(max_size=60), words=st.text(max_size=30))
def test_no_file_that_the_kernel_might_write_ends_a_start(tmp_path, lines, words):
    root = tmp_path
    for name, text in {"proc/self/cgroup": lines, f"{V2}/cpu.max": words, f"{V2}/memory.max": words}.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)

    assert count.cores(root, 4) in range(1, 5)
    assert (cgroup.memory(root) or 1) > 0


@pytest.mark.parametrize(
    ("quota", "allowed", "cores"),
    [("150000 100000", 8, 2), ("10000 100000", 8, 1), ("800000 100000", 2, 2), ("max 100000", 3, 3)],
)
def test_cores_are_the_fewer_of_quota_and_affinity_rounded_up(tree, quota, allowed, cores):
    root = tree({"proc/self/cgroup": "0::/\n", f"{V2}/cpu.max": quota})

    assert count.cores(root, allowed) == cores


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="Linux only")
def test_cores_of_this_process_follow_its_affinity():
    one = min(os.sched_getaffinity(0))
    code = (
        f"import os; os.sched_setaffinity(0, [{one}]); from cpr_kit.runtime.workers import count; print(count.cores())"
    )

    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "1\n"


@pytest.mark.parametrize(
    ("environ", "workers"),
    [
        ({}, 4),
        ({"VERTEX_CPR_WEB_CONCURRENCY": "7", "VERTEX_CPR_MAX_WORKERS": "2"}, 7),
        ({"VERTEX_CPR_WORKERS_PER_CORE": "0.5"}, 2),
        ({"VERTEX_CPR_WORKERS_PER_CORE": "0.1"}, 1),
        ({"VERTEX_CPR_WORKERS_PER_CORE": "2", "VERTEX_CPR_MAX_WORKERS": "5"}, 5),
        ({"VERTEX_CPR_MAX_WORKERS": "9"}, 4),
        ({"VERTEX_CPR_WEB_CONCURRENCY": "", "VERTEX_CPR_MAX_WORKERS": "1"}, 1),
    ],
)
def test_workers_as_upstream_counts_them(environ, workers):
    assert count.workers(environ, cores=4) == workers


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *[("VERTEX_CPR_WEB_CONCURRENCY", value) for value in ("0", "-1", "two", "1.5", "9999999", "\u0664", " ")],
        *[("VERTEX_CPR_MAX_WORKERS", value) for value in ("0", "many")],
        *[("VERTEX_CPR_WORKERS_PER_CORE", value) for value in ("0", "-1", "nan", "inf", "half")],
        *[("CPR_SERVE_MAX_WORKER_MEMORY_MB", value) for value in ("0", "1GB", "-5", "1e3")],
    ],
)
def test_a_bad_value_is_named_with_its_variable(name, value, tmp_path):
    with pytest.raises(StartError, match=f"{name} is ") as caught:
        Limits.from_environ({name: value}, root=tmp_path)

    assert f'"{value}"' in str(caught.value)


def test_a_worker_gets_its_part_of_the_container_without_what_all_share(tree):
    root = tree({"proc/self/cgroup": "0::/\n", f"{V2}/memory.max": str(10 * GB)})
    limits = Limits.from_environ({"VERTEX_CPR_WEB_CONCURRENCY": "4"}, root=root)

    assert limits.memory_of_worker(shared=GB) == 2 * GB
    assert limits.memory_of_worker(shared=20 * GB) == 0
    asked = Limits.from_environ({"CPR_SERVE_MAX_WORKER_MEMORY_MB": "512"}, root=root)
    assert asked.memory_of_worker(shared=GB) == 512 << 20
    assert Limits().memory_of_worker(shared=GB) is None
