"""The networks of waifu2x: upconv_7, vgg_7 and cunet, under nunif's parameter names.

Their convolutions have no padding, so the original output is smaller than the scale implies. Here the border is repeated
first, so that the output is exactly the input size times the scale.

Sources: waifu2x, its model definitions (nagadomi, 2015-2018); squeeze and excitation by Hu, Shen and Sun, 2018. Real-CUGAN
grew from the x2 cunet, and spandrel reads that as Real-CUGAN.
"""

from spandrel import Architecture, ImageModelDescriptor, StateDict
from spandrel.util import KeyCondition
from torch import Tensor, nn
from torch.nn import functional

from .description import describe

_SLOPE = 0.1
_UPCONV7_WIDTHS = (16, 32, 64, 128, 128, 256)
_VGG7_WIDTHS = (32, 32, 64, 64, 128, 128)


def _convolutions(channels: int, widths: tuple[int, ...]) -> list[nn.Module]:
    layers: list[nn.Module] = []
    for before, width in zip((channels, *widths[:-1]), widths, strict=True):
        layers += [nn.Conv2d(before, width, 3), nn.LeakyReLU(_SLOPE)]
    return layers


def _repeat_border(image: Tensor, margin_px: int, multiple: int = 1) -> Tensor:
    height, width = image.shape[2:]
    beyond = (margin_px, margin_px + -width % multiple, margin_px, margin_px + -height % multiple)
    return functional.pad(image, beyond, mode="replicate")


class UpConv7(nn.Module):
    """Six convolutions and a deconvolution that doubles the size."""

    def __init__(self, channels: int, widths: tuple[int, ...] = _UPCONV7_WIDTHS) -> None:
        super().__init__()
        last = nn.ConvTranspose2d(widths[-1], channels, 4, stride=2, padding=3)
        self.net = nn.Sequential(*_convolutions(channels, widths), last)

    def forward(self, image: Tensor) -> Tensor:
        return self.net(_repeat_border(image, 7))


class VGG7(nn.Module):
    """Seven convolutions at image size."""

    def __init__(self, channels: int, widths: tuple[int, ...] = _VGG7_WIDTHS) -> None:
        super().__init__()
        self.net = nn.Sequential(*_convolutions(channels, widths), nn.Conv2d(widths[-1], channels, 3))

    def forward(self, image: Tensor) -> Tensor:
        return self.net(_repeat_border(image, 7))


class SqueezeExcite(nn.Module):
    """Weights channels by their means over the whole image."""

    def __init__(self, width: int, reduction: int = 8) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(width, width // reduction, 1)
        self.conv2 = nn.Conv2d(width // reduction, width, 1)

    def forward(self, features: Tensor) -> Tensor:
        weights = functional.relu(self.conv1(features.mean(dim=(2, 3), keepdim=True)))
        return features * self.conv2(weights).sigmoid()


class UNetConv(nn.Module):
    """Two convolutions, optionally followed by squeeze and excitation."""

    def __init__(self, inputs: int, middle: int, outputs: int, weighs: bool) -> None:
        super().__init__()
        layers = (nn.Conv2d(inputs, middle, 3), nn.LeakyReLU(_SLOPE), nn.Conv2d(middle, outputs, 3), nn.LeakyReLU(_SLOPE))
        self.conv = nn.Sequential(*layers)
        self.seblock = SqueezeExcite(outputs) if weighs else None

    def forward(self, features: Tensor) -> Tensor:
        features = self.conv(features)
        return self.seblock(features) if self.seblock else features


def _crop(features: Tensor, margin_px: int) -> Tensor:
    return features[..., margin_px:-margin_px, margin_px:-margin_px]


def _leaky(features: Tensor) -> Tensor:
    return functional.leaky_relu(features, _SLOPE)


class UNet1(nn.Module):
    """One level down and up."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = UNetConv(channels, 32, 64, False)
        self.conv1_down = nn.Conv2d(64, 64, 2, stride=2)
        self.conv2 = UNetConv(64, 128, 64, True)
        self.conv2_up = nn.ConvTranspose2d(64, 64, 2, stride=2)
        self.conv3 = nn.Conv2d(64, 64, 3)
        self.conv_bottom = nn.Conv2d(64, channels, 3)

    def forward(self, image: Tensor) -> Tensor:
        fine = self.conv1(image)
        coarse = _leaky(self.conv2_up(self.conv2(_leaky(self.conv1_down(fine)))))
        return self.conv_bottom(_leaky(self.conv3(_crop(fine, 4) + coarse)))


class UNet2(nn.Module):
    """Two levels down and up."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = UNetConv(channels, 32, 64, False)
        self.conv1_down = nn.Conv2d(64, 64, 2, stride=2)
        self.conv2 = UNetConv(64, 64, 128, True)
        self.conv2_down = nn.Conv2d(128, 128, 2, stride=2)
        self.conv3 = UNetConv(128, 256, 128, True)
        self.conv3_up = nn.ConvTranspose2d(128, 128, 2, stride=2)
        self.conv4 = UNetConv(128, 64, 64, True)
        self.conv4_up = nn.ConvTranspose2d(64, 64, 2, stride=2)
        self.conv5 = nn.Conv2d(64, 64, 3)
        self.conv_bottom = nn.Conv2d(64, channels, 3)

    def forward(self, image: Tensor) -> Tensor:
        fine = self.conv1(image)
        middle = self.conv2(_leaky(self.conv1_down(fine)))
        coarse = _leaky(self.conv3_up(self.conv3(_leaky(self.conv2_down(middle)))))
        up = _leaky(self.conv4_up(self.conv4(_crop(middle, 4) + coarse)))
        return self.conv_bottom(_leaky(self.conv5(_crop(fine, 16) + up)))


class CUNet(nn.Module):
    """Two U-Nets in sequence, the second of which corrects the first; at image size."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.unet1, self.unet2 = UNet1(channels), UNet2(channels)

    def forward(self, image: Tensor) -> Tensor:
        height, width = image.shape[2:]
        first = self.unet1(_repeat_border(image, 28, 4))
        return (_crop(first, 20) + self.unet2(first))[..., :height, :width]


class UpConv7Arch(Architecture[UpConv7]):
    """waifu2x upconv_7: x2, for art or photos depending on the weights."""

    def __init__(self) -> None:
        super().__init__(id="waifu2x-upconv7", name="waifu2x upconv_7", detect=lambda state: _is_chain(state, 4))

    def load(self, state_dict: StateDict) -> ImageModelDescriptor[UpConv7]:
        """Builds the network for a state dict."""
        channels, widths = _read_chain(state_dict)
        return describe(self, UpConv7(channels, widths), state_dict, "SR", 2, channels)


class VGG7Arch(Architecture[VGG7]):
    """waifu2x vgg_7: removes noise and JPEG artifacts at x1.

    Its x2 weights have the same shapes but expect an image already upscaled by repeating samples. Nothing in a file
    distinguishes them, so they are treated as x1 too.
    """

    def __init__(self) -> None:
        super().__init__(id="waifu2x-vgg7", name="waifu2x vgg_7", detect=lambda state: _is_chain(state, 3))

    def load(self, state_dict: StateDict) -> ImageModelDescriptor[VGG7]:
        """Builds the network for a state dict."""
        channels, widths = _read_chain(state_dict)
        return describe(self, VGG7(channels, widths), state_dict, "Restoration", 1, channels)


class CUNetArch(Architecture[CUNet]):
    """waifu2x cunet at x1: removes noise and JPEG artifacts. It ends in a convolution, the x2 one in a deconvolution."""

    def __init__(self) -> None:
        named = KeyCondition.has_all(
            "unet1.conv1.conv.0.weight",
            "unet1.conv2.seblock.conv1.weight",
            "unet1.conv_bottom.weight",
            "unet2.conv4_up.weight",
            "unet2.conv_bottom.weight",
        )

        def detect(state_dict: StateDict) -> bool:
            return named(state_dict) and tuple(state_dict["unet1.conv_bottom.weight"].shape[1:]) == (64, 3, 3)

        super().__init__(id="waifu2x-cunet", name="waifu2x cunet", detect=detect)

    def load(self, state_dict: StateDict) -> ImageModelDescriptor[CUNet]:
        """Builds the network for a state dict."""
        channels = state_dict["unet1.conv1.conv.0.weight"].shape[1]
        return describe(self, CUNet(channels), state_dict, "Restoration", 1, channels)


_CHAIN = tuple(f"net.{index}.{part}" for index in range(0, 14, 2) for part in ("weight", "bias"))


def _is_chain(state_dict: StateDict, last_kernel: int) -> bool:
    """Whether there are exactly seven convolutions and nothing else, the last with a kernel of this size."""
    return set(state_dict) == set(_CHAIN) and tuple(state_dict["net.12.weight"].shape[2:]) == (last_kernel, last_kernel)


def _read_chain(state_dict: StateDict) -> tuple[int, tuple[int, ...]]:
    widths = tuple(state_dict[f"net.{index}.weight"].shape[0] for index in range(0, 12, 2))
    return state_dict["net.0.weight"].shape[1], widths
