"""Many files: several at a time, each as if it were alone."""

import gc
import threading
import weakref
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from fidelity import folder as folder_module
from fidelity.decide.settings import Settings
from fidelity.decide.target import Target
from fidelity.errors import MemoryLimitError, RefusedError
from fidelity.folder import upscale_files
from fidelity.job import FileOptions, upscale_file
from fidelity.networks.backend import backend_key
from fidelity.networks.compute import Compute
from fidelity.session import Session

CPU = torch.device("cpu")


@pytest.fixture
def session():
    return Session(Settings(Target(scale=2), "photo", restore="off"), Compute(CPU, "fp32"), {})


@pytest.fixture
def two_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def pairs(tmp_path, photo):
    """Five photographs and a file that is none, third of all, with the files to write."""
    pixels = (photo[0].permute(1, 2, 0) * 255).byte().numpy()
    for index in range(6):
        Image.fromarray(np.roll(pixels, 7 * index, axis=1)).save(tmp_path / f"{index}.png")
    (tmp_path / "2.png").write_text("no image")
    return [(tmp_path / f"{index}.png", tmp_path / "out" / f"{index}.png") for index in range(6)]


@pytest.mark.usefixtures("two_threads")
def test_every_file_gets_what_it_gets_alone_and_a_bad_one_stops_none(pairs, session, tmp_path):
    outcomes = {outcome.index: outcome for outcome in upscale_files(pairs, session)}
    assert sorted(outcomes) == list(range(6))
    with pytest.raises(RefusedError, match="not an image"):
        outcomes.pop(2).report()
    for index, outcome in outcomes.items():
        alone = upscale_file(pairs[index][0], tmp_path / f"alone{index}.png", session)
        assert outcome.report().output.path == str(pairs[index][1])
        assert outcome.report().recipe == alone.recipe
        made, wanted = (np.asarray(Image.open(path)).astype(int) for path in (pairs[index][1], tmp_path / f"alone{index}.png"))
        assert abs(made - wanted).max() <= 1
    assert torch.get_num_threads() == 2


@pytest.mark.usefixtures("two_threads")
def test_as_many_at_a_time_as_there_are_threads_each_with_its_own(pairs, session, monkeypatch):
    both, seen = threading.Barrier(2), []

    def meet(source, *given, in_memory):
        both.wait(timeout=60)
        seen.append((torch.get_num_threads(), in_memory))
        return source

    monkeypatch.setattr(folder_module, "upscale_file", meet)
    assert len(list(upscale_files(pairs, session))) == 6
    assert seen == [(1, True)] * 6


@pytest.mark.usefixtures("two_threads")
def test_what_does_not_fit_beside_others_follows_alone(pairs, session, monkeypatch):
    """Half of the memory is too little even for one picture; the whole is enough."""
    calls, real = [], folder_module.upscale_file

    def record(*given, in_memory):
        calls.append((given[0].stem, in_memory))
        return real(*given, in_memory=in_memory)

    monkeypatch.setattr(folder_module, "upscale_file", record)
    needed = session.decide(torch.rand(1, 3, 96, 112)).planned.plan.peak_bytes
    outcomes = list(upscale_files(pairs[:2], session.within(int(1.5 * needed))))
    assert [outcome.report().output.path for outcome in outcomes] == [str(output) for _, output in pairs[:2]]
    assert sorted(calls) == [("0", False), ("0", True), ("1", False), ("1", True)]


@pytest.mark.usefixtures("two_threads")
def test_a_source_too_large_to_be_read_beside_others_is_not_tried(pairs, session, monkeypatch):
    calls = []
    monkeypatch.setattr(folder_module, "upscale_file", lambda *given, in_memory: calls.append(in_memory))
    monkeypatch.setattr(folder_module, "_count_pixels", lambda path: 10**12)
    assert len(list(upscale_files(pairs, session))) == 6
    assert calls == [False] * 6


@pytest.mark.usefixtures("two_threads")
def test_progress_covers_all_and_stopping_cancels_the_rest(pairs, session):
    told = []
    work = upscale_files(pairs, session, progress=lambda *given: told.append(given))
    next(work)
    work.close()
    assert torch.get_num_threads() == 2
    assert all(total == 6000 and 0 <= done <= total for _, done, total in told)
    assert len(list(pairs[0][1].parent.glob("*.png"))) < 5
    told.clear()
    list(upscale_files(pairs, session, progress=lambda *given: told.append(given)))
    assert told[-1] == ("6 of 6", 6000, 6000)


def test_a_single_file_tells_its_stages_and_has_all_threads(pairs, session):
    told = []
    outcome = next(upscale_files(pairs[:1], session, progress=lambda *given: told.append(given[0])))
    assert outcome.report().output.path == str(pairs[0][1])
    assert {"upscale", "consistency"} <= set(told)


@pytest.mark.usefixtures("two_threads")
def test_a_file_that_failed_leaves_nothing_in_memory(pairs, session, monkeypatch):
    pictures = []

    def fail(*_, **__):
        picture = torch.rand(3, 8, 8)
        pictures.append(weakref.ref(picture))
        raise RefusedError("no")

    monkeypatch.setattr(folder_module, "upscale_file", fail)
    outcomes = list(upscale_files(pairs, session))
    gc.collect()
    assert [str(outcome.result) for outcome in outcomes] == ["no"] * 6
    assert [picture() for picture in pictures] == [None] * 6


def test_what_was_measured_for_all_threads_counts_in_each(compact):
    keys = []

    def note():
        torch.set_num_threads(1)
        keys.append(backend_key(compact(), CPU, "fp32", "torch"))

    before = torch.get_num_threads()
    torch.set_num_threads(before + 1)
    worker = threading.Thread(target=note)
    worker.start()
    worker.join()
    torch.set_num_threads(before)
    assert keys == [backend_key(compact(), CPU, "fp32", "torch")]


def test_memory_that_the_system_refuses_is_told_and_the_file_tried_again_alone(pairs, session, monkeypatch):
    calls = []

    def fail(source, *given, in_memory):
        calls.append(in_memory)
        raise RuntimeError(
            "[enforce fail at alloc_cpu.cpp:127] DefaultCPUAllocator: can't allocate memory: you tried to allocate"
        )

    monkeypatch.setattr(folder_module, "upscale_file", fail)
    outcomes = list(upscale_files(pairs[:2], session))
    for outcome in outcomes:
        with pytest.raises(RefusedError, match="the system gives no more memory"):
            outcome.report()
    assert len(outcomes) == 2
    assert calls.count(False) == 2


@pytest.mark.usefixtures("two_threads")
def test_an_image_that_is_tried_again_keeps_its_name(pairs, session, monkeypatch):
    failed, decide = [], Session.decide

    def fail_once(self, image, *given):
        if len(failed) < 2:
            failed.append(image)
            raise MemoryLimitError("too much beside others")
        return decide(self, image, *given)

    monkeypatch.setattr(Session, "decide", fail_once)
    outcomes = list(upscale_files(pairs[:2], session, FileOptions(existing="rename")))
    assert sorted(Path(outcome.report().output.path).name for outcome in outcomes) == ["0.png", "1.png"]
    assert len(failed) == 2
