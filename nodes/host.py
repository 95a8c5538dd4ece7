"""The only module that imports `comfy.*`: image layout, models loaded by the host, progress, and cancelling."""

import copy
import json
import logging
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, get_args

import comfy.cli_args
import comfy.k_diffusion.sampling
import comfy.model_base
import comfy.model_management
import comfy.model_patcher
import comfy.model_sampling
import comfy.patcher_extension
import comfy.sample
import comfy.samplers
import comfy.utils
import folder_paths
import latent_preview
import torch
from comfy_api.latest import io, ui
from torch import Tensor

from ..fidelity.choices import BackendChoice, Domain, Tileable
from ..fidelity.decide.model_choice import ModelChoice, ModelChooser
from ..fidelity.decide.recipes import RECIPES
from ..fidelity.errors import RefusedError
from ..fidelity.files.paths import READ_SUFFIXES
from ..fidelity.imaging.resample import resize, size_within
from ..fidelity.imaging.tensors import check_finite, check_image
from ..fidelity.networks.backend import check_backend
from ..fidelity.networks.backends.torch import TorchNetwork
from ..fidelity.networks.compute import AUTO_COMPUTE, Compute
from ..fidelity.networks.descriptors import accept_rgb
from ..fidelity.networks.loader import SHIPPED_WEIGHTS, list_models
from ..fidelity.networks.memory import Result, run_where_room
from ..fidelity.networks.network import Network
from ..fidelity.networks.runner import estimate_memory
from ..fidelity.session import StageProgress
from ..fidelity.steps.wrap import Margin, describe_margin, find_margin

CATEGORY = "Fidelity"
"""The menu under which the host lists the pack's nodes."""

_SHOWN_PX = 320
UPSCALE_MODELS = "upscale_models"
"""Name of the host's folder of super-resolution models."""


def to_engine(image: Tensor, name: str = "image") -> Tensor:
    """The host's image as the engine takes it; every node's images come this way.

    Values outside [0, 1], which core's own resizing gives, are clipped, as every screen and file does; other float types become
    float32. An image that needs neither is a view, not a copy.

    Args:
        image: ``(B, H, W, C)``.
        name: What to call it in messages.

    Returns:
        ``(B, C, H, W)`` float32 in [0, 1].

    Raises:
        RefusedError: If it is no image of 1, 3 or 4 channels in a float type, is empty, or has samples that are not finite.
    """
    if not isinstance(image, Tensor):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise RefusedError(f"{name} is {type(image).__name__}; wanted an image")
    if image.ndim != 4:
        raise RefusedError(f"{name} has shape {tuple(image.shape)}; wanted (batch, height, width, channels)")
    planes = image.detach().movedim(-1, 1)
    check_image(planes, name)
    planes = planes.float()
    lowest, highest = torch.aminmax(planes)
    if not torch.isfinite(highest - lowest):
        check_finite(planes, name)
    return planes if lowest >= 0 and highest <= 1 else planes.clamp(0, 1)


def to_host(image: Tensor) -> Tensor:
    """The engine's ``(B, C, H, W)`` as the host's ``(B, H, W, C)``, on the device and in the dtype where it keeps images."""
    device = comfy.model_management.intermediate_device()
    return image.movedim(1, -1).to(device=device, dtype=comfy.model_management.intermediate_dtype())


def mask_to_engine(mask: Tensor | None) -> Tensor | None:
    """The host's mask, ``(H, W)`` or ``(B, H, W)``, as the engine's ``(B, 1, H, W)`` in [0, 1].

    Raises:
        RefusedError: As `to_engine`.
    """
    if mask is None:
        return None
    if mask.ndim not in (2, 3):
        raise RefusedError(f"mask has shape {tuple(mask.shape)}; wanted (batch, height, width)")
    return to_engine(mask.reshape(-1, *mask.shape[-2:], 1), "mask")


def run_near_compute(step: Callable[[Tensor], Result], image: Tensor, source: Tensor) -> Result:
    """Runs a step on the host's compute device if it fits there, else where the image is.

    Args:
        step: What to do with the image, ``(B, C, H, W)``.
        image: The upscaled image, in the host's layout.
        source: Its source, ``(B, C, h, w)``.
    """
    return run_where_room(step, to_engine(image), source, comfy.model_management.get_torch_device())


def list_input_images() -> list[str]:
    """Names of the files in the host's input folder whose suffix is that of an image."""
    folder = Path(folder_paths.get_input_directory())
    return sorted(path.name for path in folder.iterdir() if path.suffix.lower() in READ_SUFFIXES) if folder.is_dir() else []


def list_input_videos() -> list[str]:
    """Names of the videos in the host's input folder."""
    folder = Path(folder_paths.get_input_directory())
    names = [path.name for path in folder.iterdir() if path.is_file()] if folder.is_dir() else []
    return sorted(folder_paths.filter_files_content_types(names, ["video"]))


def temporary_folder() -> Path:
    """A new folder in the host's folder for temporary files, which it empties when it starts."""
    home = Path(folder_paths.get_temp_directory())
    home.mkdir(parents=True, exist_ok=True)
    return Path(tempfile.mkdtemp(prefix="fidelity-", dir=home))


def input_path(name: str) -> Path:
    """The path of an input image; a name may state another folder, as in "a.png [output]"."""
    return Path(folder_paths.get_annotated_filepath(name))


def fingerprint_file(name: str) -> str:
    """The modification time and size of an input file, so that the host reloads a changed one."""
    status = input_path(name).stat()
    return f"{status.st_mtime_ns} {status.st_size}"


def check_file(name: str) -> bool | str:
    """True if an input file exists, else the error."""
    return input_path(name).is_file() or f"{name}: no such file"


def next_output(prefix: str, width: int, height: int, suffix: str) -> Callable[[int, str], Path]:
    """Names results as core does: by the next free number in the output folder.

    Args:
        prefix: Folder and name; may contain %width%, %height% and dates.
        width: Width of the results in pixels.
        height: Height of the results in pixels.
        suffix: Text after the number.

    Returns:
        A function from a result's index and file suffix to its path.
    """
    output = folder_paths.get_output_directory()
    folder, name, first, _, _ = folder_paths.get_save_image_path(prefix, output, width, height)
    return lambda index, ending: Path(folder) / f"{name}_{first + index:05}_{suffix}{ending}"


def show_outputs(paths: list[Path]) -> ui.SavedImages:
    """Shows files of the output folder in the browser."""
    output = Path(folder_paths.get_output_directory())
    folders = [path.parent.relative_to(output).as_posix() for path in paths]
    names = zip(paths, folders, strict=True)
    return ui.SavedImages(
        [ui.SavedResult(path.name, "" if folder == "." else folder, io.FolderType.output) for path, folder in names]
    )


def preview(images: Tensor) -> ui.PreviewImage:
    """Shows images in the browser whose saved files it cannot open."""
    shown = images.float()
    return ui.PreviewImage(shown if shown.shape[-1] > 1 else shown.expand(-1, -1, -1, 3))


WORKFLOW_INPUT = [io.Hidden.extra_pnginfo]
"""What a node that shows its result asks the host for: the workflow it runs in."""


def show_result(
    node: type[io.ComfyNode], summary: str, heat_map: Tensor | None = None, pair: tuple[Tensor, Tensor] | None = None
) -> dict[str, Any]:
    """Shows on a node what it decided; js/results.js displays it.

    Args:
        node: The node.
        summary: From `fidelity.report.summary`.
        heat_map: An optional picture, ``(B, H, W, 3)``, shown at reduced size; for a batch, the brightest.
        pair: Two optional pictures of one size, ``(1, 3, H, W)``, shown with a slider between them.
    """
    shown: dict[str, Any] = {"fidelity": [summary]}
    workflow = (node.hidden.extra_pnginfo or {}).get("workflow") if node.hidden else None
    if isinstance(workflow, dict) and isinstance(workflow.get("id"), str):
        shown["fidelity_workflow"] = [workflow["id"], node.SCHEMA.node_id]
    if heat_map is not None:
        brightest = int(heat_map.float().mean(dim=(1, 2, 3)).argmax())
        shown_map = to_engine(heat_map[brightest : brightest + 1]).float()
        small = resize(shown_map, size_within((shown_map.shape[2], shown_map.shape[3]), _SHOWN_PX))
        shown["fidelity_map"] = preview(small.clamp(0, 1).movedim(1, -1)).as_dict()["images"]
    if pair:
        shown["fidelity_pair"] = [preview(one.movedim(1, -1)).as_dict()["images"][0] for one in pair]
    return shown


def collect_graphs(node: type[io.ComfyNode]) -> dict[str, str]:
    """The prompt and the workflow as JSON, by name; empty if the host was told to write no metadata."""
    if comfy.cli_args.args.disable_metadata:
        return {}
    graphs = {"prompt": node.hidden.prompt} | (node.hidden.extra_pnginfo or {})
    return {name: json.dumps(graph) for name, graph in graphs.items() if graph}


def offer_shipped_models() -> None:
    """Lets the host's own loader find the shipped models, after those in its own folders."""
    folder_paths.add_model_folder_path(UPSCALE_MODELS, str(SHIPPED_WEIGHTS))


def list_upscale_models() -> dict[str, Path]:
    """Model files by name: the shipped ones first, then those in the host's folders."""
    models = list_models([])
    for name in folder_paths.get_filename_list(UPSCALE_MODELS):
        path = folder_paths.get_full_path(UPSCALE_MODELS, name)
        if path is not None:
            models.setdefault(name, Path(path))
    return models


def choose_models(name: str) -> ModelChooser:
    """Makes a chooser among the installed models.

    Args:
        name: One of `list_upscale_models`, or "auto".
    """
    return ModelChooser(name, list_upscale_models())


class ChoosingNode(io.ComfyNode):
    """A node with the input model_name, which may be "auto"."""

    @classmethod
    def fingerprint_inputs(cls, model_name: str, **_others: object) -> str:
        """Changes when models are installed or removed, since auto may then choose another one."""
        return "|".join(list_upscale_models()) if model_name == "auto" else model_name


def backend_input() -> io.Input:
    """The input that chooses the library that runs models; prompts from before it existed still run."""
    return io.Combo.Input(
        "backend",
        options=list(get_args(BackendChoice)),
        default="auto",
        optional=True,
        advanced=True,
        tooltip="The library that runs models. openvino: on the CPU. onnxruntime: on the CPU and NVIDIA GPUs. tensorrt: on "
        "NVIDIA GPUs. auto: the fastest that the command fidelity accelerate measured, torch if it measured none.",
    )


def tileable_input() -> io.Input:
    """The input for images that repeat; prompts from before it existed still run."""
    return io.Combo.Input(
        "tileable",
        options=list(get_args(Tileable)),
        default="off",
        advanced=True,
        optional=True,
        tooltip="Keeps opposite edges seamless: x for panoramas, both for textures that repeat. off: edges are not joined.",
    )


def choose_margin(size: tuple[int, int], target: tuple[int, int], tileable: Tileable) -> Margin:
    """`find_margin`; a large one is told in the host's log."""
    margin = find_margin(size, target, tileable)
    told = describe_margin(margin)
    if told:
        logging.info("Fidelity: %s", told)
    return margin


def load_upscale_model(name: str, domain: Domain, scale: float, backend: BackendChoice) -> tuple[Any, ModelChoice]:
    """Loads a model as the host's UPSCALE_MODEL, under the host's memory management.

    Args:
        name: One of `list_upscale_models`, or "auto".
        domain: The domain that "auto" chooses for.
        scale: The upscaling factor that "auto" chooses for.
        backend: The library that Upscale (Fidelity) runs it with; core's node uses PyTorch.

    Raises:
        ModelRefusedError: If the backend was named and is not installed.
    """
    check_backend(backend, compute_device())
    model, choice = choose_models(name).choose(RECIPES[domain], scale)
    descriptor: Any = accept_rgb(model)
    if getattr(descriptor, "patcher", None) is None:  # the host keeps account of one patcher a model
        descriptor.patcher = comfy.model_patcher.CoreModelPatcher(
            descriptor.model,
            load_device=comfy.model_management.get_torch_device(),
            offload_device=comfy.model_management.unet_offload_device(),
        )
    TorchNetwork(model.name, descriptor)  # gives it what copies share: measurements, private weights, converted networks
    chosen = copy.copy(descriptor)  # the name and the backend are this node's, the weights and their patcher everyone's
    chosen.fidelity_name, chosen.fidelity_backend = model.name, backend
    return chosen, choice


def prepare_model(upscale_model: Any, image: Tensor) -> tuple[Network, Compute]:
    """Has the host load an UPSCALE_MODEL, ours or core's, onto the compute device, with memory left to run it.

    Args:
        upscale_model: A spandrel image model with a patcher.
        image: The image it will run on, ``(B, C, H, W)``.

    Returns:
        The network, and where and with which backend it runs.
    """
    name = getattr(upscale_model, "fidelity_name", upscale_model.architecture.name)
    patcher = upscale_model.patcher
    device = patcher.load_device
    network = TorchNetwork(name, upscale_model)
    needed = estimate_memory(network, (image.shape[2], image.shape[3]), device)
    comfy.model_management.load_models_gpu([patcher], memory_required=needed, force_full_load=True)
    return network, Compute(device, backend=getattr(upscale_model, "fidelity_backend", AUTO_COMPUTE.backend))


def compute_device() -> torch.device:
    """The host's compute device."""
    return comfy.model_management.get_torch_device()


def make_room(models: Iterable[Network | None], image: Tensor) -> torch.device:
    """Has the host free memory on the compute device for networks that move there by themselves.

    Args:
        models: The networks; None and repeats are ignored.
        image: The image they will run on, ``(B, C, H, W)``.
    """
    device = comfy.model_management.get_torch_device()
    size, needed = (image.shape[2], image.shape[3]), 0
    for model in {id(model): model for model in models if model}.values():
        needed += model.weight_bytes + estimate_memory(model, size, device)
    comfy.model_management.free_memory(needed, device)
    return device


def track_stages() -> StageProgress:
    """`track_progress` for a pipeline of several stages."""
    report = track_progress()
    return lambda _stage, done, total: report(done, total)


def track_progress() -> Callable[[int, int], None]:
    """A callback for the node's progress bar; it raises once the user has canceled."""
    bar = comfy.utils.ProgressBar(1)

    def report(done: int, total: int) -> None:
        comfy.model_management.throw_exception_if_processing_interrupted()
        bar.update_absolute(done, total)

    return report


CALC_COND_BATCH = comfy.patcher_extension.WrappersMP.CALC_COND_BATCH
"""Wraps the host's model evaluation in a sampling step."""
PREPARE_SAMPLING = comfy.patcher_extension.WrappersMP.PREPARE_SAMPLING
"""Wraps the loading of models for a sampling run."""
ON_CLEANUP = comfy.patcher_extension.CallbacksMP.ON_CLEANUP
"""Called after a sampling run, however it ended."""

SAMPLERS: list[str] = comfy.samplers.KSampler.SAMPLERS
"""The host's samplers by name."""
SCHEDULERS: list[str] = comfy.samplers.KSampler.SCHEDULERS
"""The host's schedulers by name."""

_MEMORY_ROOM = 1.5  # the host's own safety factor


def resize_hint(hint: Tensor, width: int, height: int, method: str) -> Tensor:
    """Resizes a hint as the host does for a ControlNet."""
    return comfy.utils.common_upscale(hint, width, height, method, "center")


def count_tiles(model: Any, shape: tuple[int, ...], device: torch.device, most: int) -> int:
    """How many tiles of that shape fit in the device's free memory at once; one on a CPU, which gains nothing from more.

    Args:
        model: The host's model.
        shape: Shape of the latents of one tile, positive and negative together.
        device: Device that runs the model.
        most: Upper bound of the result.
    """
    if device.type == "cpu":
        return 1
    free = model.current_patcher.get_free_memory(device)
    return min(most, max(1, int(free / (_MEMORY_ROOM * model.memory_required(shape)))))


def refuse_caches(model_options: dict[str, Any]) -> None:
    """Raises if a cache would reuse one tile's output for another: EasyCache caches by prompt, not by tile."""
    cache = model_options.get("transformer_options", {}).get("easycache")
    if type(cache).__name__ == "EasyCacheHolder":
        raise RefusedError("EasyCache reuses the output of one tile for the next; remove it, or use LazyCache")


def fit_size_conditioning(model: Any, conds: Any, whole: tuple[int, int], size: tuple[int, int]) -> Any:
    """SDXL conditioning with the size of a tile instead of the whole image, unless a node has set a size.

    The model then generates each tile as a whole image of its size, as it was trained to.

    Args:
        model: The host's model.
        conds: Conditioning of a step, in the guider's order of positive, negative and others.
        whole: (height, width) of the latent.
        size: (height, width) of the tile in latent samples.
    """
    if not isinstance(model, comfy.model_base.SDXL | comfy.model_base.SDXLRefiner):
        return conds
    factor = pixels_per_latent(model)
    pixels = [(rows * factor, columns * factor) for rows, columns in (whole, size)]
    return [group and [_fit_size(model, cond, *pixels) for cond in group] for group in conds]


def _fit_size(model: Any, cond: dict[str, Any], whole: tuple[int, int], size: tuple[int, int]) -> dict[str, Any]:
    known = cond["model_conds"].get("y")
    if known is None or "width" in cond or "height" in cond or "unclip_conditioning" in cond:
        return cond

    def tell(kind: str, size: tuple[int, int]) -> Tensor:
        settings = {"prompt_type": kind, **cond, "device": known.cond.device, "height": size[0], "width": size[1]}
        return model.encode_adm(**settings).to(known.cond)

    # A step does not say which of its conds is negative, and the refiner's differ: pick the type that reproduces the vector.
    kind = next((kind for kind in ("positive", "negative") if torch.allclose(tell(kind, whole), known.cond)), None)
    if kind is None:
        return cond
    return {**cond, "model_conds": {**cond["model_conds"], "y": type(known)(tell(kind, size))}}


def pixels_per_latent(model: Any) -> int:
    """Image pixels per latent sample of the host's model, along each side."""
    if isinstance(model, comfy.model_base.SD_X4Upscaler):
        return 4  # its latent format says 8, inherited from its base model
    return int(model.latent_format.spacial_downscale_ratio)


def latents_per_patch(model: Any) -> int:
    """Latent samples per token of a diffusion transformer, along each side; 1 for other models."""
    patch = getattr(model.diffusion_model, "patch_size", 1)
    return int(patch[-1] if isinstance(patch, (tuple, list)) else patch)


def check_canceled() -> None:
    """Raises once the user has canceled."""
    comfy.model_management.throw_exception_if_processing_interrupted()


def raise_unless_out_of_memory(error: Exception) -> None:
    """Re-raises an error unless it is an out-of-memory error."""
    comfy.model_management.raise_non_oom(error)


def release_memory() -> None:
    """Gives freed memory back to the device."""
    comfy.model_management.soft_empty_cache()


def device_memory(device: torch.device) -> int:
    """Total memory of a device in bytes."""
    return int(comfy.model_management.get_total_memory(device))


def track_passes(model: Any, passes: int, steps: int) -> Callable[[int], Any]:
    """One progress bar over all passes, with the previews of the host's samplers.

    Returns:
        A function from a pass's index to the sampler callback for it.
    """
    bar = comfy.utils.ProgressBar(passes * steps)
    previewer = latent_preview.get_previewer(model.load_device, model.model.latent_format)

    def for_pass(index: int) -> Callable[[int, Tensor, Tensor, int], None]:
        def report(step: int, estimate: Tensor, _latent: Tensor, total: int) -> None:
            shown = previewer.decode_latent_to_preview_image("JPEG", estimate) if previewer else None
            bar.update_absolute(round((index + (step + 1) / total) * steps), passes * steps, shown)

        return report

    return for_pass


def sigma_at(model: Any, time: float) -> float:
    """The noise level of a MODEL at a time of its schedule, from 0 to 1; 1 is pure noise."""
    sampling = model.get_model_object("model_sampling")
    return min(float(sampling.percent_to_sigma(1 - time)), float(sampling.sigma_max))


def make_sampler(function: Callable[..., Tensor], options: dict[str, Any]) -> Any:
    """A SAMPLER of the host that runs a function, with options of its own."""
    return comfy.samplers.KSAMPLER(function, options)


def noise_source(latent: Tensor, seed: int | None) -> Callable[[float, float], Tensor]:
    """The noise that the host's ancestral samplers add to a latent in a run of that seed, step by step."""
    return comfy.k_diffusion.sampling.default_noise_sampler(latent, seed=seed)


def signal_of(model: Any) -> Callable[[float], float]:
    """How much of the clean latent a noisy one holds, by sigma, for the model as the host gives it to samplers.

    In flow models the two add up to 1; other models see latents to which noise was only added.
    """
    sampling = model.inner_model.model_patcher.get_model_object("model_sampling")
    return (lambda sigma: 1 - sigma) if isinstance(sampling, comfy.model_sampling.CONST) else (lambda sigma: 1.0)  # noqa: ARG005


def sample_latent(
    model: Any, latent: Tensor, conds: tuple[Any, Any], denoise: float, seed: int, settings: Any, callback: Any
) -> Tensor:
    """Runs the host's sampler on an encoded image.

    Args:
        model: MODEL.
        latent: The encoded image, as the VAE returned it.
        conds: Positive and negative conditioning.
        denoise: Fraction of the noise schedule to run, 0 to 1.
        seed: Seed of the noise.
        settings: steps, cfg, sampler and scheduler.
        callback: From `track_passes`.
    """
    latent = comfy.sample.fix_empty_latent_channels(model, latent)
    noise = comfy.sample.prepare_noise(latent, seed)
    return comfy.sample.sample(
        *(model, noise, settings.steps, settings.cfg, settings.sampler, settings.scheduler, *conds, latent),
        denoise=denoise,
        callback=callback,
        disable_pbar=True,
        seed=seed,
    )
