import pytest
import torch
from torch.nn import functional

from fidelity.errors import RefusedError
from fidelity.imaging.drift import sharpness
from fidelity.imaging.resample import resize
from fidelity.video.motion import enlarge_motion, find_motion, find_visible, flicker, motion_error, move
from fidelity.video.steady import Steadier, steady_frames
from tests.clips import picture


def scene(count, shift=(1.5, -0.5), size=(64, 96)):
    """Luma of a soft random picture that moves by so many pixels right and down a frame, twice as large as `size`."""
    draw = torch.Generator().manual_seed(3)
    coarse = torch.rand(1, 1, 24, 32, generator=draw)
    wide = functional.interpolate(coarse, (2 * size[0] + 96, 2 * size[1] + 96), mode="bicubic")
    large = []
    for index in range(count):
        motion = torch.tensor(shift).mul(2 * index).reshape(1, 2, 1, 1).expand(1, 2, *wide.shape[2:])
        large.append(move(wide, motion)[..., 48:-48, 48:-48].clamp(0, 1))
    return large


def test_a_shift_is_found_and_moved_back():
    before, after = scene(2)
    motion = find_motion(before, after)
    inner = motion[..., 20:-20, 20:-20]
    assert inner[:, 0].median() == pytest.approx(3.0, abs=0.1) and inner[:, 1].median() == pytest.approx(-1.0, abs=0.1)
    moved = move(before, motion)
    assert (moved - after)[..., 20:-20, 20:-20].abs().mean() < 0.004
    assert find_visible(before, after, motion)[..., 20:-20, 20:-20].float().mean() > 0.98


def test_motion_grows_with_the_picture():
    motion = torch.ones(1, 2, 8, 10)
    larger = enlarge_motion(motion, (24, 20))
    assert larger.shape == (1, 2, 24, 20)
    assert torch.allclose(larger[:, 0], torch.tensor(2.0)) and torch.allclose(larger[:, 1], torch.tensor(3.0))


def test_no_motion_moves_nothing(random_image):
    image = random_image(1, 1, 20, 30)
    assert torch.allclose(move(image, torch.zeros(1, 2, 20, 30)), image, atol=1e-5)


def test_tiny_pictures_have_no_motion(random_image):
    assert find_motion(random_image(1, 1, 4, 5), random_image(1, 1, 4, 5, seed=1)).abs().max() == 0


def run(results, source, bases):
    steadier, out = Steadier(), []
    for index, (result, base) in enumerate(zip(results, bases, strict=True)):
        before = source[index - 1] if index else None
        motion = find_motion(before, source[index]) if index else None
        out.append(steadier.run(result, base, source[index], before, motion))
    return out


def flicker_of(frames, source):
    total = 0.0
    for index in range(1, len(frames)):
        motion = find_motion(source[index - 1], source[index])
        total += flicker(frames[index - 1], frames[index], motion, find_visible(source[index - 1], source[index], motion))
    return total / (len(frames) - 1)


def test_detail_that_flickers_is_steadied_and_stays_sharp():
    large = scene(8)
    size = (large[0].shape[2] // 2, large[0].shape[3] // 2)
    source = [resize(frame, size) for frame in large]
    bases = [resize(frame, (2 * size[0], 2 * size[1])) for frame in source]
    draw = torch.Generator().manual_seed(5)
    results = [frame + torch.randn(frame.shape, generator=draw) * 3 / 255 for frame in large]
    out = run(results, source, bases)
    assert flicker_of(out[2:], source[2:]) < 0.4 * flicker_of(results[2:], source[2:])
    errors = [
        sum(float((one - truth).square().mean()) for one, truth in zip(made, large, strict=True)) for made in (results, out)
    ]
    assert errors[1] < 0.6 * errors[0]
    clean = run(large, source, bases)
    assert sum(map(sharpness, clean)) >= 0.97 * sum(map(sharpness, large))


def test_a_cut_keeps_the_frames_own_detail(random_image):
    steadier = Steadier()
    first, second = random_image(1, 1, 32, 32), random_image(1, 1, 32, 32, seed=1)
    flat = torch.full_like(first, 0.5)
    steadier.run(first, flat, first, None, None)
    assert torch.allclose(steadier.run(second, flat, second, None, None), second, atol=1e-6)


def test_where_sources_differ_the_frame_keeps_its_own():
    flat = torch.full((1, 1, 48, 48), 0.5)
    bright = flat.clone()
    bright[..., 12:36, 12:36] = 0.9
    steadier = Steadier()
    steadier.run(flat + 0.02, flat, flat, None, None)
    out = steadier.run(bright - 0.02, flat, bright, flat, torch.zeros(1, 2, 48, 48))
    assert torch.allclose(out[..., 18:30, 18:30], bright[..., 18:30, 18:30] - 0.02, atol=1e-3)


def test_the_motion_of_a_video_equals_its_own():
    large = scene(2)
    source = [resize(frame, (64, 96)) for frame in large]
    assert motion_error(*large, *source) < 0.05


def test_frames_of_any_upscaler_are_steadied_and_keep_their_colors():
    large = scene(6)
    size = (large[0].shape[2] // 2, large[0].shape[3] // 2)
    source = [resize(frame, size) * 0.6 + 0.2 for frame in large]
    draw = torch.Generator().manual_seed(5)
    tint = torch.tensor([0.1, -0.05, 0.02]).reshape(3, 1, 1)
    frames = torch.cat([(frame + torch.randn(frame.shape, generator=draw) * 3 / 255) * 0.6 + 0.2 + tint for frame in large])
    made = steady_frames(frames, torch.cat(source))
    flickers = [flicker_of(list(seen[2:].mean(1, keepdim=True).split(1)), source[2:]) for seen in (frames, made)]
    assert flickers[1] < 0.5 * flickers[0]
    change = made - frames
    assert change[1:].abs().amax() > 0.001 and torch.allclose(change[:, 0], change[:, 2], atol=1e-5)


def test_frames_are_not_steadied_over_a_cut(random_image):
    sources = torch.cat([picture((72, 96), index, scene) for index, scene in enumerate([0, 0, 1, 1])])
    frames = (resize(sources, (144, 192)) + random_image(4, 3, 144, 192) / 50).clamp(0, 1)
    changed = (steady_frames(frames, sources) - frames).abs().amax(dim=(1, 2, 3)) > 1e-5
    assert changed.tolist() == [False, True, False, True]


def test_frames_without_a_source_each_are_refused(random_image):
    with pytest.raises(RefusedError, match="4 frames and 1 sources; wanted one source for each frame"):
        steady_frames(random_image(4, 3, 32, 32), random_image(1, 3, 16, 16))
