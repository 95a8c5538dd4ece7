"""Faces are redrawn where they are said to be, with their colours, and nowhere else."""

import pytest
import torch
from safetensors.torch import save_file
from spandrel.architectures.GFPGAN import GFPGAN
from spandrel.architectures.RestoreFormer import RestoreFormer
from spandrel_extra_arches.architectures.CodeFormer import CodeFormer

from fidelity.imaging.drift import measure_drift
from fidelity.imaging.resample import resize
from fidelity.networks.loader import load_model
from fidelity.networks.runner import ModelOutputError
from fidelity.steps.faces import FACE_PX, Box, find_boxes, parse_boxes, restore_faces

FACE = Box(30, 25, 30, 40)


@pytest.fixture
def striper(faulty):
    """A network that shifts all colours and draws stripes four pixels wide, which lie beyond what colours are held at."""

    def draw(_, image):
        stripes = (torch.arange(image.shape[3]) // 4 % 2) * 0.2 - 0.1
        return (image + stripes + 0.1).clamp(0, 1)

    return faulty(draw, scale=1)


def test_what_lies_outside_the_square_stays_to_the_bit_and_inside_is_redrawn(striper, photo):
    result = restore_faces(photo, striper, [FACE], margin=0.1)
    square = FACE.square(0.1)
    assert square == Box(21, 21, 48, 48)
    changed = (result - photo).abs().amax(dim=1)[0]
    assert changed[28:60, 28:60].max() > 0.03
    changed[21:69, 21:69] = 0
    assert changed.max() == 0


def test_colors_are_those_of_before(striper, photo):
    big = resize(photo, (384, 448)).clamp(0, 1)
    box = Box(100, 100, 200, 200)
    result = restore_faces(big, striper, [box])
    small = (96, 112)
    shifted = measure_drift(resize(big, small), resize((big + 0.1).clamp(0, 1), small)).mean
    assert measure_drift(resize(big, small), resize(result, small)).mean < 0.05 * shifted


def test_the_network_sees_a_square_of_its_size_with_the_border_repeated(striper, photo):
    restore_faces(photo, striper, [Box(0, 0, 20, 20), Box(90, 70, 22, 26)])
    assert [shape for shape, _ in striper.descriptor.model.calls] == [(1, 3, FACE_PX, FACE_PX)] * 2


def test_mask_and_strength_say_how_much_is_taken(striper, photo):
    mask = torch.zeros(1, 1, *photo.shape[2:])
    mask[..., :50] = 1
    whole = restore_faces(photo, striper, [FACE])
    masked = restore_faces(photo, striper, [FACE], mask)
    assert torch.equal(masked[..., 50:], photo[..., 50:])
    assert torch.allclose(masked[..., :50], whole[..., :50], atol=1e-6)
    half = restore_faces(photo, striper, [FACE], strength=0.5)
    assert torch.allclose(half, (whole + photo) / 2, atol=1e-6)


@pytest.mark.parametrize("channels", [1, 4])
def test_grey_transparency_and_batches_are_kept(striper, random_image, channels):
    image = random_image(2, channels, 60, 70)
    seen = []
    result = restore_faces(image, striper, [Box(10, 10, 30, 30)], progress=lambda done, total: seen.append((done, total)))
    assert result.shape == image.shape
    assert torch.equal(result[:, 3:], image[:, 3:])
    assert (result[:, :3] != image[:, :3]).any(dim=1).flatten(1).any(dim=1).all()
    assert seen == [(1, 1)]


FACE_NETWORKS = {
    "RestoreFormer": lambda: RestoreFormer(
        ch=32, z_channels=32, embed_dim=32, n_embed=8, num_res_blocks=1, ch_mult=(1, 1, 1, 1, 1, 1), attn_resolutions=(16,)
    ),
    "CodeFormer": lambda: CodeFormer(dim_embd=64, n_head=2, n_layers=1),
}


@pytest.mark.parametrize("name", FACE_NETWORKS)
def test_real_architectures_draw_faces(name, tmp_path, photo):
    torch.manual_seed(0)
    state = FACE_NETWORKS[name]().state_dict()
    save_file({key: value.clone().contiguous() for key, value in state.items()}, tmp_path / "face.safetensors")
    model = load_model(tmp_path / "face.safetensors")
    assert model.architecture == name
    assert (restore_faces(photo, model, [FACE]) != photo).any()


def test_gfpgan_weights_load_and_are_bound_like_any_others(tmp_path):
    torch.manual_seed(0)
    save_file({key: value.clone() for key, value in GFPGAN().state_dict().items()}, tmp_path / "gfpgan.safetensors")
    model = load_model(tmp_path / "gfpgan.safetensors")
    assert model.architecture == "GFPGAN"
    bound = model.to(torch.device("cpu"), "fp32")
    assert bound.run(torch.rand(1, 3, FACE_PX, FACE_PX)).shape == (1, 3, FACE_PX, FACE_PX)


def test_areas_of_a_mask_are_faces_largest_first():
    mask = torch.zeros(1, 1, 300, 400)
    mask[..., 20:60, 30:60] = 1
    mask[..., 100:200, 250:330] = 0.8
    mask[..., 250:255, 10:300] = 1  # too low to be a face
    mask[..., 220:240, 10:40] = 0.4
    assert find_boxes(mask) == [Box(250, 100, 80, 100), Box(30, 20, 30, 40)]
    assert find_boxes(torch.zeros(1, 1, 9, 9)) == []


def test_boxes_are_read_as_people_write_them():
    assert parse_boxes("1, 2, 30, 40\n\n 5 6 70 80; 9,9,10,10") == [Box(1, 2, 30, 40), Box(5, 6, 70, 80), Box(9, 9, 10, 10)]
    assert parse_boxes(" ") == []
    with pytest.raises(ValueError, match="'1, 2, 3' is not a box; wanted left, top, width, height"):
        parse_boxes("1, 2, 3")


@pytest.mark.parametrize(
    ("boxes", "words"),
    [
        ([], "no faces given; wanted boxes"),
        ([Box(100, 0, 20, 20)], "face of 20x20 px at 100, 0 is outside the image; wanted it within 112x96"),
        ([Box(0, 0, 20, 7)], "is too small; wanted at least 8"),
    ],
)
def test_boxes_that_cannot_be_faces_are_refused(striper, photo, boxes, words):
    with pytest.raises(ValueError, match=words):
        restore_faces(photo, striper, boxes)


def test_other_networks_masks_of_another_size_and_broken_numbers_are_refused(faulty, striper, photo):
    with pytest.raises(ValueError, match="enlarges by 2; wanted a network at x1"):
        restore_faces(photo, faulty(), [FACE])
    with pytest.raises(ValueError, match="mask is 5x4 px; wanted 112x96"):
        restore_faces(photo, striper, [FACE], torch.ones(1, 1, 4, 5))
    with pytest.raises(ValueError, match="2 masks for 1 images"):
        restore_faces(photo, striper, [FACE], torch.ones(2, 1, *photo.shape[2:]))
    with pytest.raises(ModelOutputError, match="not finite"):
        restore_faces(photo, faulty(lambda _, image: image * torch.nan, scale=1), [FACE])
