"""Tiles, batches, precision, and what happens when memory or numbers run out."""

import pytest
import torch
from spandrel import ImageModelDescriptor, ModelLoader, SizeRequirements

from fidelity.errors import ModelRefusedError
from fidelity.imaging.tiling import plan_tiles
from fidelity.networks import runner as runner_module
from fidelity.networks.backends.torch import TorchNetwork
from fidelity.networks.runner import ModelOutputError, OutOfMemoryError, Runner, estimate_memory

CPU = torch.device("cpu")


def whole(model, image):
    with torch.no_grad():
        return model.descriptor(image)


@pytest.mark.parametrize("tile", [None, 32, 48, 77, 500])
@pytest.mark.parametrize("size", [(1, 1), (40, 33), (130, 201)])
def test_tiled_equals_untiled_where_the_context_covers_the_reach(compact, random_image, size, tile):
    model, image = compact(convolutions=4), random_image(2, 3, *size)
    result, report = Runner(model, CPU).run(image, tile=tile)
    assert (result - whole(model, image)).abs().max() < 1 / 1024
    assert report.seamless


def test_real_tiles_have_no_seams(test_data, random_image):
    from fidelity.networks.loader import load_model

    model, image = load_model(test_data / "models/realesr-animevideov3-x4.safetensors"), random_image(1, 3, 90, 150)
    result, report = Runner(model, CPU).run(image, tile=72)
    assert report.tiles > 4
    assert (result - whole(model, image)).abs().max() < 1 / 1024


def test_tiles_of_a_global_network_are_blended_and_the_report_says_so(faulty, random_image):
    model = faulty(lambda image, result: result + 0 * image.mean())
    image = random_image(1, 3, 150, 150)
    result, report = Runner(model, CPU).run(image, tile=100)
    assert not report.seamless
    assert (result - whole(model, image)).abs().max() < 1e-6


def test_all_tiles_have_one_size_and_none_is_a_sliver(faulty, random_image):
    model = faulty()
    runner = Runner(model, CPU)
    model.descriptor.model.calls.clear()
    runner.run(random_image(1, 3, 101, 233), tile=64)
    shapes = {shape[2:] for shape, _ in model.descriptor.model.calls}
    assert len(shapes) == 1
    assert min(shapes.pop()) >= 32


def test_running_out_of_memory_halves_the_tile_and_goes_on_where_it_failed(faulty, random_image):
    computed = []

    def spoil(image, result):
        if image.shape[2] * image.shape[3] > 40 * 40 and len(computed) >= 2:
            raise torch.OutOfMemoryError("CUDA out of memory")
        computed.append(image.shape[2] * image.shape[3])
        return result

    model, image = faulty(spoil), random_image(1, 3, 100, 220)
    runner = Runner(model, CPU)
    computed.clear()
    result, report = runner.run(image, tile=64)
    assert (result - image.repeat_interleave(2, 2).repeat_interleave(2, 3)).abs().max() < 1e-6
    assert sum(computed) < 1.2 * 100 * 220  # what was done before was not done again
    assert max(report.tile_px) < 40


def test_running_out_with_a_batch_halves_the_batch_first(faulty, random_image, monkeypatch):
    batches = []

    def spoil(image, result):
        batches.append(image.shape[0])
        if image.shape[0] > 2:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory")
        return result

    monkeypatch.setattr(Runner, "_batch", lambda self, part: 8)
    model, image = faulty(spoil), random_image(1, 3, 64, 256)
    runner = Runner(model, CPU)
    batches.clear()
    result, report = runner.run(image, tile=64)
    assert batches[0] > 2
    assert set(batches[1:]) <= {1, 2}
    assert max(report.tile_px) <= 64
    assert min(report.tile_px) > 40
    assert (result - image.repeat_interleave(2, 2).repeat_interleave(2, 3)).abs().max() < 1e-6


def test_running_out_with_blended_tiles_keeps_every_weight_at_one(faulty, random_image):
    calls = []

    def spoil(image, result):
        calls.append(1)
        if len(calls) == 3:
            raise MemoryError
        return result + 0 * image.mean()

    model, image = faulty(spoil), random_image(1, 3, 150, 200)
    runner = Runner(model, CPU)
    calls.clear()
    result, _ = runner.run(image, tile=100)
    assert (result - image.repeat_interleave(2, 2).repeat_interleave(2, 3)).abs().max() < 1e-6


@pytest.mark.parametrize(
    ("blended", "tile", "limit"),
    [
        (False, 34, 900),
        (False, 50, 900),
        (False, 50, 1500),
        (False, 50, 2000),
        (True, 130, 9500),
        (True, 120, 7500),
        (True, 150, 9000),
    ],
)
def test_every_pixel_is_written_however_often_memory_runs_out(faulty, random_image, tile, limit, blended):
    failures = []

    def spoil(image, result):
        if failures and image.shape[2] * image.shape[3] > limit:
            failures.append(tuple(image.shape))
            raise MemoryError
        return result + 0 * image.mean() if blended else result

    model, image = faulty(spoil), random_image(1, 3, 150, 163)
    runner = Runner(model, CPU)
    failures.append("the probe is over")
    out = torch.full((1, 3, 300, 326), torch.nan)
    runner.run(image, out, tile=tile)
    assert len(failures) > 1
    assert (out - image.repeat_interleave(2, 2).repeat_interleave(2, 3)).abs().max() < 1e-6


def test_a_network_on_a_grid_is_tiled_on_its_grid(random_image):
    class Unshuffled(torch.nn.Module):
        """Works on 4x4 blocks, as networks with pixel unshuffle do."""

        def __init__(self):
            super().__init__()
            torch.manual_seed(0)
            self.mix = torch.nn.Conv2d(48, 48, 3, padding=1)

        def forward(self, image):
            blocks = self.mix(torch.nn.functional.pixel_unshuffle(image, 4))
            return image + torch.nn.functional.pixel_shuffle(blocks, 4)

    network = Unshuffled()
    descriptor = ImageModelDescriptor(
        network, network.state_dict(), architecture=ModelLoader().registry.architectures()[0].architecture,
        purpose="Restoration", tags=[], supports_half=True, supports_bfloat16=True, scale=1, input_channels=3,
        output_channels=3, size_requirements=SizeRequirements(multiple_of=4),
    )  # fmt: skip
    model, image = TorchNetwork("unshuffled", descriptor), random_image(1, 3, 151, 163)
    result, report = Runner(model, CPU).run(image, tile=64)
    assert report.tiles > 4
    assert report.seamless
    assert (result - whole(model, image)).abs().max() < 1 / 1024


def test_memory_that_is_never_enough_is_said_with_the_size_and_the_model(faulty, random_image):
    calls = []

    def spoil(image, result):
        calls.append(1)
        if len(calls) > 1:
            raise MemoryError
        return result

    runner = Runner(faulty(spoil), CPU)
    with pytest.raises(OutOfMemoryError, match=r"faulty\.pth: out of memory on cpu even with a tile of \d+x\d+ px"):
        runner.run(random_image(1, 3, 50, 50))


def test_any_other_error_is_passed_on(faulty, random_image):
    calls = []

    def spoil(image, result):
        calls.append(1)
        if len(calls) > 1:
            raise RuntimeError("expected 3 channels")
        return result

    with pytest.raises(RuntimeError, match="expected 3 channels"):
        Runner(faulty(spoil), CPU).run(random_image(1, 3, 8, 8))


def test_output_that_overflows_in_half_is_computed_again_in_full(faulty, random_image):
    model = faulty(lambda image, result: result * torch.nan if image.dtype == torch.float16 else result)
    image = random_image(1, 3, 20, 20)
    result, report = Runner(model, CPU, "fp16").run(image)
    assert report.precision == "fp32"
    assert torch.isfinite(result).all()


def test_output_that_is_not_finite_in_full_is_refused_by_name(faulty, random_image):
    model = faulty(lambda image, result: result / 0)
    with pytest.raises(ModelOutputError, match=r"faulty\.pth: output is not finite, even in fp32"):
        Runner(model, CPU, "bf16").run(random_image(1, 3, 8, 8))


def test_a_stream_that_is_not_finite_is_refused_too(compact, random_image):
    model = compact()
    with torch.no_grad():
        model.descriptor.model.body[0].bias.fill_(torch.inf)
    with pytest.raises(ModelOutputError, match="not finite"):
        Runner(model, CPU).run(random_image(1, 3, 8, 8))


def test_cancelling_stops_within_one_tile(faulty, random_image):
    class Cancelled(Exception):
        pass

    seen = []

    def progress(done, total):
        seen.append((done, total))
        if done == 2:
            raise Cancelled

    model = faulty()
    runner = Runner(model, CPU)
    model.descriptor.model.calls.clear()
    with pytest.raises(Cancelled):
        runner.run(random_image(1, 3, 64, 500), tile=64, progress=progress)
    assert len(model.descriptor.model.calls) == 2
    assert seen[0][1] == seen[1][1] > 4


def test_the_callers_network_is_left_as_it_was(compact, random_image):
    model = compact()
    before = {name: (value.dtype, value.clone()) for name, value in model.descriptor.model.state_dict().items()}
    Runner(model, CPU, "bf16").run(random_image(1, 3, 16, 16))
    for name, value in model.descriptor.model.state_dict().items():
        assert value.dtype == before[name][0]
        assert torch.equal(value, before[name][1])


def test_luma_output_is_the_luma_of_what_the_network_makes_of_grey(compact, random_image):
    model, image = compact(), random_image(1, 1, 20, 30)
    result, _ = Runner(model, CPU, output="luma").run(image)
    expected = whole(model, image.repeat(1, 3, 1, 1))
    weights = torch.tensor([0.299, 0.587, 0.114]).reshape(1, 3, 1, 1)
    assert (result - (expected * weights).sum(1, keepdim=True)).abs().max() < 1e-5


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_half_precision_is_close_to_full(compact, random_image, precision):
    model, image = compact(), random_image(1, 3, 30, 30)
    result, report = Runner(model, CPU, precision).run(image)
    assert report.precision == precision
    assert (result - whole(model, image)).abs().max() < 0.02


def test_a_size_requirement_is_met_for_tiles_and_small_images(test_data, random_image):
    from fidelity.networks.loader import load_model

    model = load_model(test_data / "models/realcugan-up2x-conservative.safetensors")
    for size in ((1, 1), (5, 40), (70, 90)):
        result, _ = Runner(model, CPU).run(random_image(1, 3, *size))
        assert result.shape == (1, 3, 2 * size[0], 2 * size[1])


def test_a_tile_too_small_is_refused(compact, random_image):
    with pytest.raises(ValueError, match="tile is 8 px; wanted at least 32"):
        Runner(compact(), CPU).run(random_image(1, 3, 64, 64), tile=8)


def test_memory_is_estimated_from_the_network_and_the_image(compact):
    narrow, wide = compact(features=16), compact(features=64)
    small = estimate_memory(wide, (100, 100), CPU)
    # Two layers of 64 channels and the image are alive at once, and kernels need 0.3 of that: 100 x 100 x 4 bytes x 131 x 1.3.
    assert small == pytest.approx(6.8e6, rel=0.01)
    assert estimate_memory(wide, (100, 100), CPU, "bf16") == small / 2
    assert estimate_memory(narrow, (100, 100), CPU) < small / 3
    assert estimate_memory(wide, (90_000, 9000), CPU) == estimate_memory(wide, (9000, 9000), CPU) < 8 * small


def test_planned_memory_is_for_the_tiles_that_are_run(faulty):
    runner = Runner(faulty(), CPU)
    (height, width), batch = runner.recommend((500, 300))
    assert estimate_memory(faulty(), (500, 300), CPU, "fp32") == batch * height * width * faulty().peak_bytes_per_pixel
    assert estimate_memory(faulty(), (500, 300), CPU, "fp32", 300) == 300 * 300 * faulty().peak_bytes_per_pixel


def test_a_network_that_cannot_do_half_precision_although_it_is_said_to_runs_in_fp32(faulty, random_image):
    def refuse(image, result):
        if image.dtype != torch.float32:
            raise RuntimeError("expected m1 and m2 to have the same dtype, but got: float != c10::BFloat16")
        return result

    model, image = faulty(refuse), random_image(1, 3, 40, 70)
    result, report = Runner(model, CPU, "bf16").run(image, tile=32)
    assert report.precision == "fp32"
    assert torch.equal(result, whole(faulty(), image))


@pytest.mark.parametrize("error", [RuntimeError("no such\noperation"), IndexError("no such operation")])
def test_a_network_that_fails_in_fp32_is_refused_by_its_name(faulty, random_image, error):
    measured = []

    def refuse(image, result):
        if measured:
            raise error
        return result

    runner = Runner(faulty(refuse), CPU, "fp32")
    measured.append(True)
    with pytest.raises(ModelOutputError, match=r"faulty\.pth: fails when it runs \(\w+Error: no such operation\)"):
        runner.run(random_image(1, 3, 40, 40))
    with pytest.raises(ModelRefusedError, match=r"faulty\.pth: fails when it runs"):
        Runner(faulty(refuse), CPU, "bf16")


@pytest.mark.parametrize("size", [(144, 192), (300, 90), (500, 500)])
def test_on_a_cpu_tiles_are_not_so_small_that_most_is_computed_twice(faulty, monkeypatch, size):
    """Whose context is 24 pixels on every side, with memory for tiles of 60 x 60 in the processor's liking."""
    runner = Runner(faulty(), CPU)
    runner.reach_px = 24
    monkeypatch.setattr(runner_module, "CPU_TENSOR_BYTES", 3600 * runner.network.probe.values_per_pixel / 2 * 4)
    window, _ = runner.recommend(size)
    tiles = plan_tiles(size, window, *runner._overlap(), runner.multiple)
    computed = sum(part.window_size[0] * part.window_size[1] for part in tiles)
    assert computed <= runner_module.CPU_TWICE_SHARE * size[0] * size[1] or len(tiles) == 1
    assert window[0] * window[1] <= runner_module.ROOM_TILE_PX**2
