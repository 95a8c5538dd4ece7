"""The projection: colours come back, edges stay, and nothing is added that the model did not draw."""

import pytest
import torch

from fidelity.imaging.drift import SourceRange, flat_texture, measure_drift, overshoot_percent, sharpness_ratio, survey_rows
from fidelity.imaging.filters import gaussian_blur
from fidelity.imaging.metrics import psnr
from fidelity.imaging.resample import resize
from fidelity.imaging.rows import FileRows, TensorRows, copy_rows, read_all
from fidelity.steps import consistency
from fidelity.steps.consistency import OvershootCounter, limit_overshoot, project, project_rows


def drifted(photo, scale):
    """An enlargement as a careless upscaler makes it: sharpened, tinted, and too contrasty."""
    size = (round(photo.shape[2] * scale), round(photo.shape[3] * scale))
    large = resize(photo, size, "lanczos")
    large = large + 1.5 * (large - gaussian_blur(large, scale / 2)) if scale > 1 else large
    tint = torch.tensor([1.06, 1.0, 0.9]).reshape(1, 3, 1, 1)
    return ((large - 0.5) * 1.08 * tint + 0.5).clamp(0, 1)


@pytest.mark.parametrize("scale", [1, 1.37, 2, 4])
def test_color_mode_removes_drift_at_any_ratio_and_keeps_sharpness(photo, scale):
    raw = drifted(photo, scale)
    before, result = measure_drift(photo, raw), project(raw, photo)
    after = measure_drift(photo, result)
    assert before.mean > 2
    assert after.mean < 0.15
    assert after.max < 1.5
    assert sharpness_ratio(raw, result) > 0.9


@pytest.mark.parametrize("scale", [2, 4])
def test_full_mode_gives_the_source_back_exactly(photo, scale):
    result = project(drifted(photo, scale), photo, "full")
    drift = measure_drift(photo, result, "full")
    assert drift.mean < 0.005
    assert drift.p99 < 0.05


def test_a_result_smaller_than_its_source_is_held_too(photo):
    raw = drifted(photo, 0.5)
    assert measure_drift(photo, project(raw, photo)).mean < 0.2 < measure_drift(photo, raw).mean


def test_a_faithful_image_is_hardly_changed(photo):
    large = resize(photo, (384, 448)).clamp(0, 1)
    assert (project(large, photo) - large).abs().max() < 0.02


def test_projecting_twice_changes_little(photo):
    once = project(drifted(photo, 2), photo)
    assert (project(once, photo) - once).abs().mean() < 0.002


def test_a_flat_area_stays_flat_beside_a_moved_edge():
    source = torch.full((1, 3, 32, 32), 0.2)
    source[..., 16:] = 0.8
    raw = torch.full((1, 3, 128, 128), 0.25)
    raw[..., 66:] = 0.75  # tones off, and the edge half a source pixel to the right
    result = project(raw, source)
    assert measure_drift(source, result).mean < 1
    away = (slice(None), slice(None), slice(None), slice(0, 48))
    assert flat_texture(raw[away], result[away])[1] < 0.3
    assert (result[away] - 0.2).abs().max() < 0.01


def test_areas_that_drifted_out_of_the_sources_range_stay_flat():
    """Limited to that range before they are corrected, they take over its steps."""
    drawn = torch.full((1, 3, 160, 160), 0.25)
    drawn[:, 2] = 0.35
    drawn[..., 40::48] = drawn[..., 41::48] = drawn[..., 42::48] = 0.05  # thin dark lines
    source = resize(drawn, (40, 40)).clamp(0, 1)
    tint = torch.tensor([1.0, 0.9, 0.75]).reshape(1, 3, 1, 1)
    raw = (0.5 + 1.2 * (drawn * tint - 0.5)).clamp(0, 1)
    held = project(raw, source)
    assert measure_drift(source, raw).mean > 5
    between = held[..., 48:84]
    assert between.amax(dim=3).sub(between.amin(dim=3)).max() < 4 / 255


def test_grey_sources_make_grey_results(photo, random_image):
    grey = photo.mean(dim=1, keepdim=True)
    for source in (grey, grey.repeat(1, 3, 1, 1)):
        result = project(drifted(photo, 2), source)
        assert torch.equal(result[:, 0], result[:, 1])
        assert torch.equal(result[:, 0], result[:, 2])
        assert measure_drift(source, result).mean < 0.2


def test_a_grey_image_is_held_to_the_luma_of_its_source(photo):
    result = project(drifted(photo, 2).mean(dim=1, keepdim=True), photo)
    assert result.shape == (1, 1, 192, 224)


def test_alpha_is_returned_as_it_was(photo, random_image):
    alpha = random_image(1, 1, 192, 224)
    image = torch.cat((drifted(photo, 2), alpha), dim=1)
    source = torch.cat((photo, torch.ones_like(photo[:, :1])), dim=1)
    result = project(image, source)
    assert torch.equal(result[:, 3:], alpha)
    assert torch.allclose(result[:, :3], project(image[:, :3], photo), atol=1e-5)


def test_each_image_of_a_batch_is_projected_by_itself(photo):
    other = photo.flip(3)
    batch = torch.cat((drifted(photo, 2), drifted(other, 2)))
    result = project(batch, torch.cat((photo, other)))
    assert torch.allclose(result[:1], project(batch[:1], photo), atol=1e-5)
    assert torch.allclose(result[1:], project(batch[1:], other), atol=1e-5)


def test_one_reference_serves_a_batch(photo):
    batch = drifted(photo, 2).repeat(2, 1, 1, 1)
    assert torch.equal(*project(batch, photo).split(1))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_held_within_its_own_steps(photo, dtype):
    result = project(drifted(photo, 2).to(dtype), photo.to(dtype))
    assert result.dtype == dtype
    assert measure_drift(photo, result).mean < (0.2 if dtype == torch.float16 else 0.6)


def test_the_input_is_left_as_it_was(photo):
    raw = drifted(photo, 2)
    before = raw.clone()
    project(raw, photo)
    assert torch.equal(raw, before)


@pytest.mark.parametrize("size", [(1, 1), (1, 9), (2, 2), (3, 50)])
def test_the_smallest_sources_work(random_image, size):
    source = random_image(1, 3, *size)
    raw = random_image(1, 3, 4 * size[0], 4 * size[1], seed=1)
    for mode in ("color", "full"):
        result = project(raw, source, mode)
        assert torch.isfinite(result).all()
        assert measure_drift(source, result).mean <= measure_drift(source, raw).mean


def limited(raw, source, share):
    """The overshoot limit on a whole image."""
    allowed = SourceRange(TensorRows(source), tuple(raw.shape[2:]))
    bounds = allowed.at(slice(0, raw.shape[2]))
    counter = OvershootCounter(share, raw.device)
    counter.add(raw, *bounds)
    threshold = counter.threshold()
    return raw if threshold is None else limit_overshoot(raw.clone(), *bounds, threshold)


def test_overshoot_is_brought_down_to_its_share_and_strong_lines_stay(photo):
    raw = drifted(photo, 4)
    assert overshoot_percent(photo, raw) > 5
    result = limited(raw, photo, 0.018)
    assert 1 < overshoot_percent(photo, result) < 2
    assert overshoot_percent(photo, (result * 255).round() / 255) < 2
    assert sharpness_ratio(raw, result) > 0.9


def test_overshoot_within_its_share_is_left_alone(photo):
    large = resize(photo, (192, 224)).clamp(0, 1)
    assert limited(large, photo, 1.0) is large


@pytest.mark.parametrize("mode", ["color", "full"])
def test_windows_agree_where_they_meet(photo, monkeypatch, mode):
    raw = drifted(photo, 2)
    whole = project(raw, photo, mode)
    monkeypatch.setattr(consistency, "_CPU_WINDOW", (40, 48))
    assert (project(raw, photo, mode) - whole).abs().mean() < 1 / 4096
    assert (project(raw, photo, mode) - whole).abs().max() < 8 / 1024


@pytest.mark.parametrize("channels", [1, 3])
def test_rows_in_files_give_what_tensors_give(photo, channels):
    source = photo[:, :channels].contiguous()
    raw = drifted(photo, 2)[:, :channels].contiguous()
    target = FileRows((1, channels, *raw.shape[2:]))
    copy_rows(TensorRows(raw), target)
    project_rows(target, TensorRows(source), new_map=lambda shape: FileRows(shape, -1, 2))
    assert (read_all(target) - project(raw, source)).abs().max() < 1 / 1024


@pytest.mark.parametrize("mode", ["color", "full"])
def test_progress_rises_to_the_end_over_all_images(photo, mode):
    seen = []
    project(drifted(photo, 2).repeat(2, 1, 1, 1), photo, mode, progress=lambda done, total: seen.append(done / total))
    assert seen == sorted(seen)
    assert len(seen) > 10
    assert seen[-1] == 1


def test_an_unknown_mode_is_refused(photo):
    with pytest.raises(ValueError, match="mode is 'colour'; wanted 'color' or 'full'"):
        project(photo, photo, "colour")


@pytest.mark.parametrize("kind", ["faithful", "drifted"])
def test_progress_of_a_faithful_picture_reaches_the_end_too(photo, kind):
    seen = []
    image = resize(photo, (192, 224)).clamp(0, 1) if kind == "faithful" else drifted(photo, 2)
    project(image, photo, progress=lambda done, total: seen.append(done / total))
    assert seen == sorted(seen)
    assert seen[-1] == 1


@pytest.mark.parametrize("in_files", [False, True])
@pytest.mark.parametrize("size", [(192, 224), (301, 335), (96, 112)])
def test_the_survey_on_the_way_is_that_of_the_result(photo, size, in_files):
    image = (resize(photo, size) * 0.9 + 0.02).clamp(0, 1)
    target = TensorRows(image)
    if in_files:
        target = FileRows((1, 3, *size))
        target.write(slice(0, size[0]), image)
    source = TensorRows(photo)
    made = project_rows(target, source, surveys=True)
    assert made is not None
    expected = survey_rows(source, target)
    assert made.sharpness == pytest.approx(expected.sharpness, rel=1e-3)
    assert made.overshoot_percent == pytest.approx(expected.overshoot_percent, abs=0.02)
    assert (read_all(made.small) - read_all(expected.small)).abs().max() < 1e-4
    assert project_rows(target, source) is None


def test_what_is_grey_is_surveyed_afterwards(photo):
    grey = photo[:, :1].expand(-1, 3, -1, -1)
    image = (resize(grey, (192, 224)) * 0.9).clamp(0, 1).contiguous()
    assert project_rows(TensorRows(image), TensorRows(grey), surveys=True) is None


@pytest.mark.parametrize("which", [0, 1])
def test_samples_that_are_not_finite_are_refused_and_do_not_spread(photo, which):
    images = [photo.clone(), photo.clone()]
    images[which][0, 0, 3, 3] = torch.nan
    with pytest.raises(ValueError, match="has 1 samples that are not finite"):
        project(*images)


def test_batches_that_do_not_match_are_refused(photo):
    with pytest.raises(ValueError, match="reference has 2 images, image has 3; wanted one, or one per image"):
        project(photo.repeat(3, 1, 1, 1), photo.repeat(2, 1, 1, 1))


CLEAN = ["set5/LRx4/bird.png", "set5/LRx4/head.png", "real/anime_clean.png"]


@pytest.mark.parametrize("name", CLEAN)
@pytest.mark.parametrize("model", ["realesr-animevideov3-x4", "realcugan-up2x-conservative"])
def test_real_models_on_clean_sources_reach_the_design_figures(test_data, read_rgb, name, model):
    from fidelity.networks.loader import load_model

    source = read_rgb(test_data / "images" / name)[:, :, :180, :220]
    with torch.no_grad():
        raw = load_model(test_data / f"models/{model}.safetensors").descriptor(source)
    result = project(raw, source)
    drift, (before, after) = measure_drift(source, result), flat_texture(raw, result)
    assert (drift.mean <= 0.10, drift.p99 <= 0.5, drift.max <= 1.5) == (True, True, True)
    assert sharpness_ratio(raw, result) >= 0.97
    assert overshoot_percent(source, result) <= 2
    assert after - before <= 0.1


def test_full_mode_beats_bicubic_on_every_image_of_set5(test_data, read_rgb):
    from fidelity.networks.loader import SHIPPED_WEIGHTS, load_model
    from fidelity.steps.upscale import upscale

    model = load_model(SHIPPED_WEIGHTS / "natural-x4.safetensors")
    for path in sorted((test_data / "images/set5/HR").glob("*.png")):
        source = read_rgb(test_data / "images/set5/LRx4" / path.name)
        size = (4 * source.shape[2], 4 * source.shape[3])
        truth = read_rgb(path)[:, :, : size[0], : size[1]]
        result = project(upscale(source, model).image, source, "full")
        bicubic = resize(source, size).clamp(0, 1)
        assert measure_drift(source, result, "full").mean <= 0.05
        assert measure_drift(source, result, "full").max <= 1.5
        assert psnr(truth, result, luma=True, crop_px=4) > psnr(truth, bicubic, luma=True, crop_px=4)
