"""The whole way: what is decided from an image, and that the decision is what happens."""

from dataclasses import replace

import pytest
import torch
from skimage import data

from fidelity.decide.decision import decide
from fidelity.decide.model_choice import ModelChooser
from fidelity.decide.settings import Settings
from fidelity.decide.target import Target
from fidelity.errors import RefusedError
from fidelity.imaging.drift import measure_drift
from fidelity.imaging.metrics import psnr
from fidelity.imaging.resample import resize
from fidelity.session import Session, carry_out, run_passes
from fidelity.steps.gate import GateLimits
from fidelity.steps.upscale import upscale

GIB = 2**30


@pytest.fixture
def order(compact_file):
    """Decides for an image with one x2 network, a target and settings of the photo recipe."""

    def make(image, target=None, gate_limits=None, **changes):
        chooser = ModelChooser(str(compact_file(2)), {})
        decision = decide(image, chooser, Settings(target or Target(), "photo", **changes), 8 * GIB)
        if gate_limits is None:
            return decision
        return replace(decision, recipe=replace(decision.recipe, gate_limits=gate_limits))

    return make


@pytest.fixture
def installed(tmp_path, compact_file):
    """A chooser on "auto" with networks of these names and scales installed."""

    def make(**scales):
        models = {}
        for name, scale in scales.items():
            models[name] = tmp_path / f"{name}.safetensors"
            models[name].write_bytes(compact_file(scale).read_bytes())
        return ModelChooser("auto", models)

    return make


def noisy(image, sigma=30):
    large = resize(image, (200, 240)).clamp(0, 1)
    return (large + torch.randn(large.shape, generator=torch.Generator().manual_seed(0)) * sigma / 255).clamp(0, 1)


def test_an_enlargement_holds_its_colours_and_says_so(order, photo):
    result = carry_out(photo, order(photo, Target(scale=3)))
    assert result.image.shape == (1, 3, 288, 336)
    assert result.color_drift.mean < 0.3
    assert result.gate is not None
    assert result.full_drift.mean >= result.color_drift.mean


def test_steps_that_are_off_do_nothing(order, photo):
    result = carry_out(photo, order(photo, consistency="off", gate="off", cleanup="off"))
    assert result.gate is None
    assert result.sharpness_ratio == 1
    assert [step.kind for step in result.passes if step.kind != "measure"] == ["network"]


def test_the_gate_keeps_to_the_recipes_limits(order, photo):
    decision = order(photo, consistency="off", channels="rgb", cleanup="off", gate_limits=GateLimits(0.4, 1.5))
    result = carry_out(photo, decision)
    assert result.gate.action == "blend"
    assert result.color_drift.mean <= 0.4
    assert result.color_drift.max <= 1.5


def test_one_count_runs_over_all_stages(order, photo):
    seen = []
    decision = order(photo, Target(scale=5), cleanup="bilateral")
    carry_out(photo, decision, progress=lambda stage, done, total: seen.append((stage, done / total)))
    assert list(dict.fromkeys(stage for stage, _ in seen)) == ["upscale", "consistency", "gate", "cleanup", "grain"]
    assert [share for _, share in seen] == sorted(share for _, share in seen)
    assert seen[-1][1] == 1


def test_alpha_and_grey_go_all_the_way(order, photo):
    alpha = torch.ones_like(photo[:, :1])
    alpha[..., :30] = 0
    for image, channels in ((torch.cat((photo, alpha), dim=1), 4), (photo[:, :1], 1)):
        assert carry_out(image, order(image)).image.shape == (1, channels, 192, 224)


def test_kind_target_and_network_are_decided_from_the_image(installed, photo):
    decision = decide(photo, installed(), Settings(), 8 * GIB)
    assert decision.planned.plan.target == (384, 448)
    assert "auto" not in (decision.recipe.channels, decision.recipe.cleanup, decision.recipe.restore, decision.recipe.passes)
    assert decision.conditions.long_edge_px == 112
    assert decision.verdict.evidence


def test_what_the_user_chose_is_not_decided_again(installed, photo):
    chosen = {"cleanup": "off", "passes": "direct", "restore": "off", "channels": "luma"}
    decision = decide(noisy(photo), installed(), Settings(**chosen), 8 * GIB)
    assert all(getattr(decision.recipe, name) == value for name, value in chosen.items())
    assert decision.reasons == ()


def test_noise_asks_for_a_denoiser_and_says_which_measurement_did(installed, photo):
    image = noisy(photo)
    decision = decide(image, installed(scunet_color_real_psnr=1), Settings(Target(scale=2), "photo"), 8 * GIB)
    assert decision.planned.restorer is not None
    assert any(reason.startswith("restore denoise: damage rated") for reason in decision.reasons)
    steps = decision.planned.plan.passes
    assert [step.result for step in steps][:2] == [(200, 240), (400, 480)]
    result = carry_out(image, decision)
    assert [(step.kind, step.model) for step in result.passes][:2] == [
        ("restore", "scunet_color_real_psnr.safetensors"),
        ("network", "natural-x2.safetensors"),
    ]


@pytest.mark.parametrize(("domain", "name"), [("photo", "natural-x1"), ("painting", "natural-x1"), ("line_art", "drawn-x1")])
def test_without_an_installed_denoiser_the_shipped_network_of_its_type_restores(installed, photo, domain, name):
    image = noisy(photo)
    decision = decide(image, installed(), Settings(Target(scale=2), domain), 8 * GIB)
    assert decision.planned.restorer.network.name == f"{name}.safetensors"
    truth = resize(photo, (200, 240)).clamp(0, 1)
    reference = run_passes(image, decision).reference
    assert psnr(truth, reference) > psnr(truth, image) + 4


def test_what_is_clean_is_left_alone_and_damage_is_restored_as_far_as_it_goes(installed):
    clean = torch.from_numpy(data.astronaut()).movedim(-1, 0)[None].float() / 255
    clean = resize(clean, (128, 128)).clamp(0, 1)
    strengths = []
    for sigma in (0, 10, 30):
        image = (clean + torch.randn(clean.shape, generator=torch.Generator().manual_seed(0)) * sigma / 255).clamp(0, 1)
        decision = decide(image, installed(), Settings(Target(scale=2), "photo"), 8 * GIB)
        strengths.append(decision.restore_strength)
        assert (decision.planned.restorer is None) == (sigma == 0)
    assert strengths[0] < 0.1
    assert strengths[2] > 0.5
    assert strengths == sorted(strengths)
    asked = decide(clean, installed(), Settings(Target(scale=2), "photo", restore="denoise"), 8 * GIB)
    assert (asked.restore_strength, asked.planned.restorer is None) == (1.0, False)


def test_the_users_strength_takes_the_place_of_the_measured_one(installed, photo):
    def decision(image, strength):
        return decide(image, installed(), Settings(Target(scale=2), "photo", restore_strength=strength), 8 * GIB)

    for image in (photo, noisy(photo)):
        half = decision(image, 0.5)
        assert (half.restore_strength, half.planned.restorer is None) == (0.5, False)
        assert "restored at 0.50 of full strength, chosen by the user" in half.reasons
        assert decision(image, 0.0).planned.restorer is None
    source = noisy(photo)
    full, half = (run_passes(source, decision(source, strength)).reference for strength in (1.0, 0.5))
    torch.testing.assert_close(half, (full + source) / 2, atol=1e-5, rtol=0)


def test_tiles_are_priced_for_the_device_of_the_image_where_none_is_named(photo, installed, monkeypatch):
    asked = []
    chooser = installed()
    plan = chooser.plan
    monkeypatch.setattr(chooser, "plan", lambda *given: asked.append(given[6].device) or plan(*given))
    decide(photo, chooser, Settings(Target(scale=2), "photo"), 8 * GIB)
    assert set(asked) == {photo.device}


@pytest.mark.parametrize("strength", [-0.1, 1.1, float("nan")])
def test_a_strength_outside_its_range_is_refused(strength):
    with pytest.raises(RefusedError, match=r"restore_strength is .*; wanted 0 to 1"):
        Settings(restore_strength=strength)


def test_a_restored_source_needs_no_cleaning_between_passes(installed, photo):
    decision = decide(noisy(photo), installed(scunet_color_real_psnr=1), Settings(Target(scale=4), "photo"), 8 * GIB)
    assert decision.recipe.passes == "direct"
    assert [step.kind for step in decision.planned.plan.passes] == ["restore", "network"]
    assert any("passes direct: a network" in reason for reason in decision.reasons)


def test_the_restored_source_is_what_the_result_is_held_to(installed, photo):
    image = noisy(photo)
    decision = decide(image, installed(), Settings(Target(scale=2), "photo", cleanup="off"), 8 * GIB)
    drawn = run_passes(image, decision)
    result = carry_out(image, decision)
    assert measure_drift(drawn.reference, result.image).mean < 0.5 * measure_drift(image, result.image).mean


def test_restoring_leaves_transparency_alone(installed, photo):
    image = torch.cat((noisy(photo), torch.rand(1, 1, 200, 240)), dim=1)
    decision = decide(image, installed(scunet_color_real_psnr=1), Settings(Target(scale=2), "photo"), 8 * GIB)
    assert torch.equal(run_passes(image, decision).reference[:, 3], image[:, 3])


def test_stepwise_doubles_and_cleans_in_between(installed, photo):
    decision = decide(photo, installed(), Settings(domain="photo", passes="stepwise"), 8 * GIB)
    assert [(step.kind, step.result) for step in decision.planned.plan.passes] == [
        ("network", (192, 224)),
        ("clean", (192, 224)),
        ("network", (384, 448)),
    ]
    result = carry_out(photo, decision)
    assert [(step.kind, step.model) for step in result.passes][:3] == [
        ("network", "natural-x2.safetensors"),
        ("clean", None),
        ("network", "natural-x2.safetensors"),
    ]


def test_stepwise_without_a_doubling_network_is_said_to_be_one_pass(installed, photo):
    wanted = Settings(domain="photo", passes="stepwise")
    decision = decide(photo, installed(RealESRGAN_x4plus=4), wanted, 8 * GIB)
    assert [step.kind for step in decision.planned.plan.passes] == ["network"]
    assert any("no x2 network" in reason for reason in decision.reasons)


def test_networks_of_luma_alone_get_luma_and_that_is_said(installed, photo):
    decision = decide(photo, installed(), Settings(domain="photo", channels="rgb"), 8 * GIB)
    assert decision.recipe.channels == "luma"
    assert any("enlarges luma only" in reason for reason in decision.reasons)


def test_cleaning_that_would_move_colours_is_undone(order, photo, monkeypatch):
    monkeypatch.setattr("fidelity.session.clean", lambda image, *_, **__: image * 0.8)
    decision = order(photo, cleanup="bilateral")
    result = carry_out(photo, decision)
    assert result.color_drift.mean < 0.3
    assert "was undone" in result.notes[0]


def test_passes_give_what_upscale_gives_and_refuse_another_size(order, photo):
    decision = order(photo, Target(scale=3))
    drawn = run_passes(photo, decision)
    assert drawn.reference is photo
    assert torch.equal(drawn.image, upscale(photo, decision.planned.models, (288, 336), decision.recipe.channels).image)
    with pytest.raises(ValueError, match="the image is 50x50 px, the plan is for 112x96 px"):
        run_passes(photo[:, :, :50, :50], decision)
    with pytest.raises(ValueError, match="wanted a settled recipe"):
        run_passes(photo, replace(decision, recipe=replace(decision.recipe, channels="auto")))


def test_memory_that_does_not_suffice_is_refused_before_any_work(installed, photo):
    with pytest.raises(ValueError, match="60000x51429 px needs about"):
        decide(photo, installed(), Settings(Target(long_edge=60_000)), 8 * GIB)


def test_the_stairs_of_a_gradient_are_evened_out_before_it_is_enlarged():
    ramp = torch.linspace(0.3, 0.45, 256).expand(1, 3, 128, 256)
    stairs = (ramp * 64).round() / 64
    results = {}
    for deband in ("auto", "off"):
        decision = decide(
            stairs, ModelChooser("auto", {}), Settings(Target(scale=2), "photo", deband=deband, restore="off"), 2**33
        )
        results[deband] = carry_out(stairs, decision)
        assert [step.kind for step in decision.planned.plan.passes][:1] == ["deband" if deband == "auto" else "network"]
    assert results["auto"].passes[0].kind == "deband"
    truth = torch.linspace(0.3, 0.45, 512).expand(1, 3, 256, 512)
    errors = {name: (made.image - truth)[..., 40:-40].abs().mean() for name, made in results.items()}
    assert errors["auto"] < 0.7 * errors["off"]


@pytest.mark.parametrize("picture", ["color", "grey", "alpha", "noisy", "noisy alpha", "banded", "drifting", "grainy"])
def test_a_result_in_files_is_the_one_in_memory(order, photo, tmp_path, picture):
    """What goes through temporary files differs from what stays in memory by less than a quarter of an 8-bit step."""
    image, limits = photo, None
    if picture == "grey":
        image = photo.mean(dim=1, keepdim=True).repeat(1, 3, 1, 1)
    elif picture == "alpha":
        alpha = torch.linspace(0, 1, photo.shape[3]).expand_as(photo[:, :1])
        image = torch.cat((photo, alpha), dim=1)
    elif picture in ("noisy", "grainy"):
        image = noisy(photo)
    elif picture == "noisy alpha":
        image = torch.cat((noisy(photo), torch.linspace(0, 1, 240).expand(1, 1, 200, 240)), dim=1)
    elif picture == "banded":
        image = (photo * 64).round() / 64
    elif picture == "drifting":
        limits = GateLimits(0.02, 0.1)
    changes = {"color": {"cleanup": "bilateral"}, "banded": {"cleanup": "off", "deband": "on", "restore": "off"}}
    changes["grainy"] = {"cleanup": "off", "grain": "keep"}
    decision = order(image, Target(scale=3), limits, **changes.get(picture, {"cleanup": "off"}))
    whole, filed = carry_out(image, decision), carry_out(image, decision, scratch=tmp_path)
    assert (filed.image - whole.image).abs().max() < 1 / 1024
    first = {"noisy": "restore", "noisy alpha": "restore", "banded": "deband"}.get(picture, whole.passes[0].kind)
    assert [step.kind for step in filed.passes] == [step.kind for step in whole.passes]
    assert filed.passes[0].kind == first
    assert filed.color_drift.mean == pytest.approx(whole.color_drift.mean, abs=0.01)
    assert filed.sharpness_ratio == pytest.approx(whole.sharpness_ratio, abs=0.01)
    assert filed.gate.action == whole.gate.action == ("blend" if picture == "drifting" else "pass")
    del filed
    assert not list(tmp_path.iterdir())


def test_a_plan_goes_to_files_only_when_memory_is_short_and_a_file_is_the_goal(installed, photo):
    def plan(memory, writer):
        settings = Settings(Target(size=(12000, 15000)), "photo", restore="off")
        return decide(photo, installed(), settings, memory, writer_bytes_per_pixel=writer).planned.plan

    assert not plan(64 * GIB, 0.0).in_files
    short = plan(2 * GIB, 0.0)
    assert short.in_files
    assert short.peak_bytes < 2 * GIB < short.scratch_bytes + 2 * GIB
    assert short.scratch_bytes > 6 * 12000 * 15000
    with pytest.raises(RefusedError, match="wanted at most about"):
        plan(GIB, None)
    with pytest.raises(RefusedError, match="wanted at least that much memory"):
        plan(2 * GIB, 1000.0)


@pytest.mark.parametrize(("name", "takes_damage"), [("RealESRGAN_x4plus", True), ("4x-AnimeSharp", False)])
def test_a_network_that_restores_on_its_own_gets_the_source_as_it_is(installed, photo, name, takes_damage):
    image = noisy(photo)
    decision = decide(image, installed(**{name: 4}), Settings(Target(scale=4), "photo", model="auto"), 8 * GIB)
    raw = run_passes(image, decision)
    assert decision.planned.restorer
    assert not torch.equal(raw.reference, image)
    given = image if takes_damage else raw.reference
    expected = upscale(given, decision.planned.models, channels=decision.recipe.channels).image
    assert torch.allclose(raw.image, expected, atol=1e-5)
    assert any("restores on its own" in reason for reason in decision.reasons) == takes_damage


def test_grain_that_restoration_removed_is_added_back(photo):
    """What the result has lost of its source, at the source's own size, comes back in strength; on auto, noise stays out."""
    image = noisy(resize(photo, (200, 240)).clamp(0.1, 0.9), 8)
    made = {}
    for grain in ("off", "auto", "keep"):
        session = Session(Settings(Target(scale=2), "photo", grain=grain, restore="denoise", restore_strength=1.0))
        made[grain] = session.run(image)
    lost = {name: (image - resize(one.image, (200, 240))).square().mean().sqrt().item() for name, one in made.items()}
    fine = {name: one.image.diff(dim=3).square().mean().item() for name, one in made.items()}
    assert torch.equal(made["auto"].image, made["off"].image)
    assert not made["auto"].notes
    assert [step.kind for step in made["keep"].passes].count("grain") == 1
    assert any("added back: chosen by the user" in note for note in made["keep"].notes)
    assert fine["keep"] > 1.5 * fine["off"]
    assert lost["off"] > 5 / 255
    assert made["keep"].color_drift.mean < made["off"].color_drift.mean


def test_a_clean_source_needs_no_division_of_restoration(installed, photo):
    chooser = installed(RealESRGAN_x4plus=4)
    decision = decide(
        resize(photo, (200, 240)).clamp(0, 1), chooser, Settings(Target(scale=4), "photo", restore="off"), 8 * GIB
    )
    assert not decision.planned.takes_damage


def test_a_dithered_picture_keeps_its_tones():
    place = torch.arange(64)
    threshold = torch.tensor([[0, 8, 2, 10], [12, 4, 14, 6], [3, 11, 1, 9], [15, 7, 13, 5]]).repeat(16, 16) / 16
    tone = (0.25 + 0.5 * place / 63).expand(64, 64)
    image = (tone > threshold).float().expand(1, 3, -1, -1).contiguous()
    made = Session(Settings(Target(scale=2), "photo"), models={}).run(image).image
    wide = torch.nn.functional.avg_pool2d(made, 32)
    assert (wide - torch.nn.functional.avg_pool2d(image, 16)).abs().max() < 0.03
