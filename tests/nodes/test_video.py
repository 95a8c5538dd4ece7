"""The video nodes in a real host."""

import json
from fractions import Fraction

import av
import pytest

from fidelity.video.source import VideoSource
from tests.clips import packets_of, stamps_of

LOAD = {"class_type": "FidelityLoadVideo", "inputs": {}}
UPSCALE = {
    "domain": "auto",
    "model_name": "auto",
    "restore": "off",
    "restore_strength": 0.0,
    "codec": "h264",
    "crf": -1,
    "steady": "auto",
    "hdr": "auto",
    "skip_duplicates": False,
    "target": "scale by",
    "target.scale": 2.0,
}


def saved(host, tmp_path, outputs, node="save"):
    place = outputs[node]["images"][0]
    path = tmp_path / place["filename"]
    query = "&".join(f"{key}={place[key]}" for key in ("filename", "subfolder", "type"))
    path.write_bytes(host.read(f"/view?{query}"))
    return path


def refusal_of(host, graph):
    status, _, messages = host.wait(host.start(graph))
    assert status == "error"
    return messages["execution_error"]["exception_message"]


def graph_of(name, **settings):
    return {
        "load": {"class_type": "FidelityLoadVideo", "inputs": {"file": name}},
        "info": {"class_type": "PreviewAny", "inputs": {"source": ["load", 2]}},
        "upscale": {"class_type": "FidelityVideoUpscale", "inputs": {"video": ["load", 0], **UPSCALE, **settings}},
        "report": {"class_type": "PreviewAny", "inputs": {"source": ["upscale", 1]}},
        "save": {
            "class_type": "SaveVideo",
            "inputs": {"video": ["upscale", 0], "filename_prefix": "made", "format": "auto", "codec": "auto"},
        },
    }


def test_a_video_goes_through_and_keeps_its_time_and_sound(host, tmp_path, make_clip):
    clip = make_clip(pts=[0, 3600, 7200, 12000, 15000, 18600], time_base=Fraction(1, 90000), has_sound=True)
    name = host.upload_file(clip.read_bytes(), "clip.mp4")
    outputs = host.run(graph_of(name))
    path = saved(host, tmp_path, outputs)
    assert VideoSource(path).info.size == (96, 128)
    assert stamps_of(path) == stamps_of(clip)
    assert packets_of(path, "audio") == packets_of(clip, "audio")
    info = json.loads(outputs["info"]["text"][0])
    assert (info["width"], info["height"], info["matrix"], info["bits"]) == (64, 48, "bt709", 8)
    lines = [json.loads(line) for line in outputs["report"]["text"][0].splitlines()]
    assert lines[-1]["frames"] == 6 and lines[-1]["drift"]["mean"] < 0.1
    assert outputs["upscale"]["fidelity"][0].startswith("✓ 128x96, 6 frames")
    assert outputs["load"]["fidelity"][0].startswith("· 64x48")


def test_a_video_of_images_and_a_trimmed_one_are_taken(host, tmp_path, make_clip):
    name = host.upload_file(make_clip(frames=10).read_bytes(), "clip2.mp4")
    graph = graph_of(name)
    graph["parts"] = {"class_type": "GetVideoComponents", "inputs": {"video": ["load", 0]}}
    graph["made"] = {"class_type": "CreateVideo", "inputs": {"images": ["parts", 0], "fps": 25.0}}
    graph["upscale"]["inputs"]["video"] = ["made", 0]
    assert len(stamps_of(saved(host, tmp_path, host.run(graph)))) == 10
    graph = graph_of(name)
    graph["trim"] = {
        "class_type": "Video Slice",
        "inputs": {"video": ["load", 0], "start_time": 0.2, "duration": 0.12, "strict_duration": False},
    }
    graph["upscale"]["inputs"]["video"] = ["trim", 0]
    assert len(stamps_of(saved(host, tmp_path, host.run(graph)))) == 3


def test_frames_of_any_upscaler_are_held_and_steadied(host, make_clip):
    name = host.upload_file(make_clip(frames=6).read_bytes(), "clip5.mp4")
    graph = {
        "load": {"class_type": "FidelityLoadVideo", "inputs": {"file": name}},
        "frames": {"class_type": "GetVideoComponents", "inputs": {"video": ["load", 0]}},
        "upscaled": {
            "class_type": "ImageScaleBy",
            "inputs": {"image": ["frames", 0], "upscale_method": "bilinear", "scale_by": 2},
        },
        "hold": {
            "class_type": "FidelityConsistency",
            "inputs": {"image": ["upscaled", 0], "reference": ["frames", 0], "mode": "color", "steady": "on"},
        },
        "gate": {
            "class_type": "FidelityDeltaEGate",
            "inputs": {
                "image": ["hold", 0],
                "reference": ["frames", 0],
                "action": "report",
                "mean_limit": 1.0,
                "max_limit": 3.0,
            },
        },
        "report": {"class_type": "PreviewAny", "inputs": {"source": ["gate", 2]}},
    }
    if host.has("cv2"):
        assert json.loads(host.run(graph)["report"]["text"][0])["before"]["mean"] < 0.1
    else:
        assert "steadying needs OpenCV" in refusal_of(host, graph)
    graph["hold"]["inputs"]["steady"] = "off"
    assert json.loads(host.run(graph)["report"]["text"][0])["before"]["mean"] < 0.1
    graph["hold"]["inputs"]["steady"] = "on"
    graph["first"] = {"class_type": "ImageFromBatch", "inputs": {"image": ["frames", 0], "batch_index": 0, "length": 1}}
    graph["hold"]["inputs"]["reference"] = ["first", 0]
    assert "6 frames and 1 sources; wanted one source for each frame" in refusal_of(host, graph)


def test_a_refusal_is_one_sentence(host, make_clip):
    name = host.upload_file(make_clip(frames=2).read_bytes(), "clip3.mp4")
    assert "prores has no such setting" in refusal_of(host, graph_of(name, codec="prores", crf=10))
    host.upload_file(b"no video", "text.mp4")
    assert "not a video" in refusal_of(host, graph_of("text.mp4"))


@pytest.mark.parametrize("codec", ["h265", "ffv1"])
def test_the_codec_is_that_of_the_result(codec, host, tmp_path, make_clip):
    name = host.upload_file(make_clip(frames=8).read_bytes(), "clip4.mp4")
    path = saved(host, tmp_path, host.run(graph_of(name, codec=codec)))
    with av.open(str(path)) as container:
        assert container.streams.video[0].codec_context.name == {"h265": "hevc", "ffv1": "ffv1"}[codec]
