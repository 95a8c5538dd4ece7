"""Enlarges one frame as its scene was decided: luma by the network, chroma by its own samples, or RGB as a whole."""

from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor

from ..decide.decision import Decision
from ..errors import RefusedError
from ..files.tone import tone_map
from ..imaging.color import delta_e
from ..imaging.drift import Drift, compare_rows, summarize_drift
from ..imaging.resample import resize
from ..imaging.rows import TensorRows, read_all
from ..imaging.yuv import (
    FULL,
    PlaneFormat,
    Planes,
    levels_to_planes,
    planes_to_levels,
    planes_to_rgb,
    resample_chroma,
    rgb_to_planes,
)
from ..session import Session, restore_source
from ..steps.cleanup import clean
from ..steps.consistency import project_
from ..steps.deband import deband
from ..steps.gate import gate_rows
from ..steps.upscale import upscale
from .colors import StreamColors


@dataclass(frozen=True)
class Picture:
    """A frame as it is enlarged."""

    planes: Planes
    """As they come, outside values included."""
    form: PlaneFormat
    """What they stand for."""

    @cached_property
    def rgb(self) -> Tensor:
        """``(1, 3, h, w)`` in [0, 1]."""
        return planes_to_rgb(self.planes, self.form).clamp_(0, 1)

    @property
    def size(self) -> tuple[int, int]:
        """(height, width)."""
        return self.planes.luma.shape[2], self.planes.luma.shape[3]


@dataclass(frozen=True, eq=False)
class Enlarged:
    """A frame between enlarging and measuring."""

    picture: Picture
    """The source."""
    reference: Picture
    """What its colors are held to: the source, restored if it was damaged."""
    planes: Planes
    """The enlargement."""
    base: Tensor | None
    """Luma of the reference enlarged without a network, ``(1, 1, H, W)``; None if it will not be steadied."""
    motion: Tensor | None
    """Where its pixels were in the frame before; None at a cut, or if nothing is steadied."""
    before: Tensor | None = None
    """The source's luma in the frame before, where there is motion."""


@dataclass(frozen=True)
class FrameResult:
    """A finished frame."""

    levels: list[Tensor]
    """Its planes in integers."""
    drift: Drift
    """CIEDE2000, or BT.2124's difference for high dynamic range, from its reference on the color band."""
    action: str
    """What the gate did."""


class FrameMaker:
    """Enlarges the frames of a video; safe to share between threads."""

    def __init__(
        self,
        session: Session,
        colors: StreamColors,
        form: PlaneFormat,
        target: tuple[int, int],
        white_nits: float | None = None,
        compares: bool = False,
    ) -> None:
        """Binds what all frames have in common.

        Args:
            session: Settings, networks and compute.
            colors: What the source's samples stand for.
            form: Format of the result's planes; its matrix is that of the source unless the source is RGB or is tone mapped.
            target: (height, width) of the result.
            white_nits: The light that becomes white where high dynamic range is tone mapped; None keeps it.
            compares: Whether the source, enlarged without a network, stands to the left of each result.
        """
        self._full, self._compares = replace(FULL, matrix=form.matrix), compares
        self._session, self._colors, self._form, self._target = session, colors, form, target
        self._white_nits = white_nits
        self.signal = None if white_nits else colors.signal
        self._difference = self.signal.difference if self.signal else delta_e

    def read(self, levels: tuple[Tensor, ...]) -> Picture:
        """A frame's planes as floats, tone mapped if asked for."""
        device = self._session.compute.device
        planes, form = levels_to_planes([plane.to(device) for plane in levels], self._colors.form), self._colors.form
        if self._white_nits and self._colors.signal:
            rgb = tone_map(planes_to_rgb(planes, form).clamp_(0, 1), self._colors.signal, self._white_nits)
            return Picture(rgb_to_planes(rgb, self._full), self._full)
        if form.matrix == "rgb":
            return Picture(rgb_to_planes(planes_to_rgb(planes, form), self._full), self._full)
        return Picture(planes, form)

    def decide(self, pictures: list[Picture]) -> Decision:
        """Decides how a scene is enlarged, by the most telling of some of its frames.

        Raises:
            RefusedError: If the target or a network is refused.
        """
        images = torch.cat([picture.rgb for picture in pictures])
        view = None
        if self.signal:
            view = torch.cat([tone_map(image, self.signal) for image in images.split(1)])
        decision = self._session.decide(images, view=view)
        if decision.target != self._target:
            height, width = self._target
            raise RefusedError(f"a scene would be {decision.target[1]}x{decision.target[0]}; wanted {width}x{height}")
        return replace(decision, signal=self.signal)

    def enlarge(self, picture: Picture, decision: Decision, keeps_base: bool, motion: Tensor | None) -> Enlarged:
        """Enlarges a frame; the first and longest part of the work.

        Args:
            picture: From `read`.
            decision: Of its scene.
            keeps_base: Whether the result will be steadied.
            motion: Passed on.
        """
        if decision.recipe.channels == "rgb" or decision.planned.takes_damage:
            made = self._session.carry_out(picture.rgb, decision)
            base = resize(picture.planes.luma, self._target) if keeps_base else None
            return Enlarged(picture, picture, rgb_to_planes(made.image.float(), self._form), base, motion)
        reference = self._restore(picture, decision)
        luma = reference.planes.luma
        inside = luma.clamp(0, 1)
        compute, recipe = self._session.compute, decision.recipe
        result = upscale(inside, decision.planned.models, self._target, "luma", compute).image
        if recipe.consistency != "off":
            result = project_(result, inside, recipe.consistency)
        if recipe.cleanup not in ("auto", "off"):
            result = clean(result, recipe.cleanup, recipe.cleanup_strength)
        if not torch.equal(inside, luma):  # brighter than white or darker than black, which networks do not know
            result = result + resize(luma - inside, self._target)
        base = resize(luma, self._target) if keeps_base else None
        return Enlarged(picture, reference, Planes(result, *self._enlarge_chroma(reference)), base, motion)

    def finish(self, enlarged: Enlarged, luma: Tensor, decision: Decision) -> FrameResult:
        """Measures a frame, blends it back where its colors drifted, and rounds it to integers.

        Args:
            enlarged: From `enlarge`.
            luma: Its luma, steadied or not.
            decision: Of its scene.
        """
        reference, recipe = enlarged.reference, decision.recipe
        size = reference.size
        small = [resample_chroma(plane, self._form, self._target, FULL, size) for plane in enlarged.planes[1:]]
        told = TensorRows(reference.rgb)

        def measure(luma: Tensor) -> Tensor:
            planes = Planes(resize(luma, size), *small)
            shown = planes_to_rgb(planes, self._full).clamp_(0, 1)
            return compare_rows(told, TensorRows(shown), "color", self._difference)

        difference = measure(luma)
        drift, action, limits = summarize_drift(difference), "off", recipe.gate_limits
        if recipe.gate not in ("auto", "off"):
            action = "pass"
            if drift.mean > limits.mean or drift.max > limits.max:
                luma = luma.clone()
                safe = TensorRows(resize(reference.planes.luma, self._target))
                rows = TensorRows(luma)
                verdict = gate_rows(rows, lambda _: safe, lambda _: measure(luma), recipe.gate, limits, difference)
                drift, action = verdict.after, verdict.action
        levels = planes_to_levels(Planes(luma, *enlarged.planes[1:]), self._form)
        if self._compares:
            plain = planes_to_levels(self._enlarge_plainly(enlarged.picture), self._form)
            levels = [torch.cat(pair, dim=1) for pair in zip(plain, levels, strict=True)]
        return FrameResult([plane.cpu() for plane in levels], drift, action)

    def _enlarge_plainly(self, picture: Picture) -> Planes:
        """A picture enlarged without a network."""
        return Planes(resize(picture.planes.luma, self._target), *self._enlarge_chroma(picture))

    def _enlarge_chroma(self, picture: Picture) -> list[Tensor]:
        size, form, target = picture.size, picture.form, self._target
        return [resample_chroma(plane, form, size, self._form, target) for plane in picture.planes[1:]]

    def _restore(self, picture: Picture, decision: Decision) -> Picture:
        restorer = decision.planned.restorer
        if not restorer and decision.recipe.deband != "on":
            return picture
        rgb = picture.rgb
        if restorer:
            rgb = read_all(restore_source(TensorRows(rgb), restorer, decision, self._session.compute))
        if decision.recipe.deband == "on":
            rgb = deband(rgb)
        return Picture(rgb_to_planes(rgb, self._full), self._full)
