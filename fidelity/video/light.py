"""Which installed networks "auto" takes for a video: those that are fast enough for many thousands of frames."""

from collections.abc import Mapping
from copy import copy
from dataclasses import replace
from pathlib import Path

from ..decide.catalogue import Restoration
from ..decide.model_choice import ModelChoice, ModelChooser, Restorer, rank_models
from ..decide.recipes import Recipe
from ..networks.network import Network
from ..session import Session

MOST_PARAMETERS = 1_500_000
"""The compact networks that are made for videos have 0.2 to 1.2 million (realesr-animevideov3 0.6), Real-CUGAN up to 1.4; the
next larger ones, as RealESRGAN_x4plus_anime_6B with 4.5, take many seconds for a frame on a CPU."""
_BYTES_EACH = 4


def for_video(session: Session) -> tuple[Session, "LightChooser"]:
    """Returns the same session with a chooser that takes light networks, and that chooser.

    A network that the user names is used whatever it takes, and so is the best one for a restoration that the user asks for.

    Args:
        session: Settings, networks and compute.
    """
    other = copy(session)
    chooser = LightChooser(session.settings.model, session.chooser.models, session.settings.restore == "auto")
    other.chooser = chooser
    return other, chooser


def is_light(network: Network) -> bool:
    """Whether a network is fast enough for a video; what is in a graph is counted by its bytes."""
    return (network.parameters or network.weight_bytes // _BYTES_EACH) <= MOST_PARAMETERS


class LightChooser(ModelChooser):
    """A chooser that leaves out heavy networks; not for several threads."""

    def __init__(self, name: str, models: Mapping[str, Path], limits_restorers: bool) -> None:
        """See `ModelChooser`.

        Args:
            name: "auto" or a model.
            models: Files by name.
            limits_restorers: Whether heavy x1 networks are left out too.
        """
        super().__init__(name, models)
        self._limits_restorers = limits_restorers
        self._left_out: dict[str, Path] = {}
        """Heavy networks that enlarge, by file name."""
        self.notes: tuple[str, ...] = ()
        """Which networks were left out, and how they are used nevertheless, as text."""

    def choose(self, recipe: Recipe, scale: float) -> tuple[Network, ModelChoice]:
        """See `ModelChooser`."""
        network, choice = super().choose(recipe, scale)
        if self.fixed or is_light(network):
            return network, self._explain(choice, recipe, scale)
        self._left_out[choice.path.name] = choice.path
        self._leave_out(choice.path, f"--model {choice.path.stem}")
        return self.choose(recipe, scale)

    def choose_restorer(self, restoration: Restoration, shipped: str) -> Restorer:
        """See `ModelChooser`."""
        restorer = super().choose_restorer(restoration, shipped)
        path = next((path for path in self.models.values() if path.name == restorer.network.name), None)
        if path is None or restorer.is_shipped or not self._limits_restorers or is_light(restorer.network):
            return restorer
        self._leave_out(path, f"--restore {restoration}")
        return self.choose_restorer(restoration, shipped)

    def _explain(self, choice: ModelChoice, recipe: Recipe, scale: float) -> ModelChoice:
        if not choice.is_shipped or self.fixed or all(one.is_shipped for one in rank_models(recipe, scale, self._left_out)):
            return choice
        return replace(choice, reason="shipped model; what else is installed is too slow for video", better=None)

    def _leave_out(self, left: Path, used_by: str) -> None:
        self.models = {name: path for name, path in self.models.items() if path != left}
        self.notes += (f"{left.stem} is installed but too slow for video; {used_by} uses it",)
