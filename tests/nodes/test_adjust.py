"""What is done between file and enlargement, in a real ComfyUI: as the engine does it, and nothing by itself."""

from pathlib import Path

import pytest
import torch

from fidelity.files.read import read_image
from fidelity.steps.balance import Balance, Grade, balance, grade
from fidelity.steps.cleanup import clean
from fidelity.steps.enhance import enhance
from fidelity.steps.geometry import KNOWN_LENSES, Lens, correct_geometry

PREPARE = {
    "restore": "auto",
    "restore_strength": 0.0,
    "deband": "auto",
    "auto_exposure": False,
    "exposure_ev": 0.0,
    "white_balance": "off",
    "white_strength": 1.0,
    "white_limit": 1.5,
    "lens": "by k1 and k2",
    "lens_k1": 0.0,
    "lens_k2": 0.0,
    "corners": "0,0 1,0 1,1 0,1",
}
CLEANUP = {"method": "auto", "channels": "luma", "strength": 1.0}
ENHANCE = {
    "strength": 0.15,
    "min_strength": 0.05,
    "max_strength": 0.15,
    "sigma": 0.8,
    "edge_threshold": 0.08,
    "max_chroma_variance": 800.0,
    "min_edge_density": 0.05,
    "min_chroma_factor": 0.3,
    "min_edge_factor": 0.5,
    "mean_limit": 1.0,
    "max_limit": 3.0,
}
GRADE = {"black": 0.0, "white": 1.0, "gamma": 1.0, "contrast": 1.0, "saturation": 1.0}
WITH_REPORT = {"FidelityPrepare": 1, "FidelityCleanup": 1, "FidelityEnhance": 2}


def node(kind, **inputs):
    return {"class_type": kind, "inputs": inputs}


def through(host, image, kind, **inputs):
    """The image after a node, from a file of 16 bits, and the node's report."""
    graph = {
        "1": node("LoadImage", image=host.upload(image)),
        "2": node(kind, image=["1", 0], **inputs),
        "3": node(
            "FidelitySaveImage",
            images=["2", 0],
            filename_prefix="prepared",
            format="png",
            color_space="srgb",
            size_suffix=False,
            keep_gps=True,
            embed_workflow=False,
            **{"format.bits": "16"},
        ),
        "4": node("PreviewAny", source=["3", 0]),
        "5": node("PreviewAny", source=["2", WITH_REPORT.get(kind, 0)]),
    }
    outputs = host.run(graph)
    return read_image(Path(outputs["4"]["text"][0])).image, outputs["5"]["text"][0]


@pytest.fixture
def stored(photo):
    """The photo as eight bits keep it."""
    return (photo * 255).round() / 255


def same(first, second):
    return (first - second).abs().max() < 1e-3


def test_a_clean_photo_is_prepared_by_leaving_it_alone(host, stored):
    result, report = through(host, stored, "FidelityPrepare", **PREPARE)
    assert same(result, stored)
    assert report == ""


def test_measured_noise_is_restored_and_reported(host, stored):
    noisy = (stored + torch.randn(stored.shape, generator=torch.Generator().manual_seed(0)) * 0.06).clamp(0, 1)
    noisy = torch.nn.functional.interpolate(noisy, scale_factor=3, mode="nearest")
    noisy = (noisy * 0.2 + 0.4 + torch.randn(noisy.shape, generator=torch.Generator().manual_seed(1)) * 0.05).clamp(0, 1)
    result, report = through(host, noisy, "FidelityPrepare", **PREPARE)
    assert "restore denoise: damage rated" in report
    assert result.diff(dim=3).abs().mean() < 0.7 * noisy.diff(dim=3).abs().mean()


def test_light_and_geometry_are_the_engines(host, stored):
    changes = {"exposure_ev": -0.5, "white_balance": "grey_world", "lens_k1": -0.1, "corners": "0.1,0 1,0.1 0.9,1 0,0.9"}
    result, report = through(host, stored, "FidelityPrepare", **(PREPARE | changes))
    expected, _ = balance(stored, Balance(-0.5, "grey_world"))
    expected = correct_geometry(expected, Lens(-0.1), ((0.1, 0), (1, 0.1), (0.9, 1), (0, 0.9)))
    assert same(result, expected)
    assert "light multiplied by" in report and "lens k1 -0.1" in report


def test_a_known_lens_takes_the_place_of_coefficients(host, stored):
    result, _ = through(host, stored, "FidelityPrepare", **(PREPARE | {"lens": "Huawei P30 Pro, ultra-wide", "lens_k1": -0.1}))
    assert same(result, correct_geometry(stored, KNOWN_LENSES["Huawei P30 Pro, ultra-wide"]))


@pytest.mark.parametrize("loader", ["UpscaleModelLoader", "FidelityLoadUpscaleModel"])
def test_a_connected_network_restores(host, photo, loader):
    graph = {
        "1": node("LoadImage", image=host.upload(photo)),
        "7": node(loader, model_name="restores.safetensors"),
        "2": node("FidelityPrepare", image=["1", 0], restore_model=["7", 0], **(PREPARE | {"restore": "denoise"})),
        "5": node("PreviewAny", source=["2", 1]),
    }
    assert host.run(graph)["5"]["text"][0].startswith("restore denoise: chosen by the user, by ")


def test_a_network_that_enlarges_restores_nothing(host, photo):
    graph = {
        "1": node("LoadImage", image=host.upload(photo)),
        "7": node("UpscaleModelLoader", model_name="small.safetensors"),
        "2": node("FidelityPrepare", image=["1", 0], restore_model=["7", 0], **(PREPARE | {"restore": "denoise"})),
        "3": node("PreviewImage", images=["2", 0]),
    }
    status, _, messages = host.wait(host.start(graph))
    assert status == "error"
    assert "wanted a network of scale 1 to restore with" in messages["execution_error"]["exception_message"]


@pytest.mark.parametrize(
    ("method", "inputs"),
    [
        ("bilateral", {"method.radius": 2, "method.sigma": 1.2, "method.range": 6.0}),
        ("guided", {"method.radius": 2, "method.range": 6.0}),
        ("median", {"method.radius": 1}),
        ("antialias", {"method.along": 1.5}),
        ("unsharp", {"method.sigma": 1.0, "method.amount": 0.5, "method.threshold": 2.0, "method.halo": 0.0}),
    ],
)
def test_each_way_of_cleaning_is_the_engines(host, stored, method, inputs):
    result, report = through(host, stored, "FidelityCleanup", **(CLEANUP | {"method": method} | inputs))
    assert same(result, clean(stored, method))
    assert report == f"{method}: chosen by the user"


def test_cleaning_by_itself_leaves_what_needs_none(host, stored):
    soft = (torch.nn.functional.avg_pool2d(stored, 7, stride=1, padding=3, count_include_pad=False) * 255).round() / 255
    result, report = through(host, soft, "FidelityCleanup", **CLEANUP)
    assert same(result, soft)
    assert report.startswith("nothing to clean")


def test_a_mask_of_another_size_is_refused_in_one_line(host, photo):
    graph = {
        "1": node("LoadImage", image=host.upload(photo)),
        "6": node("SolidMask", value=1.0, width=8, height=8),
        "2": node("FidelityCleanup", image=["1", 0], mask=["6", 0], **(CLEANUP | {"method": "median", "method.radius": 1})),
        "3": node("PreviewImage", images=["2", 0]),
    }
    status, _, messages = host.wait(host.start(graph))
    assert status == "error"
    assert "mask has shape (1, 1, 8, 8); wanted the size of the image" in messages["execution_error"]["exception_message"]


def test_enhancing_is_the_engines_and_says_why(host, stored):
    result, report = through(host, stored, "FidelityEnhance", **ENHANCE)
    expected = enhance(stored)
    assert same(result, expected.image)
    assert report.startswith(expected.reason)


def test_grading_is_the_engines_and_neutral_by_itself(host, stored):
    assert same(through(host, stored, "FidelityGrade", **GRADE)[0], stored)
    result, _ = through(host, stored, "FidelityGrade", **(GRADE | {"contrast": 1.3, "saturation": 0.5, "black": 0.05}))
    assert same(result, grade(stored, Grade(black=0.05, contrast=1.3, saturation=0.5)))


def test_the_nodes_defaults_are_the_engines(host):
    for kind, settings in (("FidelityPrepare", PREPARE), ("FidelityEnhance", ENHANCE), ("FidelityGrade", GRADE)):
        inputs = host.get(f"/object_info/{kind}")[kind]["input"]["required"]
        shown = {name: spec[1]["default"] for name, spec in inputs.items() if "default" in spec[1]}
        assert shown == settings


@pytest.mark.parametrize("corners", ["0,0 1,0 1,1", "a,b 1,0 1,1 0,1", "0,0,0 1,0 1,1 0,1"])
def test_corners_that_are_none_are_refused_in_one_line(host, photo, corners):
    graph = {
        "1": node("LoadImage", image=host.upload(photo)),
        "2": node("FidelityPrepare", image=["1", 0], **(PREPARE | {"corners": corners})),
        "3": node("PreviewImage", images=["2", 0]),
    }
    status, _, messages = host.wait(host.start(graph))
    assert status == "error"
    assert "wanted four pairs as in 0,0 1,0 1,1 0,1" in messages["execution_error"]["exception_message"]


def test_faces_are_redrawn_by_a_network_of_the_hosts_loader(host, photo):
    torch.manual_seed(0)
    graph = {
        "1": node("LoadImage", image=host.upload(photo)),
        "2": node("UpscaleModelLoader", model_name="face.safetensors"),
        "3": node(
            "FidelityRestoreFaces", image=["1", 0], face_model=["2", 0], boxes="30, 25, 30, 40", strength=1.0, margin=0.1
        ),
        "4": node("SaveImage", images=["3", 0], filename_prefix="face"),
    }
    shown = host.fetch(host.run(graph), "4")
    changed = (shown - (photo * 255).round() / 255).abs().amax(dim=1)[0]
    assert changed[30:60, 30:60].max() > 0.02
    changed[21:69, 21:69] = 0
    assert changed.max() < 1.01 / 255
    graph["3"]["inputs"] |= {"boxes": "", "bboxes": ["5", 0]}
    graph["5"] = node("PrimitiveBoundingBox", x=30, y=25, width=30, height=40)
    assert torch.equal(host.fetch(host.run(graph), "4"), shown)
    graph["5"]["inputs"] |= {"width": 4}
    assert (host.fetch(host.run(graph), "4") - (photo * 255).round() / 255).abs().max() < 1.01 / 255
    del graph["3"]["inputs"]["bboxes"]
    status, _, messages = host.wait(host.start(graph))
    assert status == "error"
    assert "no faces given; wanted boxes" in messages["execution_error"]["exception_message"]
