"""Reads from an image file's metadata where the picture came from: a generator, a camera or a drawing program.

Supported are the text chunks and EXIF of ComfyUI, A1111 and Forge, InvokeAI, NovelAI, SwarmUI and others, camera EXIF, software
tags, and the presence of content credentials (C2PA). All of it counts as a hint, never as proof.
"""

import json
import re
from dataclasses import dataclass, field
from typing import Any, Literal

from .generation_graphs import Generation, read_prompt_graph, read_workflow_graph

Family = Literal["flux", "sd", "other"]
"""What generated an image: a model of the FLUX.1 family, of the Stable Diffusion family, or another one."""

Style = Literal["drawn", "photo", "painting"]
"""The style that a prompt or a checkpoint's name suggests."""

_FLUX_NAMES = re.compile(r"flux|chroma(?!key)|schnell|kontext", re.IGNORECASE)
_OTHER_NAMES = re.compile(
    r"qwen|z[-_ ]?image|hunyuan|\bwan[-_ .]?2|hidream|pixart|kolors|lumina|auraflow|sd[-_ ]?3|stable[-_ ]?diffusion[-_ ]?3"
    r"|cascade|dall|midjourney|imagen|firefly|gpt|gemini|krea|cosmos|omnigen|ideogram|recraft",
    re.IGNORECASE,
)
_DRAWN_MODELS = re.compile(
    r"anime|animagine|animatrix|anything|counterfeit|pony|illustrious|noob|\bwai|hassaku|meina|toon|cetus|pastel|orange"
    r"|aom\d|waifu|novelai|\bnai|niji|manga|ghibli|comic|hentai|any[vl]|dorayaki|abyss|holo|kawaii|2\.5d|2d",
    re.IGNORECASE,
)
_PHOTO_MODELS = re.compile(
    r"realis|photo|epic[-_ ]?real|juggernaut|cyberreal|analog|absolute[-_ ]?real|realvis|\breal[-_ ]?vis", re.IGNORECASE
)
_PHOTO_WORDS = re.compile(
    r"\bphoto\b|photograph|photoreal|\bdslr\b|\b\d{2,3} ?mm\b|raw photo|film grain|bokeh|iphone|kodak|fujifilm", re.IGNORECASE
)
_DRAWN_WORDS = re.compile(
    r"anime|manga|\b\d?(girls?|boys?), |cel[- ]shad|ghibli|cartoon|comic|illustrat|chibi|line ?art|visual novel|masterpiece"
    r"|pixel art|sticker|vector|mascot|sprite|flat color|hatsune",
    re.IGNORECASE,
)
_PAINTING_WORDS = re.compile(
    r"oil painting|watercolou?r|impasto|gouache|painting (of|by)|acrylic|brush ?strokes", re.IGNORECASE
)
_DRAWING_PROGRAMS = re.compile(
    r"krita|mypaint|clip studio|celsys|comicstudio|painttool|\bsai\b|medibang|procreate|paintstorm|corel painter|opencanvas"
    r"|fire ?alpaca|ibis ?paint|inkscape|illustrator|toon ?boom|opentoonz|aseprite|artrage|pixia|artweaver",
    re.IGNORECASE,
)
_MODEL_IN_PARAMETERS = re.compile(r"(?:^|, )(?:Model|Unet): ([^,\n]+)")
_JSON_KEYWORDS = ("invokeai_metadata", "sd-metadata", "generation_data", "parameters", "UserComment", "Comment")
_MODEL_KEYS = (
    *("model", "base_model", "Model", "model_name", "model_weights"),
    *("use_stable_diffusion_model", "baseModel", "base_model_name"),
)
_SHORTEST_FIELD = 2
_LONGEST_NAME = 200


@dataclass(frozen=True)
class Provenance:
    """What a file says about the origin of its picture."""

    family: Family | None = None
    """Family of the model that generated it; None if nothing says that one did."""
    style: Style | None = None
    """The style that its prompt or checkpoint suggests."""
    camera: str | None = None
    """Make and model of the camera that took it."""
    program: str | None = None
    """The drawing program that saved it."""
    evidence: tuple[str, ...] = ()
    """All of this as readable text, the most telling first."""


@dataclass
class _Found:
    evidence: list[str] = field(default_factory=list[str])
    family: Family | None = None
    style: Style | None = None

    def generated(self, program: str, generation: Generation) -> None:
        """Records a generation unless one was recorded before; the most telling format is read first."""
        if self.family is not None:
            return
        names = _one_line(", ".join(generation.models)) or "an unnamed model"
        self.family = family_of(generation)
        self.style = style_of(generation)
        said = f"generated with {names} ({_FAMILY_WORDS[self.family]}), according to {program}"
        if self.style:
            said += f"; the model or prompt suggests a {_STYLE_WORDS[self.style]}"
        self.evidence.append(said)


_FAMILY_WORDS: dict[Family, str] = {"flux": "FLUX family", "sd": "Stable Diffusion family", "other": "another family"}
_STYLE_WORDS: dict[Style, str] = {"drawn": "drawing", "photo": "photograph", "painting": "painting"}


def interpret(texts: dict[str, str], exif: dict[str, str], credentials: bool = False) -> Provenance:
    """Interprets a file's text chunks and EXIF.

    Args:
        texts: Text chunks by keyword; EXIF's UserComment under "UserComment".
        exif: Tags by name.
        credentials: Whether content credentials (C2PA) are present.
    """
    found = _Found()
    _read_comfyui(texts, exif, found)
    _read_json(texts, exif, found)
    _read_parameters(texts, exif, found)
    if found.family is None and any("trainedAlgorithmicMedia" in text for text in texts.values()):
        found.family = "other"
        found.evidence.append("the metadata declares that a trained algorithm generated it")
    if found.family is None and any(_is_damaged(texts.get(name)) for name in ("prompt", "workflow", *_JSON_KEYWORDS)):
        found.evidence.append("metadata that is damaged or nested too deeply was ignored")
    camera = _read_camera(exif) if found.family is None else None
    if camera:
        found.evidence.append(f"taken with {_one_line(camera)}, according to EXIF")
    program = _read_program(texts, exif)
    if program:
        found.evidence.append(f"saved by {_one_line(program)}, a drawing program")
    if credentials:
        found.evidence.append("has content credentials (C2PA)")
    return Provenance(found.family, found.style, camera, program, tuple(found.evidence))


def _one_line(text: str) -> str:
    """A file's own words for a message: one line of bounded length."""
    words = " ".join(text.split())
    return words if len(words) <= _LONGEST_NAME else f"{words[:_LONGEST_NAME]}…"


def family_of(generation: Generation) -> Family:
    """Returns the model family of a generation, from its model names or its nodes."""
    names = " ".join(generation.models)
    if _FLUX_NAMES.search(names):
        return "flux"
    if _OTHER_NAMES.search(names):
        return "other"
    return "flux" if not names and generation.flux_nodes else "sd"


def style_of(generation: Generation) -> Style | None:
    """Returns the intended style of a generation, from its model's name or else from its prompt."""
    names = " ".join((*generation.models, *generation.loras))
    if _DRAWN_MODELS.search(names):
        return "drawn"
    if _PHOTO_MODELS.search(names):
        return "photo"
    counts: dict[Style, int] = {
        "drawn": len(_DRAWN_WORDS.findall(generation.prompt)),
        "painting": len(_PAINTING_WORDS.findall(generation.prompt)),
        "photo": len(_PHOTO_WORDS.findall(generation.prompt)),
    }
    best = max(counts, key=lambda style: counts[style])
    return best if counts[best] and list(counts.values()).count(counts[best]) == 1 else None


def _read_comfyui(texts: dict[str, str], exif: dict[str, str], found: _Found) -> None:
    """Reads ComfyUI's graphs: PNG text chunks, or EXIF's Make and Model in WebP and other formats."""
    prompt, workflow = texts.get("prompt"), texts.get("workflow")
    for value in exif.values():
        head, _, rest = value.partition(":")
        if head == "prompt" and rest.lstrip().startswith("{"):
            prompt = prompt or rest
        if head == "workflow" and rest.lstrip().startswith("{"):
            workflow = workflow or rest
    for text, read in ((prompt, read_prompt_graph), (workflow, read_workflow_graph)):
        content = _parse(text)
        generation = read(content) if content else None
        if generation:
            found.generated("its ComfyUI graph", generation)


def _read_json(texts: dict[str, str], exif: dict[str, str], found: _Found) -> None:
    """Reads the JSON of InvokeAI, SwarmUI, NovelAI, Fooocus, mflux and others."""
    if "NovelAI" in texts.get("Software", "") or "NovelAI" in exif.get("Software", ""):
        prompt = texts.get("Description", "") or exif.get("ImageDescription", "")
        found.generated("NovelAI", Generation((f"NovelAI {texts.get('Source', '')}".strip(),), (), prompt, False))
    for keyword in _JSON_KEYWORDS:
        content = _parse(texts.get(keyword))
        if not content:
            continue
        swarm = content.get("sui_image_params")
        if isinstance(swarm, dict):
            content = swarm
        models = _find_models(content)
        if models:
            prompt = next((str(content[key]) for key in ("positive_prompt", "prompt", "Prompt") if key in content), "")
            program = {"invokeai_metadata": "InvokeAI", "sd-metadata": "InvokeAI"}.get(keyword, "its metadata")
            found.generated("SwarmUI" if swarm else program, Generation(tuple(models), (), prompt, False))


def _find_models(content: dict[str, Any]) -> list[str]:
    """Returns the names of the main model in a JSON description, whatever the field is called."""
    names: list[str] = []
    for key in _MODEL_KEYS:
        value = content.get(key)
        if isinstance(value, dict):
            parts = (value.get(part) for part in ("name", "model_name", "base", "base_model"))
            names += [part for part in parts if isinstance(part, str)]
        elif isinstance(value, str) and len(value) >= _SHORTEST_FIELD:
            names.append(value)
    return list(dict.fromkeys(names))


def _read_parameters(texts: dict[str, str], exif: dict[str, str], found: _Found) -> None:
    """Reads the text that A1111, Forge and similar programs write: prompt, negative prompt, then settings."""
    for text in (texts.get("parameters"), texts.get("UserComment"), exif.get("ImageDescription"), texts.get("Dream")):
        if not text or not re.search(r"\bSteps: \d+|--?steps? \d+|\b-s ?\d+", text):
            continue
        settings = text[text.rfind("Steps:") :]
        model = _MODEL_IN_PARAMETERS.search(settings)
        resource = _find_resource(settings)
        prompt = text.split("Negative prompt:")[0].split("\nSteps:")[0]
        flux = "Distilled CFG Scale" in settings  # Forge writes it only for FLUX
        models = tuple(match[1].strip() for match in (model, resource) if match)
        loras = tuple(re.findall(r"<lora:([^:>]+)", prompt))
        found.generated("its generation parameters", Generation(models, loras, prompt, flux))


def _find_resource(settings: str) -> re.Match[str] | None:
    """The checkpoint among the resources that Civitai writes, as flat JSON objects."""
    for part in settings.split("}"):
        _, found, rest = part.partition('"type":"checkpoint"')
        name = re.search(r'"modelName":"([^"]+)"', rest) if found else None
        if name:
            return name
    return None


def _read_camera(exif: dict[str, str]) -> str | None:
    make, model = (exif.get(tag, "").strip("\x00 ") for tag in ("Make", "Model"))
    if not make and not model:
        return None
    return model if model.lower().startswith(make.lower()) else f"{make} {model}"


def _read_program(texts: dict[str, str], exif: dict[str, str]) -> str | None:
    for text in (exif.get("Software", ""), texts.get("Software", ""), texts.get("Comment", ""), texts.get("comment", "")):
        if _DRAWING_PROGRAMS.search(text):
            return text.strip("\x00 \n")[:60]
    packet = texts.get("xmp") or texts.get("XML:com.adobe.xmp") or ""
    tool = re.search(r"CreatorTool[>=]\"?([^<\"]+)", packet)
    return tool[1][:60] if tool and _DRAWING_PROGRAMS.search(tool[1]) else None


def _is_damaged(text: str | None) -> bool:
    return bool(text and re.match(r'\s*\{\s*["}]', text)) and _parse(text) is None


def _parse(text: str | None) -> dict[str, Any] | None:
    if not text or not text.lstrip().startswith("{"):
        return None
    try:
        content = json.loads(text)  # NaN, which ComfyUI writes into its graphs, is read too
    except (ValueError, RecursionError):
        return None
    return content if isinstance(content, dict) else None
