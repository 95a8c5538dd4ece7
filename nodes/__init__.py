"""The pack's ComfyUI nodes. They convert inputs, call the engine, and convert results back; no mathematics here."""

from comfy_api.latest import ComfyExtension, io

from ..fidelity.networks.architectures import register_architectures
from . import host
from .adjust import FidelityCleanup, FidelityEnhance, FidelityGrade, FidelityPrepare
from .auto import FidelityAutoUpscale, FidelityPlanPasses, FidelityRunPasses
from .channels import FidelityMergeYCbCr, FidelitySplitYCbCr
from .classify import FidelityClassifyDomain
from .clip import FidelityClipQuality
from .consistency import FidelityConsistency, FidelityDeltaEGate
from .diffusion.sampling import FidelityDiffusionPass, FidelityRestorationGuidance, FidelityTiledDiffusion
from .diffusion.truncated import FidelityTruncatedSampling
from .faces import FidelityRestoreFaces
from .files import FidelityLoadImage, FidelitySaveImage
from .measure import FidelityBeforeAfter, FidelityCompareModels, FidelityMeasure
from .upscale import FidelityLoadUpscaleModel, FidelityUpscale
from .video import FidelityLoadVideo, FidelityVideoUpscale

NODES: list[type[io.ComfyNode]] = [
    FidelityLoadImage,
    FidelitySaveImage,
    FidelityAutoUpscale,
    FidelityClassifyDomain,
    FidelityPlanPasses,
    FidelityRunPasses,
    FidelityLoadUpscaleModel,
    FidelityUpscale,
    FidelityConsistency,
    FidelityDeltaEGate,
    FidelityBeforeAfter,
    FidelityMeasure,
    FidelityClipQuality,
    FidelityCompareModels,
    FidelityPrepare,
    FidelityCleanup,
    FidelityEnhance,
    FidelityGrade,
    FidelityRestoreFaces,
    FidelityTiledDiffusion,
    FidelityRestorationGuidance,
    FidelityTruncatedSampling,
    FidelityDiffusionPass,
    FidelitySplitYCbCr,
    FidelityMergeYCbCr,
    FidelityLoadVideo,
    FidelityVideoUpscale,
]


class FidelityExtension(ComfyExtension):
    """Registers the nodes with the host."""

    async def on_load(self) -> None:
        host.offer_shipped_models()
        register_architectures()

    async def get_node_list(self) -> list[type[io.ComfyNode]]:
        return NODES
