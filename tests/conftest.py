"""Fixtures for all tests: small images, small networks, and where test data and a host are."""

import os
import struct
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageCms
from safetensors.torch import save_file
from spandrel import ImageModelDescriptor, ModelLoader
from spandrel.architectures.Compact import Compact
from torch import nn

from fidelity.networks.backends.torch import TorchNetwork
from fidelity.networks.loader import load_model
from tests.clips import Clip, write_clip

# Networks that a user of this machine may have got must not change what tests see.
os.environ["FIDELITY_MODELS"] = str(Path(__file__).parent / "no such folder")

# Tests run on the CPU: hosted Apple machines report a GPU that has no memory to give.
torch.backends.mps.is_available = lambda: False


@pytest.fixture
def random_image():
    """Makes a random image of a shape; the same one every time."""

    def make(*shape, dtype=torch.float32, seed=0):
        return torch.rand(*shape, generator=torch.Generator().manual_seed(seed)).to(dtype)

    return make


@pytest.fixture
def make_clip(tmp_path):
    """Writes a small video, described by the fields of `tests.clips.Clip`, and returns its path."""
    return lambda **values: write_clip(tmp_path, Clip(**values))


@pytest.fixture(scope="session")
def photo():
    """A 96x112 px piece of scikit-image's astronaut, (1, 3, 96, 112)."""
    from skimage import data

    return torch.from_numpy(data.astronaut()[20:116, 160:272].copy()).permute(2, 0, 1)[None].float() / 255


@pytest.fixture(scope="session")
def compact_file(tmp_path_factory):
    """Writes a Compact network with weights that make it a visible sharpener, and returns its file."""

    def make(scale=2, channels=3, features=8, convolutions=2, name=None):
        torch.manual_seed(scale * 100 + channels)
        network = Compact(num_in_ch=channels, num_out_ch=channels, num_feat=features, num_conv=convolutions, upscale=scale)
        path = tmp_path_factory.mktemp("models") / (name or f"compact-{channels}ch-x{scale}.safetensors")
        save_file(network.state_dict(), path)
        return path

    return make


@pytest.fixture(scope="session")
def compact(compact_file):
    """Loads such a network."""

    def make(scale=2, channels=3, **options) -> TorchNetwork:
        return load_model(compact_file(scale, channels, **options))

    return make


class Faulty(nn.Module):
    """Nearest-neighbour enlargement whose output a test can spoil."""

    def __init__(self, scale=2, spoil=None):
        super().__init__()
        self.scale = scale
        self.weight = nn.Parameter(torch.ones(1))
        self.spoil = spoil
        self.calls = []

    def __deepcopy__(self, memo):
        copied = Faulty(self.scale, self.spoil)
        copied.calls = self.calls
        return copied

    def forward(self, image):
        self.calls.append((tuple(image.shape), image.dtype))
        result = nn.functional.interpolate(image * self.weight, scale_factor=self.scale, mode="nearest")
        return self.spoil(image, result) if self.spoil else result


@pytest.fixture(autouse=True)
def full_precision(monkeypatch):
    """Networks run in float32 unless a test asks for less, so that results can be compared closely on any machine."""
    monkeypatch.setattr("fidelity.networks.device.gains_from_bf16", lambda: False)


@pytest.fixture
def faulty():
    """Makes a model of a `Faulty` network: spoil(input, output) returns the output or raises."""

    def make(spoil=None, scale=2, half=True) -> TorchNetwork:
        network = Faulty(scale, spoil)
        descriptor = ImageModelDescriptor(
            network,
            network.state_dict(),
            architecture=ModelLoader().registry.architectures()[-1].architecture,
            purpose="SR" if scale > 1 else "Restoration",
            tags=[],
            supports_half=half,
            supports_bfloat16=half,
            scale=scale,
            input_channels=3,
            output_channels=3,
        )
        return TorchNetwork("faulty.pth", descriptor)

    return make


@pytest.fixture
def image_file(tmp_path):
    """Writes a small random image file and returns its path."""

    def make(name="image.png", mode="RGB", size=(24, 18), **options):
        samples = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 4), dtype=np.uint8)
        picture = Image.fromarray(samples, "RGBA") if mode == "RGBA" else Image.fromarray(samples[..., :3]).convert(mode)
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        picture.save(path, **options)
        return path

    return make


@pytest.fixture(scope="session")
def display_p3():
    """A profile with the primaries of Display P3 and the curve of sRGB, made here."""
    return rgb_profile(((0.680, 0.320), (0.265, 0.690), (0.150, 0.060)))


def rgb_profile(primaries, curve=None):
    """An ICC profile of three primaries in xy and D65 white; the curve of sRGB, or a gamma."""
    base = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    white = np.array([0.3127 / 0.3290, 1, (1 - 0.3127 - 0.3290) / 0.3290])
    columns = np.array([(x / y, 1, (1 - x - y) / y) for x, y in primaries]).T
    columns = columns * np.linalg.solve(columns, white)
    bradford = np.array([[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]])
    ratio = (bradford @ [0.9642, 1, 0.8249]) / (bradford @ white)
    columns = np.linalg.inv(bradford) @ np.diag(ratio) @ bradford @ columns
    for index in range(struct.unpack_from(">I", base, 128)[0]):
        name, offset, _ = struct.unpack_from(">4sII", base, 132 + 12 * index)
        if name in (b"rXYZ", b"gXYZ", b"bXYZ"):
            values = columns[:, (b"rXYZ", b"gXYZ", b"bXYZ").index(name)]
            struct.pack_into(">3i", base, offset + 8, *(round(value * 65536) for value in values))
        elif name == b"rTRC" and curve:
            struct.pack_into(">4s4xHxxi", base, offset, b"para", 0, round(curve * 65536))
    return bytes(base)


@pytest.fixture(scope="session")
def grey_profile():
    """A grey profile of gamma 1.8."""
    curve = b"curv" + bytes(4) + struct.pack(">IH", 1, round(1.8 * 256)) + bytes(2)
    tag = struct.pack(">I4sII", 1, b"kTRC", 144, len(curve))
    return bytes(16) + b"GRAYXYZ " + bytes(104) + tag + curve


@pytest.fixture(scope="session")
def make_profile():
    """`rgb_profile`."""
    return rgb_profile


@pytest.fixture(scope="session")
def test_data():
    """The folder of real weights and images, named by FIDELITY_TEST_DATA."""
    folder = os.environ.get("FIDELITY_TEST_DATA")
    if not folder:
        pytest.skip("set FIDELITY_TEST_DATA to a folder of real weights and images to run this")
    return Path(folder)


@pytest.fixture(scope="session")
def read_rgb():
    """Reads an image file as (1, 3, H, W)."""

    def read(path):
        return torch.from_numpy(np.asarray(Image.open(path).convert("RGB")).copy()).permute(2, 0, 1)[None].float() / 255

    return read
