from dataclasses import replace

import pytest
import torch

from fidelity.imaging.yuv import PlaneFormat, planes_to_levels, rgb_to_planes
from fidelity.video.scenes import LOOKAHEAD, FramePlace, SceneFinder, with_samples
from fidelity.video.source import SourceFrame
from tests.clips import picture

FORM = PlaneFormat("bt709")
SIZE = (72, 96)


def frame_of(image, index):
    return SourceFrame(index, index, 1, tuple(planes_to_levels(rgb_to_planes(image.clamp(0, 1), FORM), FORM)))


def scenes_of(images, **options):
    finder = SceneFinder(FORM, **options)
    return [finder.place(frame_of(image, index)) for index, image in enumerate(images)]


def test_cuts_are_found_and_motion_is_none():
    images = [picture(SIZE, index, scene) for index, scene in enumerate([0] * 8 + [1] * 8 + [2] * 8)]
    assert [place.frame.index for place in scenes_of(images) if place.starts_scene] == [0, 8, 16]


@pytest.mark.parametrize("change", ["fade", "pan", "noise", "flicker"])
def test_slow_changes_are_no_cuts(change):
    draw = torch.Generator().manual_seed(0)
    wide = torch.rand(1, 3, 12, 40, generator=draw).repeat_interleave(6, 2).repeat_interleave(6, 3)
    images = []
    for index in range(16):
        image = wide[..., :96]
        if change == "fade":
            image = image * index / 16
        elif change == "pan":
            image = wide[..., 2 * index : 2 * index + 96]
        elif change == "noise":
            image = image + torch.randn(image.shape, generator=draw) / 25
        else:
            image = image * (0.7 if index % 2 else 1.0)
        images.append(image)
    assert sum(place.starts_scene for place in scenes_of(images)) == 1


def test_equal_frames_repeat_and_near_ones_only_if_asked_for():
    still = picture(SIZE, 0)
    near = (still + 0.3 / 255).clamp(0, 1)
    near[:, :, 40, 40] += 2 / 255
    images = [still, still, near, picture(SIZE, 5)]
    assert [place.is_repeat for place in scenes_of(images)] == [False, True, False, False]
    assert [place.is_repeat for place in scenes_of(images, near_repeats=True)] == [False, True, True, False]


def places(*lengths):
    index = 0
    for scene, length in enumerate(lengths):
        for step in range(length):
            yield FramePlace(SourceFrame(index, index, 1, ()), scene, step == 0, False)
            index += 1


def test_every_frame_comes_with_some_of_its_own_scene():
    found = list(with_samples(places(1, 5, 100, 2)))
    assert [place.frame.index for place, _ in found] == list(range(108))
    told = {place.scene: [frame.index for frame in samples] for place, samples in found}
    assert told == {0: [0], 1: [1, 3, 5], 2: [6, 18, 29], 3: [106, 107]}
    assert LOOKAHEAD == 24


def test_no_more_frames_are_held_back_than_are_looked_ahead():
    taken = []

    def counted():
        for place in places(60):
            taken.append(place)
            yield place

    for number, _ in enumerate(with_samples(counted()), 1):
        assert len(taken) <= max(LOOKAHEAD, number + 1)


def test_a_part_that_begins_within_a_scene_is_a_scene():
    part = [replace(place, scene=3, starts_scene=False) for place in places(4)]
    assert [frame.index for frame in next(iter(with_samples(iter(part))))[1]] == [0, 2, 3]
