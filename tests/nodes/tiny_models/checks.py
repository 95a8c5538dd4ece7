"""Checks of the diffusion nodes, run in the host's process; each raises where something is wrong, and tells what it saw."""

import sys

import comfy.controlnet
import comfy.k_diffusion.sampling
import comfy.latent_formats
import comfy.ldm.supir.supir_patch
import comfy.model_sampling
import comfy.sample
import comfy.samplers
import torch
from torch import nn
from torch.nn import functional

from .models import CONTEXT, conditioning, controlnet, seedvr2, tiny_clip, unet, vae


def pack(name):
    """A module of the pack, as the host loaded it."""
    return next(module for key, module in sys.modules.items() if key.endswith(f"fidelity-upscale.{name}"))


def denoiser(tile=64, overlap=16, blend="gaussian"):
    return pack("nodes.diffusion.denoise").TiledDenoiser(tile * 8, overlap * 8, blend)


def picture(*shape, seed=0):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


def sample(model, latent, positive=None, negative=None, steps=2, cfg=3.0, seed=7, denoise=0.6, sampler="euler", noisy=True):
    positive = positive or conditioning(seed=1)
    negative = negative or conditioning(seed=2)
    noise = comfy.sample.prepare_noise(latent, seed) if noisy else torch.zeros_like(latent)
    return comfy.sample.sample(
        model,
        noise,
        steps,
        cfg,
        sampler,
        "normal",
        positive,
        negative,
        latent,
        denoise=denoise,
        disable_pbar=True,
        seed=seed,
    )


def latent_of(height=100, width=84, batch=1, channels=4):
    return picture(batch, channels, height, width) - 0.5


def close(first, second, tolerance=1e-4):
    distance = (first - second).abs().max().item()
    assert distance <= tolerance, f"differs by {distance:g}"
    return distance


class Pointwise(nn.Module):
    """A translation-equivariant network: every place by itself, by its text too."""

    def forward(self, latent, timesteps, context=None, control=None, transformer_options=None, y=None, **_others):
        result = torch.tanh(latent[:, :4] * 1.5) * (1 + context.mean(dim=(1, 2)).reshape(-1, 1, 1, 1))
        if latent.shape[1] > 4:
            result = result + latent[:, 4:].mean(dim=1, keepdim=True)
        for part in (control or {}).get("output", ()):
            result = result + part
        return result


class EchoControl(nn.Module):
    """A ControlNet that gives its hint back, eight pixels to a sample, or a latent hint as it is."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def forward(self, x, hint, timesteps, context, **_others):
        self.seen.append(hint.clone())
        small = functional.avg_pool2d(hint, hint.shape[-1] // x.shape[-1]) if hint.shape[-1] > x.shape[-1] else hint
        return {"output": [small.mean(dim=1, keepdim=True).repeat(1, 4, 1, 1)], "input": [], "middle": []}


def hinted(positive, negative, hint, strength=1.0, control=None, span=(0.0, 1.0)):
    """Positive and negative with a control, by the host's own node."""
    import nodes

    control = control or controlnet(network=EchoControl())
    return nodes.ControlNetApplyAdvanced().apply_controlnet(positive, negative, control, hint.movedim(1, -1), strength, *span)


def compare(model, latent, positive, negative, tile=40, overlap=16, blend="gaussian", tolerance=1e-4):
    """Sampled whole and in tiles."""
    whole = sample(model, latent, positive, negative)
    tiled = sample(denoiser(tile, overlap, blend).patch(model), latent, positive, negative)
    assert whole.isfinite().all()
    return close(whole, tiled, tolerance)


def check_an_image_of_one_tile_is_the_same_to_the_bit():
    for kind in ("sd15", "sdxl"):
        model, latent = unet(kind), latent_of(40, 48)
        texts = conditioning(kind, 1), conditioning(kind, 2)
        assert torch.equal(sample(model, latent, *texts), sample(denoiser(64).patch(model), latent, *texts)), kind


def check_a_translation_equivariant_network_gives_the_untiled_result_for_any_tiling():
    model = unet(network=Pointwise())
    worst = 0.0
    for tile, overlap, blend, size, batch in (
        (40, 16, "gaussian", (100, 84), 1),
        (32, 0, "mean", (99, 85), 1),
        (48, 24, "gaussian", (97, 131), 2),
        (64, 8, "mean", (65, 64), 2),
    ):
        latent = latent_of(*size, batch=batch)
        worst = max(worst, compare(model, latent, conditioning(seed=1), conditioning(seed=2), tile, overlap, blend))
    return worst


def check_batched_tiles_give_the_same_as_single_ones():
    host = pack("nodes.host")
    model, latent = unet(network=Pointwise()), latent_of(100, 84, batch=2)
    texts = hinted(conditioning(seed=1, batch=2), conditioning(seed=2), picture(2, 3, 500, 420))
    before, host.count_tiles = host.count_tiles, lambda _model, _shape, _device, most: min(3, most)
    try:
        return compare(model, latent, *texts)
    finally:
        host.count_tiles = before


def check_hints_of_every_kind_are_cut_with_their_tile():
    model, latent = unet(network=Pointwise()), latent_of()
    for hint in (picture(1, 3, 800, 672), picture(1, 3, 333, 280)):
        texts = hinted(conditioning(seed=1), conditioning(seed=2), hint)
        assert compare(model, latent, *texts) >= 0
        plain = sample(model, latent, conditioning(seed=1), conditioning(seed=2))
        assert (sample(model, latent, *texts) - plain).abs().max() > 0.01, "the hint has no effect"


def check_chained_controls_with_ranges_and_strengths_are_cut():
    model, latent = unet(network=Pointwise()), latent_of()
    texts = hinted(conditioning(seed=1), conditioning(seed=2), picture(1, 3, 800, 672), 0.7, span=(0.0, 0.9))
    texts = hinted(*texts, picture(1, 3, 400, 336, seed=5), 0.3, span=(0.5, 1.0))
    return compare(model, latent, *texts)


class Encoder:
    """A VAE that averages, and counts how often it does."""

    def __init__(self):
        self.calls = 0

    def spacial_compression_encode(self):
        return 8

    def encode(self, pixels):
        self.calls += 1
        return functional.avg_pool2d(pixels.movedim(-1, 1), 8)


def latent_hinted(encoder, start=0.0):
    """Positive and negative with a control that sees latents."""
    import nodes

    control = controlnet(network=EchoControl(), compression_ratio=1, latent_format=comfy.latent_formats.LatentFormat())
    pair = conditioning(seed=1), conditioning(seed=2)
    return nodes.ControlNetApplyAdvanced().apply_controlnet(
        *pair, control, picture(1, 800, 672, 3), 1.0, start, 1.0, vae=encoder
    )


def check_latent_hints_are_cut():
    model, latent = unet(network=Pointwise()), latent_of()
    encoder = Encoder()
    worst = compare(model, latent, *latent_hinted(encoder))
    assert encoder.calls == 1 + 16, f"{encoder.calls} encodings: of the whole, and of each tile once"
    return worst


def check_latent_hints_that_begin_late_are_cut():
    model, latent = unet(network=Pointwise()), latent_of()
    texts = latent_hinted(Encoder(), start=0.8)
    late = sample(model, latent, *texts, steps=4)
    assert (late - sample(model, latent, steps=4)).abs().max() > 0.01, "the hint has no effect"
    return close(late, sample(denoiser(40, 16).patch(model), latent, *texts, steps=4))


def check_latent_hints_whose_strength_follows_the_noise_are_cut():
    model, latent, encoder = unet(network=Pointwise()), latent_of(), Encoder()
    texts = latent_hinted(encoder)
    whole = sample(guided(model, latent, fidelity=0.0, control=(0.5, 0.5)), latent, *texts)
    before = encoder.calls
    tiled = guided(denoiser(40, 16).patch(model), latent, fidelity=0.0, control=(0.5, 0.5))
    worst = close(whole, sample(tiled, latent, *texts))
    assert encoder.calls - before == 16, encoder.calls - before
    return worst


def check_masks_and_areas_count_where_they_lie():
    model, latent = unet(network=Pointwise()), latent_of()
    mask = torch.zeros(1, 100, 84)
    mask[:, 20:70, 10:60] = 0.8
    everywhere, other = conditioning(seed=1), conditioning(seed=9)
    masked = [*everywhere, [other[0][0], {"mask": mask, "mask_strength": 0.5, "set_area_to_bounds": False}]]
    worst = compare(model, latent, masked, conditioning(seed=2))
    placed = [*everywhere, [other[0][0], {"area": (40, 30, 48, 30), "strength": 0.7, "set_area_to_bounds": False}]]
    worst = max(worst, compare(model, latent, placed, conditioning(seed=2)))
    both = [*everywhere, [other[0][0], {"area": (60, 50, 8, 30), "mask": mask, "strength": 1.0, "set_area_to_bounds": False}]]
    return max(worst, compare(model, latent, both, conditioning(seed=2)))


def check_inpainting_channels_are_cut():
    model, latent = unet(network=Pointwise(), in_channels=9), latent_of()
    mask = (picture(1, 1, 800, 672) > 0.5).float()
    given = {"concat_latent_image": latent_of(), "concat_mask": mask}
    worst = compare(model, latent, conditioning(seed=1, **given), conditioning(seed=2, **given))
    inverted = {"concat_latent_image": latent_of(), "concat_mask": 1 - mask}
    first = sample(model, latent, conditioning(seed=1, **given), conditioning(seed=2, **given))
    second = sample(model, latent, conditioning(seed=1, **inverted), conditioning(seed=2, **inverted))
    assert (first - second).abs().max() > 0.01, "the mask has no effect"
    return worst


def check_gligen_is_refused():
    text = conditioning(seed=1, gligen=("position", None, []))
    try:
        denoiser()._conditioning.cut([[{**text[0][1], "model_conds": {}}]], [], latent_of())
    except ValueError as error:
        assert "GLIGEN" in str(error)
        return error
    raise AssertionError("nothing was refused")


class Adapter(nn.Module):
    """Adds the control's mean in the middle, and joins in place of the host where blocks are joined."""

    def forward(self, control, hidden, before=None, control_scale=1.0):
        if before is not None:
            return torch.cat((before, hidden), dim=1)
        small = functional.adaptive_avg_pool2d(control.mean(dim=1, keepdim=True), hidden.shape[-2:])
        return hidden + control_scale * small


class SupirControl(nn.Module):
    """Gives the hint as every feature, and keeps what it was given."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def control_model(self, hint, timesteps, latent, context, y):
        self.seen.append((hint.clone(), latent.clone()))
        return [hint] * 12


def supir(model, hint):
    patched = model.clone()
    control = SupirControl()
    holder = type("Holder", (), {"model": control})()
    patch = comfy.ldm.supir.supir_patch.SUPIRPatch(holder, nn.ModuleList([Adapter() for _ in range(12)]), hint, 1.0, 1.0)
    patch.register(patched)
    patched.model_options["transformer_options"]["patches"].pop("forward_timestep_embed_patch")
    return patched, control, patch


def check_supirs_hint_is_cut_with_the_latent_and_its_own_stays_whole():
    texts = conditioning("sdxl", 1), conditioning("sdxl", 2)
    latent = latent_of(96, 80)
    hint = picture(1, 4, 96, 80, seed=4)
    patched, control, patch = supir(unet("sdxl"), hint)
    sample(denoiser(48, 16).patch(patched), latent, *texts, steps=1)
    windows = [hint[..., top : top + 48, left : left + 48] for top in (0, 24, 48) for left in (0, 32)]
    seen = [given for given, _ in control.seen]
    assert len(seen) == len(windows), len(seen)
    for given, window in zip(seen, windows, strict=True):
        assert all(torch.equal(one, window[0]) for one in given), "a hint is not its tile's"
    assert torch.equal(patch.hint_latent, hint)
    assert patch.cached_features is None, "the shared patch was used"


def check_supir_of_another_size_is_refused():
    patched, _, _ = supir(unet("sdxl"), picture(1, 4, 50, 50))
    try:
        sample(denoiser(48, 16).patch(patched), latent_of(96, 80), conditioning("sdxl", 1), conditioning("sdxl", 2))
    except ValueError as error:
        assert "SUPIR's image is 50x50 latent samples, the sampled latent 80x96" in str(error), error
        return error
    raise AssertionError("nothing was refused")


def check_sdxl_is_told_the_size_of_its_tile_unless_a_node_said_otherwise():
    seen = []

    class Listener(Pointwise):
        def forward(self, latent, timesteps, y=None, **options):
            seen.append(y.clone())
            return super().forward(latent, timesteps, **options)

    model, latent = unet("sdxl", network=Listener()), latent_of(100, 84)
    texts = conditioning("sdxl", 1), conditioning("sdxl", 2)
    whole = sample(model, latent_of(40, 48), *texts, steps=1)
    assert whole.isfinite().all()
    expected = seen[-1]
    seen.clear()
    tiled = denoiser(40, 16)
    made = tiled.patch(model)
    sample(made, latent_of(40, 100), *texts, steps=1)  # tiles of 40 x 40
    told_tile = seen[-1]
    seen.clear()
    sample(model, latent_of(40, 40), *texts, steps=1)
    assert torch.equal(told_tile, seen[-1]), "a tile is not told its own size"
    assert not torch.equal(told_tile, expected)
    seen.clear()
    own = conditioning("sdxl", 1, width=4096, height=4096, crop_w=0, crop_h=0, target_width=4096, target_height=4096)
    sample(made, latent, own, texts[1], steps=1)
    told = seen[-1]
    seen.clear()
    sample(model, latent, own, texts[1], steps=1)
    assert torch.equal(told[:1], seen[-1][:1]) or torch.equal(told[1:], seen[-1][1:]), "what a node said was changed"


def check_whatever_a_guider_calls_its_conds_they_are_told_the_size_of_the_tile():
    import comfy_extras.nodes_custom_sampler as custom

    seen = []

    class Listener(Pointwise):
        def forward(self, latent, timesteps, y=None, **options):
            seen.extend(one[1280:] for one in y)
            return super().forward(latent, timesteps, **options)

    def told(patched, latent):
        seen.clear()
        guider = custom.Guider_DualCFG(patched)
        guider.set_conds(*(conditioning("sdxl", seed) for seed in (1, 2, 3)))
        guider.set_cfg(3.0, 2.0)
        sigmas = comfy.samplers.calculate_sigmas(patched.get_model_object("model_sampling"), "normal", 1)
        guider.sample(latent * 0, latent, comfy.samplers.sampler_object("euler"), sigmas)
        return list(seen)

    model = unet("sdxl", network=Listener())
    alone, whole = told(model, latent_of(40, 40)), told(model, latent_of(40, 100))
    in_tiles = told(denoiser(40, 16).patch(model), latent_of(40, 100))
    assert len(in_tiles) >= 9 and not torch.equal(whole[0], alone[0])
    assert all(torch.equal(one, alone[0]) for one in in_tiles), "one of the conds was told another size"


def check_the_refiners_negative_stays_the_negative_in_any_order():
    import comfy.conds
    import comfy.model_base

    host = pack("nodes.host")
    refiner = object.__new__(comfy.model_base.SDXLRefiner)
    refiner.__dict__["latent_format"] = comfy.latent_formats.SDXL()
    refiner.__dict__["encode_adm"] = lambda **told: torch.tensor(
        [[told["height"], told["width"], 2.5 if told["prompt_type"] == "negative" else 6.0]]
    )
    conds = [[{"model_conds": {"y": comfy.conds.CONDRegular(torch.tensor([[800.0, 320.0, score]]))}}] for score in (2.5, 6.0)]
    own = [{"model_conds": {"y": comfy.conds.CONDRegular(torch.tensor([[800.0, 320.0, 4.0]]))}}]
    fitted = host.fit_size_conditioning(refiner, [*conds, None, own], (100, 40), (40, 32))
    told = [group and group[0]["model_conds"]["y"].cond[0].tolist() for group in fitted]
    assert told == [[320, 256, 2.5], [320, 256, 6.0], None, [800, 320, 4.0]], told


def check_references_of_the_latents_size_are_cut_and_others_are_seen_whole():
    import comfy.conds

    latent, other = latent_of(100, 84, batch=2), latent_of(40, 30)
    same = latent_of(100, 84)
    windows = [pack("nodes.diffusion.conditioning").Window(*place) for place in ((0, 40, 0, 40), (60, 100, 44, 84))]
    cond = {"model_conds": {"ref_latents": comfy.conds.CONDList([same, other])}, "uuid": 0}
    ((cut,),) = denoiser()._conditioning.cut([[cond]], windows, latent)
    near, far = cut["model_conds"]["ref_latents"].process_cond(batch_size=4).cond
    assert torch.equal(near, torch.cat([window.cut(same) for window in windows]).repeat_interleave(2, dim=0))
    assert torch.equal(far, other.repeat(4, 1, 1, 1))
    assert torch.equal(cond["model_conds"]["ref_latents"].cond[0], same)


def check_a_cache_that_takes_one_tile_for_another_is_refused():
    from comfy_extras.nodes_easycache import EasyCacheNode, LazyCacheNode

    model, latent = unet(), latent_of()
    lazy = LazyCacheNode.execute(model, 0.2, 0.15, 0.95, False).args[0]
    assert sample(denoiser(48, 16).patch(lazy), latent).isfinite().all()
    easy = EasyCacheNode.execute(model, 0.2, 0.15, 0.95, False).args[0]
    assert sample(denoiser(128).patch(easy), latent).isfinite().all()  # one tile is no trouble
    try:
        sample(denoiser(48, 16).patch(easy), latent)
    except ValueError as error:
        assert "EasyCache" in str(error)
        return error
    raise AssertionError("nothing was refused")


def check_a_styles_features_are_no_image_and_a_rendered_video_is():
    conditioning_of = pack("nodes.diffusion.conditioning")
    window = [conditioning_of.Window(0, 40, 0, 40)]

    def patched(**held):
        owner = type("Patch", (), held)()
        return {"transformer_options": {"patches": {"post_input": [owner]}}}

    style = patched(encoded_image=torch.zeros(1, 729, 64))
    assert conditioning_of.cut_patches(style, window, latent_of().shape)["transformer_options"] == style["transformer_options"]
    for name in ("render_video", "encoded_image"):
        try:
            conditioning_of.cut_patches(patched(**{name: torch.zeros(1, 3, 8, 8)}), window, latent_of().shape)
        except ValueError as error:
            assert "holds the whole image" in str(error)
        else:
            raise AssertionError(f"{name} was let through")


def check_masks_of_a_control_are_cut_with_its_hint():
    control = controlnet(network=EchoControl())
    control.set_cond_hint(picture(1, 3, 800, 672), extra_concat=[picture(1, 1, 800, 672, seed=5)])
    window = pack("nodes.diffusion.conditioning").Window(8, 48, 16, 56)
    cond = {"control": control, "model_conds": {}, "uuid": 0}
    ((cut,),) = denoiser()._conditioning.cut([[cond]], [window], latent_of())
    made = cut["control"]
    assert torch.equal(made.cond_hint_original, control.cond_hint_original[..., 64:384, 128:448])
    assert torch.equal(made.extra_concat_orig[0], picture(1, 1, 800, 672, seed=5)[..., 64:384, 128:448])


def check_tiles_lie_on_the_grid_of_a_transformers_patches():
    host, model = pack("nodes.host"), unet().model
    assert host.latents_per_patch(model) == 1
    network = type("Network", (), {})()
    for patch, width in (((1, 2, 2), 2), (16, 16)):
        network.patch_size = patch
        holder = type("Holder", (), {"diffusion_model": network, "latent_format": model.latent_format})()
        assert host.latents_per_patch(holder) == width
        tile, overlap, align = denoiser(45, 10)._in_latents(holder)
        assert (tile % width, align % width, align % 8) == (0, 0, 0) and overlap <= tile // 2, (tile, overlap, align)


def check_a_tile_that_is_too_small_is_told_as_it_was_made():
    tiles = denoiser(16, 4)
    sample(tiles.patch(unet(network=Pointwise())), latent_of(60, 40))
    assert (tiles.tile_px, tiles.used_px, tiles.overlap_px, tiles.used_overlap_px) == (128, 256, 32, 64)


def guided(model, source, **settings):
    return pack("nodes.diffusion.denoise").RestorationGuidance(source, **settings).patch(model)


def check_guidance_is_its_formula_at_a_step():
    model, latent, source = unet(), latent_of(40, 48), picture(1, 4, 40, 48, seed=3)
    source = model.get_model_object("latent_format").process_out(source)
    plain = sample(model, latent, steps=1, denoise=0.3)  # one Euler step to no noise gives the estimate itself
    sampling = model.get_model_object("model_sampling")
    sigma = comfy.samplers.calculate_sigmas(sampling, "normal", 3)[-2]
    for fidelity, exponent in ((0.5, 4.0), (0.8, 1.0)):
        result = sample(guided(model, source, fidelity=fidelity), latent, steps=1, denoise=0.3)
        weight = (sigma / sampling.sigma_max) ** exponent
        close(result, plain - weight * (plain - source), 1e-3)
        assert (result - plain).abs().max() > 1e-3 or exponent > 1
    low = sample(guided(model, source, fidelity=0.5, from_first_step=True), latent, steps=1, denoise=0.3)
    close(low, source, 1e-3)
    kept = sample(guided(model, source, fidelity=0.0), latent, steps=1)
    assert torch.equal(kept, sample(model, latent, steps=1))
    return weight


def check_guidance_of_another_size_is_refused():
    try:
        sample(guided(unet(), latent_of(8, 8), fidelity=0.5), latent_of(40, 48), steps=1)
    except ValueError as error:
        assert "wanted one size" in str(error)
        return error
    raise AssertionError("nothing was refused")


def check_cfg_follows_the_noise():
    model, latent, source = unet(), latent_of(40, 48), latent_of(40, 48)
    scheduled = sample(guided(model, source, fidelity=0.0, cfg=(7.0, 7.0)), latent, steps=2, cfg=1.0)
    close(scheduled, sample(model, latent, steps=2, cfg=7.0), 1e-4)
    falling = sample(guided(model, source, fidelity=0.0, cfg=(7.0, 3.0)), latent, steps=1, cfg=5.0, denoise=1.0)
    sampling = model.get_model_object("model_sampling")
    share = float(comfy.samplers.calculate_sigmas(sampling, "normal", 1)[0] / sampling.sigma_max)
    close(falling, sample(model, latent, steps=1, cfg=3 + 4 * share, denoise=1.0), 1e-3)


def check_cfg_and_control_fall_with_the_noise_and_what_took_cfgs_place_stays():
    scales, strengths = [], []

    def rescaling(step):
        scales.append(step["cond_scale"])
        return step["uncond"] + (step["cond"] - step["uncond"]) * step["cond_scale"] * 0.5

    def look(executor, model, conds, *others):
        strengths.append(conds[0][0]["control"].strength)
        return executor(model, conds, *others)

    model, latent = unet(network=Pointwise()), latent_of(40, 48)
    texts = hinted(conditioning(seed=1), conditioning(seed=2), picture(1, 3, 320, 384), 0.8)
    model.set_model_sampler_cfg_function(rescaling)
    patched = guided(model, latent, fidelity=0.0, cfg=(7.0, 3.0), control=(1.0, 0.25))
    patched.add_wrapper_with_key("calc_cond_batch", "look", look)
    sample(patched, latent, *texts, steps=4, denoise=1.0)
    sampling = model.get_model_object("model_sampling")
    shares = [float(sigma / sampling.sigma_max) for sigma in comfy.samplers.calculate_sigmas(sampling, "normal", 4)[:4]]
    assert shares[0] > 0.9 and shares[-1] < 0.1, shares
    for share, scale, strength in zip(shares, scales, strengths, strict=True):
        assert abs(scale - (3 + 4 * share)) < 1e-3, (scales, shares)
        assert abs(strength - 0.8 * (0.25 + 0.75 * share)) < 1e-3, (strengths, shares)


def check_control_strength_follows_the_noise_and_the_controls_own_stays():
    model, latent = unet(network=Pointwise()), latent_of(40, 48)
    hint = picture(1, 3, 320, 384)
    texts = hinted(conditioning(seed=1), conditioning(seed=2), hint, 0.8)
    half = sample(guided(model, latent, fidelity=0.0, control=(0.5, 0.5)), latent, *texts)
    expected = sample(model, latent, *hinted(conditioning(seed=1), conditioning(seed=2), hint, 0.4))
    assert texts[0][0][1]["control"].strength == 0.8
    again = sample(guided(model, latent, fidelity=0.0, control=(0.5, 0.5)), latent, *texts)
    assert torch.equal(half, again)
    return close(half, expected)


class Flow(comfy.model_sampling.ModelSamplingDiscreteFlow, comfy.model_sampling.CONST):
    """The schedule of SD3 and FLUX, where signal and noise add up to 1."""


def flowing(model):
    """A model that is taken for one that was trained with flow matching."""
    made = model.clone()
    made.add_object_patch("model_sampling", Flow(model.model.model_config))
    return made


def truncated(model, latent, steps, t_max, t_min, seed=7):
    """What the node's sampler makes of an empty latent, and its sigmas."""
    sampler, sigmas = pack("nodes.diffusion.truncated").FidelityTruncatedSampling.execute(model, steps, t_max, t_min).args
    conds = conditioning(seed=1), conditioning(seed=2)
    noise = comfy.sample.prepare_noise(latent, seed)
    made = comfy.sample.sample_custom(model, noise, 3.0, sampler, sigmas, *conds, latent, disable_pbar=True, seed=seed)
    return made, sigmas


def check_truncated_sampling_is_a_loop_written_by_hand():
    """Estimate from pure noise, noise it again, go down by the posterior of DDPM, written for latents of unit variance."""
    model, latent, seen = unet(network=Pointwise()), torch.zeros(1, 4, 16, 20), []
    model = model.clone()

    def keep(step):
        seen.append((step["denoised"].clone(), step["input"].clone(), float(step["sigma"].flatten()[0])))
        return step["denoised"]

    model.set_model_sampler_post_cfg_function(keep)
    made, sigmas = truncated(model, latent, 5, 0.6667, 0.3333)
    sampling = model.get_model_object("model_sampling")
    times = [float(sampling.timestep(sigma)) for sigma in sigmas[:-1]]
    assert len(seen) == 5 and [round(time / 999, 2) for time in times] == [1.0, 0.67, 0.56, 0.44, 0.33], times
    draw = comfy.k_diffusion.sampling.default_noise_sampler(latent, seed=7)
    alphas = [1 / (1 + float(sigma) ** 2) for sigma in sigmas[:-1]]  # cumulative products of DDPM's alphas
    for index in range(4):
        estimate, given, _ = seen[index]
        now, then = alphas[index], alphas[index + 1]
        noise = draw(sigmas[index], sigmas[index + 1])
        if index == 0:
            expected = then**0.5 * estimate + (1 - then) ** 0.5 * noise
        else:
            alpha = now / then
            scaled = given * now**0.5  # the host's latents hold the clean one in full
            mean = (then**0.5 * (1 - alpha) * estimate + alpha**0.5 * (1 - then) * scaled) / (1 - now)
            expected = mean + ((1 - then) / (1 - now) * (1 - alpha)) ** 0.5 * noise
        close(seen[index + 1][1] * then**0.5, expected, 1e-4)
    close(made, model.get_model_object("latent_format").process_out(seen[-1][0]), 1e-4)


def check_truncated_sampling_of_everything_is_ancestral_sampling():
    latent, model = torch.zeros(1, 4, 16, 20), unet(network=Pointwise())
    made, sigmas = truncated(model, latent, 6, 1.0, 0.0)
    conds = conditioning(seed=1), conditioning(seed=2)
    sampler = comfy.samplers.ksampler("euler_ancestral")
    noise = comfy.sample.prepare_noise(latent, 7)
    plain = comfy.sample.sample_custom(model, noise, 3.0, sampler, sigmas, *conds, latent, disable_pbar=True, seed=7)
    close(made, plain, 2e-3)


def check_truncated_sampling_of_a_flow_model_keeps_signal_and_noise_at_one():
    """The clean latent shrinks as the noise grows, so an estimate that is always the same is reached, and no more."""
    model, latent, seen = flowing(unet(network=Pointwise())), torch.zeros(1, 4, 16, 20), []
    constant = picture(1, 4, 16, 20) - 0.5

    def keep(step):
        seen.append((step["input"].clone(), float(step["sigma"].flatten()[0])))
        return constant

    model.set_model_sampler_post_cfg_function(keep)
    made, _ = truncated(model, latent, 6, 0.8, 0.2)
    close(made, model.get_model_object("latent_format").process_out(constant))
    for given, sigma in seen[1:]:
        spread = (given - (1 - sigma) * constant).std().item()
        assert abs(spread / sigma - 1) < 0.1, (sigma, spread)


def check_truncated_sampling_repeats_by_its_seed_and_one_step_is_the_first_estimate():
    model, latent = unet(), torch.zeros(1, 4, 16, 20)
    first, _ = truncated(model, latent, 4, 0.6667, 0.0)
    assert torch.equal(first, truncated(model, latent, 4, 0.6667, 0.0)[0])
    assert not torch.equal(first, truncated(model, latent, 4, 0.6667, 0.0, seed=8)[0])
    one, sigmas = truncated(model, latent, 1, 0.6667, 0.3333)
    assert len(sigmas) == 2 and not torch.equal(one, first)


def check_truncated_sampling_works_in_tiles_and_under_guidance():
    latent = latent_of(64, 48)
    guided = (
        pack("nodes.diffusion.denoise").RestorationGuidance(latent, 0.5).patch(denoiser(32, 8).patch(unet(network=Pointwise())))
    )
    whole = pack("nodes.diffusion.denoise").RestorationGuidance(latent, 0.5).patch(unet(network=Pointwise()))
    made, plain = (truncated(model, torch.zeros_like(latent), 4, 0.6667, 0.0)[0] for model in (guided, whole))
    close(made, plain)


def check_truncated_sampling_refuses_times_out_of_order():
    for times in ((0.3, 0.6), (0.5, 0.5), (1.2, 0.0)):
        try:
            truncated(unet(), torch.zeros(1, 4, 16, 16), 4, *times)
        except ValueError as error:
            assert "wanted 0 <= t_min < t_max <= 1" in str(error)
        else:
            raise AssertionError(f"{times} are taken")


def check_seeds_reproduce():
    model, latent = denoiser(40, 16).patch(unet()), latent_of()
    first, second, other = (sample(model, latent, seed=seed) for seed in (7, 7, 8))
    assert torch.equal(first, second)
    assert not torch.equal(first, other)


def check_real_networks_run_in_tiles_at_odd_sizes_and_in_batches():
    for kind in ("sd15", "sdxl"):
        texts = hinted(conditioning(kind, 1), conditioning(kind, 2), picture(1, 3, 400, 333), control=controlnet(kind))
        for size, batch in (((101, 77), 1), ((64, 90), 2)):
            latent = latent_of(*size, batch=batch)
            made = sample(denoiser(48, 16).patch(unet(kind)), latent, *texts)
            assert made.shape == latent.shape and made.isfinite().all(), (kind, size)


def check_nothing_stays_behind():
    model, latent = unet(), latent_of()
    before = sample(model, latent)
    tiles = denoiser(40, 16)
    texts = latent_hinted(Encoder())
    guidance = pack("nodes.diffusion.denoise").RestorationGuidance(latent, 0.4, control=(1.0, 0.5))
    seen = []

    def look(executor, *arguments):
        seen.append((len(tiles._conditioning._hints), len(tiles._conditioning._encoded), len(guidance._scaled._copies)))
        return executor(*arguments)

    stand_in = unet(network=Pointwise())
    patched = guidance.patch(tiles.patch(stand_in))
    patched.add_wrapper_with_key("calc_cond_batch", "look", look)
    sample(patched, latent, *texts)
    assert min(max(column) for column in zip(*seen, strict=True)) > 0, seen
    assert torch.equal(sample(model, latent), before)
    assert not model.wrappers.get("calc_cond_batch") and not model.model_options.get("sampler_post_cfg_function")
    assert not tiles._conditioning._hints and not tiles._conditioning._encoded and not guidance._scaled._copies
    assert texts[0][0][1]["control"].cond_hint is None

    def stop(_executor, *_arguments):
        raise comfy.model_management.InterruptProcessingException

    seen.clear()
    patched.add_wrapper_with_key("apply_model", "stop", stop)  # after the first tile is cut
    try:
        sample(patched, latent, *texts)
    except comfy.model_management.InterruptProcessingException:
        assert not tiles._conditioning._hints and not tiles._conditioning._encoded and not guidance._scaled._copies
        assert torch.equal(sample(model, latent), before)
        return
    raise AssertionError("it was not stopped")


def check_running_out_of_memory_shrinks_the_batch_then_the_tile():
    host, most, calls = pack("nodes.host"), [2], []
    model, latent = unet(network=Pointwise()), latent_of(100, 84)
    whole = sample(model, latent)

    def scarce(executor, inner, conds, tiles, *others):
        calls.append(tuple(tiles.shape))
        if tiles.shape[0] > most[0] or tiles.shape[-1] > most[-1] * 1000:
            raise torch.OutOfMemoryError("no memory for this test")
        return executor(inner, conds, tiles, *others)

    before, host.count_tiles = host.count_tiles, lambda _model, _shape, _device, many: many
    try:
        tiles = denoiser(48, 16)
        patched = tiles.patch(model)
        patched.add_wrapper_with_key("calc_cond_batch", "scarce", scarce)
        close(sample(patched, latent), whole)
        tried = [shape[0] for shape in calls]
        assert tried[0] == 4, f"the peak grows with the image: {tried}"
        assert set(tried[tried.index(2) :]) <= {1, 2}, f"what did not fit is tried again: {tried}"

        def scarcer(executor, inner, conds, tiles, *others):
            if tiles.shape[-1] > 40:
                raise torch.OutOfMemoryError("no memory for this test")
            return executor(inner, conds, tiles, *others)

        tiles = denoiser(80, 16)
        patched = tiles.patch(model)
        patched.add_wrapper_with_key("calc_cond_batch", "scarce", scarcer)
        close(sample(patched, latent), whole)
        assert (tiles.used_px, tiles.tile_px) == (320, 640)
        sample(tiles.patch(model), latent)
        assert tiles.used_px == 640, "the next run begins small"
        tiles = denoiser(128, 32)  # all in one tile, which does not fit
        patched = tiles.patch(model)
        patched.add_wrapper_with_key("calc_cond_batch", "scarce", scarcer)
        close(sample(patched, latent), whole)
        assert tiles.used_px == 256 and tiles.used_overlap_px == 64, tiles.used_px
    finally:
        host.count_tiles = before


def check_other_errors_are_not_hidden():
    def broken(*_):
        raise RuntimeError("something else")

    patched = denoiser(48, 16).patch(unet(network=Pointwise()))
    patched.add_wrapper_with_key("calc_cond_batch", "broken", broken)
    try:
        sample(patched, latent_of(100, 84))
    except RuntimeError as error:
        assert "something else" in str(error)
        return error
    raise AssertionError("an error was hidden")


def check_five_dimensional_latents_are_tiled():
    tiles = denoiser(40, 16)
    model = unet(network=Pointwise()).model
    latent = torch.randn(1, 16, 2, 100, 84, generator=torch.Generator().manual_seed(0))
    seen = []

    def executor(_model, conds, tile, sigma, _options):
        seen.append(tile.shape)
        extra = conds[0][0]["model_conds"]["c_concat"].cond
        return [tile * 2 + extra, torch.zeros_like(tile)]

    import comfy.conds

    extra = torch.randn(1, 1, 2, 100, 84, generator=torch.Generator().manual_seed(1))
    conds = [[{"model_conds": {"c_concat": comfy.conds.CONDNoiseShape(extra)}, "uuid": 0}], None]
    made = tiles(executor, model, conds, latent, torch.ones(1), {})
    close(made[0], latent * 2 + extra)
    assert set(seen) == {(1, 16, 2, 40, 40)}


def check_seedvr2_sees_its_picture_cut_with_the_latent():
    from comfy_extras.nodes_seedvr import SeedVR2Conditioning

    model, latent = seedvr2(), picture(1, 16, 1, 60, 44) - 0.5

    def restored(patched, part, cfg=1.0):
        positive, negative = SeedVR2Conditioning.execute(model, {"samples": part}).args
        noise = noise_of[..., : part.shape[-2], : part.shape[-1]]
        return comfy.sample.sample(
            patched, noise, 1, cfg, "euler", "simple", positive, negative, part, denoise=1.0, disable_pbar=True, seed=1
        )

    noise_of = picture(*latent.shape, seed=4) - 0.5
    assert torch.equal(restored(model, latent, 2.0), restored(denoiser(64).patch(model), latent, 2.0))
    tiled = restored(denoiser(32, 8).patch(model), latent)
    assert tiled.isfinite().all()
    alone = restored(model, latent[..., :32, :32])
    close(tiled[..., :16, :16], alone[..., :16, :16], 2e-3)  # no other tile reaches there
    away = restored(model, (latent + 0.3)[..., :32, :32])
    assert (away - alone).abs().max() > 0.01  # the picture matters


def check_areas_count_in_five_dimensions_too():
    latent = torch.randn(1, 16, 2, 100, 84, generator=torch.Generator().manual_seed(0))
    cond = {"area": (40, 30, 48, 30), "strength": 0.7, "model_conds": {}, "uuid": 0}
    whole = comfy.samplers.get_area_and_mult(cond, latent, torch.ones(1))
    expected = torch.zeros_like(latent)
    expected[..., 48:88, 30:60] = whole.mult
    windows = [pack("nodes.diffusion.conditioning").Window(40, 80, 20, 60)]
    ((cut,),) = denoiser()._conditioning.cut([[cond]], windows, latent)
    tile = windows[0].cut(latent)
    made = comfy.samplers.get_area_and_mult(cut, tile, torch.ones(1)).mult.expand_as(tile)
    return close(made, windows[0].cut(expected))


def check_a_guider_without_a_negative_is_left_alone():
    model, latent = unet(), latent_of(40, 48)
    import comfy_extras.nodes_custom_sampler as custom

    def run(patched):
        guider = custom.Guider_Basic(patched)
        guider.set_conds(conditioning(seed=1))
        sigmas = comfy.samplers.calculate_sigmas(model.get_model_object("model_sampling"), "normal", 2)
        return guider.sample(
            torch.randn(latent.shape, generator=torch.Generator().manual_seed(1)),
            latent,
            comfy.samplers.sampler_object("euler"),
            sigmas,
        )

    return close(run(guided(model, latent, fidelity=0.0, cfg=(7.0, 7.0))), run(model))


def check_an_overlap_of_more_than_half_a_tile_is_refused():
    try:
        denoiser(64, 40).patch(unet())
    except ValueError as error:
        assert "wanted at most half of the tile" in str(error)
        return error
    raise AssertionError("nothing was refused")


def check_the_x4_upscalers_latents_lie_four_pixels_apart():
    import comfy.model_base

    host = pack("nodes.host")
    assert host.pixels_per_latent(object.__new__(comfy.model_base.SD_X4Upscaler)) == 4
    assert host.pixels_per_latent(unet().model) == 8


def check_a_strip_is_halved_when_memory_runs_out():
    def scarce(executor, inner, conds, tiles, *others):
        if tiles.shape[-1] > 64:
            raise torch.OutOfMemoryError("no memory for this test")
        return executor(inner, conds, tiles, *others)

    model, latent, tiles = unet(network=Pointwise()), latent_of(32, 300), denoiser(128, 16)
    patched = tiles.patch(model)
    patched.add_wrapper_with_key("calc_cond_batch", "scarce", scarce)
    return close(sample(patched, latent), sample(model, latent))


def check_a_batch_is_not_taken_for_a_video():
    class Video:
        latent_dim = 3
        vae_dtype = torch.float32

        def spacial_compression_encode(self):
            return 8

        spacial_compression_decode = spacial_compression_encode

        def encode(self, images):
            assert images.shape[0] == 1, "a batch is one video"
            return functional.avg_pool2d(images.movedim(-1, 1), 8)[:, :, None]

        def decode(self, latents):
            assert latents.shape[0] == 1
            return functional.interpolate(latents[:, :, 0], scale_factor=8).movedim(1, -1)[:, None]

    coding, image = pack("nodes.diffusion.latents"), picture(2, 3, 64, 96)
    latent = coding.encode_image(Video(), image)
    assert latent.shape == (2, 3, 1, 8, 12)
    assert coding.decode_latent(Video(), latent).shape == (2, 3, 64, 96)


def check_memory_is_reserved_for_a_tile():
    asked = []
    made = denoiser(40, 16)
    made.prepare(
        lambda _model, shape, conds, **options: asked.append((tuple(shape), options)), unet(), [2, 4, 100, 84], {}, force=True
    )
    assert asked == [((2, 4, 40, 40), {"force": True})], asked


def steps_at(image, rows, columns):
    return pack("fidelity.imaging.metrics").seam_energy(image[:, :4], rows, columns)


def check_seams_are_those_of_no_tiles_and_far_below_tile_by_tile_sampling():
    """Both against the untiled result of the same random network, whose difference shows nothing but the tiling."""
    model = unet()
    latent = functional.interpolate(latent_of(12, 12), (96, 96), mode="bicubic")
    settings = {"steps": 4, "denoise": 0.5, "noisy": False}  # noise of its own in every tile would hide its border
    whole = sample(model, latent, **settings)
    tiled = sample(denoiser(48, 16).patch(model), latent, **settings)
    pasted = latent.clone()
    for top in range(0, 96, 32):
        for left in range(0, 96, 32):  # one tile after another with some context, pasted, as Ultimate SD Upscale does
            rows, columns = slice(max(0, top - 8), top + 40), slice(max(0, left - 8), left + 40)
            made = sample(model, pasted[..., rows, columns], **settings)
            inner = made[..., top - rows.start :, left - columns.start :][..., :32, :32]
            pasted[..., top : top + 32, left : left + 32] = inner
    ours = steps_at(tiled - whole, (24, 48), (24, 48))
    theirs = steps_at(pasted - whole, (32, 64), (32, 64))
    assert ours < 1.3, f"seam energy {ours:.2f}"
    assert theirs > 1.5 * ours, f"{theirs:.2f} tile by tile, {ours:.2f} in tiles"
    return f"in tiles {ours:.2f}, tile by tile {theirs:.2f}, 1 being none"


def spread_of_flat(made, columns):
    """How far what should be one value differs from tile to tile, in standard deviations of the whole."""
    flat = made[..., 4:-4, columns]
    return (flat.std(dim=(2, 3)) / made.std(dim=(2, 3))).mean().item()


def check_a_flat_area_is_the_same_in_every_tile_of_a_decoder():
    """Beside a lively one, which tiles have more or less of: the host's own tiles come out in patches there."""
    coding, coder = pack("nodes.diffusion.latents"), vae()
    latent = torch.full((1, 4, 48, 48), 0.2)
    latent[..., 26:] = picture(1, 4, 48, 22) - 0.5
    ours = coding.decode_latent(coder, latent, tile_px=192, whole=False)
    core = coder.decode_tiled(latent, tile_x=24, tile_y=24, overlap=4).movedim(-1, 1)
    mine, theirs = (spread_of_flat(made, slice(32, 160)) for made in (ours, core))
    told = f"{mine:.3f}, by the host's tiles {theirs:.3f}"
    assert mine < 0.6 * theirs, told
    assert not any(module._forward_hooks for module in coder.first_stage_model.modules())
    assert ours.shape == (1, 3, 384, 384)
    return told


def check_tiles_of_an_encoder_agree_with_the_whole():
    coding, coder = pack("nodes.diffusion.latents"), vae()
    image = functional.interpolate(picture(1, 3, 12, 16), (384, 512), mode="bicubic").clamp(0, 1)
    whole = coding.encode_image(coder, image, whole=True)
    tiled = coding.encode_image(coder, image, tile_px=256, whole=False)
    assert tiled.shape == whole.shape
    correlation = torch.corrcoef(torch.stack((whole.flatten(), tiled.flatten())))[0, 1].item()
    assert correlation > 0.9, correlation
    gain = (tiled.std(dim=(2, 3)) / whole.std(dim=(2, 3))).sub(1).abs().max().item()
    shift = ((tiled - whole).mean(dim=(2, 3)) / whole.std(dim=(2, 3))).abs().max().item()
    assert gain < 0.1 and shift < 0.1, (gain, shift)
    return correlation, gain, shift


def check_a_decoder_that_runs_out_of_memory_is_asked_for_a_smaller_whole():
    """The host goes on in tiles of its own then, whose normalisation is not the whole's."""
    coding, coder = pack("nodes.diffusion.latents"), vae()
    latent, network = picture(1, 4, 100, 100) - 0.5, coder.first_stage_model
    decode, sizes = network.decode, []

    def scarce(part, **options):
        sizes.append(part.shape[-1])
        if len(sizes) == 1:
            decode(part, **options)  # the memory runs out at the end
            raise torch.OutOfMemoryError("no memory for this test")
        return decode(part, **options)

    network.decode = scarce
    try:
        norms = coding._norms_of(network, lambda longest: coder.decode(coding._shrink(latent, longest)), 80)
    finally:
        network.decode = decode
    assert sizes[0] == 80 and sizes[-1] == 40 and len(sizes) > 3, sizes
    with coding.record_norms(network) as expected:
        coder.decode(coding._shrink(latent, 40))
    for norm, (mean, variance) in expected.seen.items():
        close(norms[norm][0], mean)
        close(norms[norm][1], variance)


def check_whether_it_is_coded_in_one_piece_does_not_hang_on_what_else_is_loaded():
    coding, coder, asked = pack("nodes.diffusion.latents"), vae(), []
    host, before = coding.host, coding.host.device_memory
    latent = picture(1, 4, 40, 40) - 0.5
    need = coder.memory_used_decode(tuple(latent.shape), coder.vae_dtype)
    try:
        for total, whole in ((8 * need, True), (2 * need, False)):
            host.device_memory = lambda _device, total=total: total
            coding.decode_latent(coder, latent, tile_px=192, progress=lambda done, all_of: asked.append(all_of))
            assert bool(asked) != whole, (total / need, asked)
    finally:
        host.device_memory = before


def check_small_images_are_coded_in_one_piece():
    coding, coder = pack("nodes.diffusion.latents"), vae()
    image = picture(2, 3, 64, 96)
    latent = coding.encode_image(coder, image)
    assert torch.equal(latent, coder.encode(image.movedim(1, -1)))
    assert torch.equal(coding.decode_latent(coder, latent).movedim(1, -1), coder.decode(latent))


assert CONTEXT


def check_hostile_images():
    from .attack import attack

    return attack()


def check_clip_judges_crops_at_their_own_size():
    node, (clip, vision) = pack("nodes.clip").FidelityClipQuality, tiny_clip()
    image = picture(1, 300, 460, 3)
    quality, report, *_ = node.execute(image, clip, vision).args
    texts = [clip.encode_from_tokens(clip.tokenize(one), return_pooled=True)[1][0] for one in ("Good photo.", "Bad photo.")]
    shares = []
    for top in (0, 76):
        for left in (0, 118, 236):
            crop = image[:, top : top + 224, left : left + 224]
            seen = vision.encode_image(crop)["image_embeds"][0]
            near = torch.stack([functional.cosine_similarity(seen, text, dim=0) for text in texts])
            shares.append((100 * near).softmax(dim=0)[0])
    close(torch.tensor(quality), torch.stack(shares).mean())
    assert '"sharpness"' in report and "CLIP of 2 layers, 32 dimensions" in report
    return quality


def check_a_text_encoder_without_a_projection_is_refused():
    node, (clip, vision) = pack("nodes.clip").FidelityClipQuality, tiny_clip(projects=False)
    try:
        node.execute(picture(1, 64, 64, 3), clip, vision)
    except ValueError as error:
        assert "has no text projection" in str(error)
        return str(error)
    raise AssertionError("was taken")
