"""What a user can choose of how a video is read, processed and written."""

from dataclasses import dataclass, field
from fractions import Fraction

from ..choices import DEFAULT_EXISTING, Deinterlace, ExistingChoice, HdrChoice, SteadyChoice
from .codecs import Encoding


@dataclass(frozen=True)
class Window:
    """A part of a video."""

    start: Fraction
    """In seconds."""
    seconds: Fraction
    """Its length."""

    @property
    def end(self) -> Fraction:
        """In seconds."""
        return self.start + self.seconds


@dataclass(frozen=True)
class VideoOptions:
    """How a video is read, processed and written."""

    encoding: Encoding = field(default_factory=Encoding)
    hdr: HdrChoice = "auto"
    """What becomes of PQ and HLG; auto keeps them."""
    deinterlace: Deinterlace = "auto"
    near_repeats: bool = False
    """Whether frames that differ from the one before only by compression are not computed again."""
    steady: SteadyChoice = "auto"
    """Whether added detail is steadied along motion; auto: where OpenCV is installed."""
    window: Window | None = None
    """The part to make; all if not given."""
    compare: bool = False
    """Whether the source, enlarged without a network, is shown to the left of the result."""
    at_once: int | None = None
    """Frames computed at a time; None takes as many as there are processor cores, or two on a GPU."""
    existing: ExistingChoice = DEFAULT_EXISTING
    drop: bool = False
    """Whether what the output cannot hold is dropped, in place of a refusal."""
    rate: Fraction | None = None
    """Frames per second of a folder of images."""


DEFAULT_VIDEO_OPTIONS = VideoOptions()
