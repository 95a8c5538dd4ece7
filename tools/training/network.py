"""The network to train."""

from spandrel.architectures.Compact import Compact
from torch import Tensor
from torch.nn import functional


class Network(Compact):
    """spandrel's Compact, but the correction is added to the image in fp32 whatever the precision of the convolutions."""

    def forward(self, x: Tensor) -> Tensor:
        correction = x
        for layer in self.body:
            correction = layer(correction)
        return self.upsampler(correction.float()) + functional.interpolate(x, scale_factor=self.upscale)
