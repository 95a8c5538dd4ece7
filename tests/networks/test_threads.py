"""PyTorch computes with as many threads as there are free cores."""

import os
import subprocess
import sys

import pytest
import torch

from fidelity.networks import threads


@pytest.fixture
def free(monkeypatch):
    """A machine with as many free cores as the test says, and a process with four threads."""
    cores = [4.0]
    monkeypatch.setattr(threads, "free_cores", lambda: cores[0])
    before = torch.get_num_threads()
    torch.set_num_threads(4)
    yield cores
    torch.set_num_threads(before)


@pytest.mark.parametrize(("cores", "expected"), [(8.0, 4), (4.0, 4), (3.9, 4), (3.1, 3), (0.3, 1)])
def test_threads_leave_cores_that_are_taken(free, cores, expected):
    free[0] = cores
    with threads.on_free_cores():
        assert torch.get_num_threads() == expected
    assert torch.get_num_threads() == 4


def test_threads_follow_what_becomes_free(free):
    free[0] = 1.0
    with threads.on_free_cores():
        assert torch.get_num_threads() == 1
        free[0] = 4.0
        with threads.on_free_cores():
            assert torch.get_num_threads() == 1
        threads.adapt_threads()
        assert torch.get_num_threads() == 4


def test_nothing_changes_outside_or_with_one_thread(free):
    free[0] = 2.0
    threads.adapt_threads()
    assert torch.get_num_threads() == 4
    torch.set_num_threads(1)
    free[0] = 4.0
    with threads.on_free_cores():
        threads.adapt_threads()
        assert torch.get_num_threads() == 1


FORKED = """
import multiprocessing
import torch
from fidelity.networks.threads import on_free_cores

def work(_):
    with on_free_cores():
        return float((torch.ones(400, 400) @ torch.ones(400, 400)).sum()), torch.get_num_threads()

if __name__ == "__main__":
    torch.set_num_threads(2)
    FIRST
    with multiprocessing.get_context("fork").Pool(2) as pool:
        print(pool.map(work, range(3)))
"""


@pytest.mark.parametrize("first", ["work(0)", "torch.ones(400, 400) @ torch.ones(400, 400)"])
@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork processes")
def test_a_process_forked_from_one_that_has_computed_computes_too(tmp_path, first):
    script = tmp_path / "forked.py"
    script.write_text(FORKED.replace("FIRST", first))
    environment = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"}
    told = subprocess.run([sys.executable, script], check=False, capture_output=True, text=True, timeout=120, env=environment)
    assert told.stdout.strip() == str([(400.0**3, 1)] * 3), told.stderr
