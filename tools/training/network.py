"""The network that is trained."""

from spandrel.architectures.Compact import Compact
from torch import Tensor
from torch.nn import functional


class Network(Compact):
    """spandrel's Compact, which adds image and correction in fp32 whatever the precision of the convolutions."""

    def forward(self, x: Tensor) -> Tensor:
        correction = x
        for layer in self.body:
            correction = layer(correction)
        return self.upsampler(correction.float()) + functional.interpolate(x, scale_factor=self.upscale)
