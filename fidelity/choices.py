"""Choices and limits that need no engine, so that the command can import them without PyTorch."""

from typing import Literal

Domain = Literal["photo", "anime_flux", "anime_sd", "line_art", "painting"]
"""Domains of images."""

DomainChoice = Literal["auto", "photo", "anime_flux", "anime_sd", "line_art", "painting"]
"""A domain, or "auto" to detect it."""

DeviceName = Literal["auto", "cpu", "cuda", "mps"]
"""Devices to compute on."""

Precision = Literal["fp32", "bf16", "fp16", "int8"]
"""Numeric precision of a network."""

PrecisionChoice = Literal["auto", "fp32", "bf16", "fp16", "int8"]
"""A precision, or "auto" to let the device decide, which never takes int8."""

BackendChoice = Literal["auto", "torch", "openvino", "onnxruntime", "tensorrt"]
"""The library that runs networks; "auto" decides by measurement."""

SizePreset = Literal["web-2k", "720p", "1080p", "1440p", "4k", "8k", "print-a4-300dpi", "print-a3-300dpi"]
"""Sizes by name; see `fidelity.decide.target.PRESETS`."""

RestoreChoice = Literal["auto", "off", "denoise", "deblock"]
"""What is restored before the enlargement; "auto" lets the measured damage decide."""

GrainChoice = Literal["auto", "keep", "off"]
"""Whether the grain of film or paper that restoration removed is added back; "auto" does so where it is found."""

ColorSpace = Literal["source", "srgb"]
"""source: pixel values keep the color space of the embedded profile; srgb: they are converted to sRGB."""

HdrChoice = Literal["auto", "keep", "sdr"]
"""What becomes of PQ and HLG: "keep" preserves the signal; "sdr" tone maps it to sRGB, and so does "auto"."""

Tileable = Literal["off", "x", "y", "both"]
"""Whether an image repeats without a seam: across, down, in both directions, or not."""

ExistingChoice = Literal["refuse", "skip", "rename", "overwrite"]
"""What is done if a result's file exists: refuse the image, skip it, number the result's name, or replace the file."""

DEFAULT_EXISTING: ExistingChoice = "refuse"
"""Nothing is replaced unless asked for."""

MODEL_SUFFIXES = (".safetensors", ".pth", ".pt", ".ckpt", ".pb", ".onnx")
"""File extensions that the loader reads; .pth, .pt and .ckpt through PyTorch's tensors-only unpickler, .pb through OpenCV,
.onnx through ONNX Runtime."""

AUTO_SCALE = 4
"""Enlargement factor if neither a size nor a network is given."""

MIN_TILE_PX = 32
"""The smallest tile size that a user may set."""

VideoCodec = Literal["h265", "h264", "av1", "ffv1", "prores"]
"""What videos are encoded as; ffv1 loses nothing."""

DEFAULT_VIDEO_CODEC: VideoCodec = "h265"
"""Of the command and the library; the node takes h264, which browsers play."""

DEFAULT_CRF: dict[VideoCodec, int] = {"h265": 18, "h264": 17, "av1": 24}
"""Quality of encodings by codec, where a codec has such a setting; lower is better."""

Deinterlace = Literal["auto", "on", "off"]
"""Whether interlaced frames become progressive: those that are tagged so, all, or none."""

SteadyChoice = Literal["auto", "off"]
"""Whether added detail is steadied along motion; auto: where OpenCV is installed."""

VideoEncoder = Literal["cpu", "nvenc", "qsv", "videotoolbox"]
"""What encodes: software, or the hardware of NVIDIA, Intel or Apple."""
