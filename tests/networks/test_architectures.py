"""Every architecture that people have weights of loads by its state dict and runs: small, freshly initialised, whole, tiled."""

import pytest
import torch
from safetensors.torch import save_file
from spandrel.architectures.DAT import DAT
from spandrel.architectures.ESRGAN import ESRGAN
from spandrel.architectures.HAT import HAT
from spandrel.architectures.PLKSR import RealPLKSR
from spandrel.architectures.RCAN import RCAN
from spandrel.architectures.RealCUGAN import UpCunet3x, UpCunet4x
from spandrel.architectures.SCUNet import SCUNet
from spandrel_extra_arches.architectures.MPRNet import MPRNet
from spandrel_extra_arches.architectures.Restormer import Restormer

from fidelity.errors import ModelRefusedError
from fidelity.imaging.color import rgb_to_luma
from fidelity.imaging.metrics import psnr
from fidelity.networks.architectures.espcn import ESPCN
from fidelity.networks.architectures.ffdnet import FFDNet
from fidelity.networks.architectures.lapsrn import LapSRN
from fidelity.networks.architectures.waifu2x import VGG7, CUNet
from fidelity.networks.backends.compact import COMPACT
from fidelity.networks.compute import Compute
from fidelity.networks.loader import load_model
from fidelity.networks.runner import Runner
from fidelity.steps.upscale import upscale
from tools.attack.models import NETWORKS as SMALL

NETWORKS = {
    "RCAN": lambda: RCAN(scale=2, n_resgroups=2, n_resblocks=2, n_feats=16),
    "SwinIR": SMALL["SwinIR"],
    "HAT": lambda: HAT(
        img_size=16, embed_dim=12, depths=(2,), num_heads=(2,), window_size=8, upscale=2, mlp_ratio=2.0, squeeze_factor=6
    ),
    "DAT": lambda: DAT(img_size=16, embed_dim=32, depth=[2], num_heads=[2], split_size=[4, 8], expansion_factor=2.0, upscale=2),
    "ESRGAN": lambda: ESRGAN(num_filters=16, num_blocks=2, scale=4),
    "RealESRGAN Compact": SMALL["Compact"],
    "SPAN": SMALL["SPAN"],
    "PLKSR": SMALL["PLKSR"],
    "RealPLKSR": lambda: RealPLKSR(dim=16, n_blocks=2, upscaling_factor=2),
    "SCUNet": lambda: SCUNet(config=[1] * 7, dim=64),
    "DnCNN": SMALL["DnCNN"],
    "RealCUGAN x2": SMALL["RealCUGAN"],
    "RealCUGAN x3": UpCunet3x,
    "RealCUGAN x4": UpCunet4x,
    "EDSR": SMALL["EDSR"],
    "ESPCN": lambda: ESPCN(2, 1, (16, 8), (5, 3, 3)),
    "FFDNet": lambda: FFDNet(3, 16, 12),
    "LapSRN": lambda: LapSRN(1, 8, [2]),
    "waifu2x upconv_7": SMALL["waifu2x"],
    "waifu2x vgg_7": lambda: VGG7(3, (4, 4, 8, 8, 8, 8)),
    "waifu2x cunet": lambda: CUNet(3),
    "MPRNet": lambda: MPRNet(n_feat=8, scale_unetfeats=4, scale_orsnetfeats=4, num_cab=1),
    "Restormer": lambda: Restormer(dim=8, num_blocks=[1, 1, 1, 1], num_refinement_blocks=1, heads=[1, 2, 4, 8]),
}
BEYOND_OPENVINO = {"SCUNet", "MPRNet"}
"""Networks whose conversion is wrong at other sizes than the traced one, or fails."""
PUBLISHED = {
    "ESPCN": {"layers.0": "first_part.0", "layers.2": "first_part.2", "layers.4": "last_part.0"},
    "LapSRN": {"features.0": "convt_F1.0", "residuals.0": "convt_R1", "images.0": "convt_I1"},
}


def published(name, state):
    """Under the names that published files have."""
    for old, new in PUBLISHED.get(name, {}).items():
        state = {key.replace(old, new): value for key, value in state.items()}
    return {key: value.clone().contiguous() for key, value in state.items()}


def test_dncnn_takes_noise_out_of_grey_images(test_data, read_rgb):
    """The paper (Zhang et al., 2017) reports 29.13 to 33.06 dB on the twelve images of Set12 at sigma 25."""
    model = load_model(test_data / "models/dncnn_25.pth")
    generator = torch.Generator().manual_seed(0)
    figures = []
    for path in sorted((test_data / "images/set5/HR").glob("*.png")):
        clean = rgb_to_luma(read_rgb(path))
        noisy = clean + 25 / 255 * torch.randn(clean.shape, generator=generator)
        with torch.no_grad():
            figures.append(psnr(clean, model.descriptor.model(noisy).clamp(0, 1)))
    assert 29.13 < min(figures) < max(figures) < 33.06
    assert sum(figures) / len(figures) == pytest.approx(31.2, abs=0.1)


def squeeze(_module, _inputs, output):
    """What a network gives, or each of its stages, smoothly into [0, 1]."""
    if isinstance(output, tuple | list):
        return [squeeze(None, None, one) for one in output]
    return 0.5 + 0.4 * torch.tanh(output - 0.5)


@pytest.fixture(scope="module", params=list(NETWORKS))
def network(request, tmp_path_factory):
    """Such a network, with its output squeezed into [0, 1]: cut off there, most of it would be 0 or 1 whatever it computes."""
    torch.manual_seed(0)
    made = NETWORKS[request.param]().eval()
    path = tmp_path_factory.mktemp("networks") / "network.safetensors"
    save_file(published(request.param, made.state_dict()), path)
    model = load_model(path)
    model.descriptor.model.register_forward_hook(squeeze)
    return request.param, model


def test_it_is_what_it_is_called(network):
    name, model = network
    assert model.architecture.replace("Real", "").replace("ESRGAN Compact", "Compact").split()[0] in name
    assert model.scale in (1, 2, 3, 4)


def test_openvino_gives_the_same_or_refuses_in_a_line(network, photo, tmp_path, monkeypatch):
    pytest.importorskip("openvino", reason="OpenVINO is not installed")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    name, model = network
    if model.architecture == COMPACT:  # of which only the change is converted, which knows no hooks
        save_file(model.descriptor.model.state_dict(), tmp_path / "plain.safetensors")
        model = load_model(tmp_path / "plain.safetensors")
    channels = "luma" if model.channels_in == 1 else "rgb"
    exact = upscale(photo, model, None, channels, Compute(backend="torch", tile_px=96)).image  # streams know no hooks
    if name in BEYOND_OPENVINO:
        with pytest.raises(ModelRefusedError, match=r"OpenVINO('s output differs| cannot run it).*wanted --backend torch"):
            upscale(photo, model, None, channels, Compute(backend="openvino"))
        return
    converted = upscale(photo, model, None, channels, Compute(backend="openvino")).image
    assert (converted - exact).abs().max() < 2e-3


@pytest.mark.parametrize("channels", ["luma", "rgb"])
def test_it_runs_on_any_size(network, photo, channels):
    _, model = network
    image = photo[..., :71, :93]
    made = upscale(image, model, None, channels).image
    assert made.shape == (1, 3, 71 * model.scale, 93 * model.scale)
    assert made.isfinite().all()


def test_tiles_change_nothing_where_they_see_as_far_as_it_does(network, photo):
    _, model = network
    image = photo[..., :33, :93] if model.descriptor.input_channels == 3 else rgb_to_luma(photo)[..., :33, :93]
    wide = torch.cat((image, image.flip(3), image), dim=3)
    runner = Runner(model, torch.device("cpu"), "fp32")
    whole, _ = runner.run(wide, tile=512)
    tiled, report = runner.run(wide, tile=64)
    assert report.tiles > 1
    contrast = whole.std()
    assert contrast > 0.005 and ((whole > 0) & (whole < 1)).all(), "nothing to tell apart"
    if report.seamless:
        assert (whole - tiled).abs().max() < min(1 / 1024, contrast / 20)
    else:
        assert (whole - tiled).abs().mean() < contrast


def test_it_runs_in_bf16_or_falls_back_to_fp32(network, photo):
    _, model = network
    exact, rough = (upscale(photo, model, None, "rgb", Compute(precision=precision)).image for precision in ("fp32", "bf16"))
    assert rough.isfinite().all()
    assert (exact - rough).abs().mean() < 0.02


def test_esrgan_weights_of_both_old_and_new_names_are_read(tmp_path):
    """The names of the first release, of Real-ESRGAN's, and what either gives."""
    torch.manual_seed(0)
    state = ESRGAN(num_filters=16, num_blocks=1, scale=4).state_dict()
    save_file({key: value.contiguous() for key, value in state.items()}, tmp_path / "old.safetensors")
    changes = {
        "model.0.": "conv_first.",
        "model.1.sub.0.": "body.0.",
        "model.1.sub.1.": "conv_body.",
        "model.3.": "conv_up1.",
        "model.6.": "conv_up2.",
        "model.8.": "conv_hr.",
        "model.10.": "conv_last.",
    }
    renamed = {}
    for key, value in state.items():
        start = next(old for old in changes if key.startswith(old))
        rest = key.removeprefix(start).replace("RDB", "rdb").replace(".conv", ".conv")
        for index in range(1, 6):
            rest = rest.replace(f".conv{index}.0.", f".conv{index}.")
        renamed[changes[start] + rest] = value.contiguous()
    save_file(renamed, tmp_path / "new.safetensors")
    image = torch.rand(1, 3, 9, 9)
    old, new = (load_model(tmp_path / f"{name}.safetensors") for name in ("old", "new"))
    assert old.scale == new.scale == 4
    with torch.no_grad():
        assert torch.equal(old.descriptor(image), new.descriptor(image))
