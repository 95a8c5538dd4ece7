"""What a piece of work takes is seen while it lasts."""

import sys
import time

import pytest
import torch

from fidelity.report.memory import MemoryWatch


def test_memory_held_for_a_moment_is_seen():
    with MemoryWatch(torch.device("cpu")) as watch:
        block = torch.ones(64, 1024, 1024 // 4)
        time.sleep(0.05)
        del block
    assert watch.peak_bytes > 50 * 2**20


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux gives freed memory back at once")
def test_memory_that_was_freed_before_counts_again():
    blocks = [torch.ones(256, 1024) for _ in range(64)]
    del blocks
    with MemoryWatch(torch.device("cpu")) as watch:
        blocks = [torch.ones(256, 1024) for _ in range(64)]
        time.sleep(0.05)
    assert watch.peak_bytes > 50 * 2**20
    del blocks


def test_a_gpu_is_made_ready_before_it_is_asked(monkeypatch):
    ready, held = [], [100]

    def reset(_):
        if not ready:
            raise RuntimeError("invalid argument to reset_peak_memory_stats")

    monkeypatch.setattr(torch.cuda, "init", lambda: ready.append(True))
    monkeypatch.setattr(torch.cuda, "reset_peak_memory_stats", reset)
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda _: held[0])
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda _: held[0] + 50)
    with MemoryWatch(torch.device("cuda")) as watch:
        pass
    assert watch.peak_bytes == 50


def test_an_error_passes_through_and_the_watch_ends():
    watch = MemoryWatch(torch.device("cpu"))
    try:
        with watch:
            raise KeyError("x")
    except KeyError:
        pass
    assert not watch._thread.is_alive()
