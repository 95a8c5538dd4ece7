"""Profiles made of tables become sRGB as littleCMS does it, and in more than 8 bits."""

import io
import struct

import numpy as np
import pytest
import torch
from PIL import Image, ImageCms

from fidelity.files.icc import read_profile
from fidelity.files.icc_tables import read_table_profile, tables_to_srgb
from fidelity.files.read import read_image

P3 = np.array([[0.5151, 0.2920, 0.1571], [0.2412, 0.6922, 0.0666], [-0.0011, 0.0419, 0.7841]])
WHITE = np.array([0.9642, 1, 0.8249])
GAMMA = 1.8


def xyz_to_lab(xyz):
    ratio = xyz / WHITE
    roots = np.where(ratio > (6 / 29) ** 3, np.cbrt(np.maximum(ratio, 0)), ratio * 841 / 108 + 4 / 29)
    return np.stack(
        (116 * roots[..., 1] - 16, 500 * (roots[..., 0] - roots[..., 1]), 200 * (roots[..., 1] - roots[..., 2])), -1
    )


def lab_codes(xyz):
    return (xyz_to_lab(xyz) + np.array((0, 128, 128))) / np.array((100, 255, 255))


def colors_of_grid(grid, black=0.0):
    """XYZ of every point of a table, red slowest, of a device that shows no darker than a share of white."""
    axis = np.linspace(0, 1, grid)
    device = np.stack(np.meshgrid(axis, axis, axis, indexing="ij"), axis=-1)
    return black * WHITE + (1 - black) * device @ P3.T


def numbers(values, kind):
    white = np.iinfo(np.dtype(kind)).max
    return np.clip(np.round(values * white), 0, white).astype(kind).tobytes()


def old_tag(kind, black):
    grid, curve = 17, np.linspace(0, 1, 256) ** GAMMA
    codes = lab_codes(colors_of_grid(grid, black))
    if kind == "mft2":
        encoded, sample, sizes = codes * 65280 / 65535, ">u2", struct.pack(">2H", 256, 2)
        ends = numbers(np.tile([0.0, 1.0], 3), sample)
    else:
        encoded, sample, sizes = codes, ">u1", b""
        ends = numbers(np.tile(np.linspace(0, 1, 256), 3), sample)
    head = kind.encode() + bytes(4) + bytes((3, 3, grid, 0)) + struct.pack(">9i", *(65536 * np.eye(3, dtype=int)).ravel())
    return head + sizes + numbers(np.tile(curve, 3), sample) + numbers(encoded, sample) + ends


def new_tag(connection, black):
    """``mAB``: curves A, table of 16 bits, curves M, a matrix that does nothing, curves B."""
    grid = 17
    xyz = colors_of_grid(grid, black)
    encoded = lab_codes(xyz) if connection == b"Lab " else xyz * 32768 / 65535
    gamma = (b"para" + bytes(8) + struct.pack(">i", round(GAMMA * 65536))) * 3
    straight = (b"curv" + bytes(8)) * 3
    table = bytes((grid,) * 3 + (0,) * 13) + bytes((2, 0, 0, 0)) + numbers(encoded, ">u2")
    table += bytes(-len(table) % 4)
    matrix = struct.pack(">12i", *(65536 * np.eye(3, dtype=int)).ravel(), 0, 0, 0)
    parts, offsets, place = [straight, matrix, straight, table, gamma], [], 32
    for part in parts:
        offsets.append(place)
        place += len(part)
    return b"mAB " + bytes(4) + bytes((3, 3, 0, 0)) + struct.pack(">5I", *offsets) + b"".join(parts)


def table_profile(tag, connection=b"Lab ", version=2):
    text = b"desc" + bytes(4) + struct.pack(">I", 5) + b"test\0" + bytes(78 + 1)
    white = b"XYZ " + bytes(4) + struct.pack(">3i", *(round(value * 65536) for value in WHITE))
    parts = [(b"desc", text + bytes(-len(text) % 4)), (b"wtpt", white), (b"A2B0", tag + bytes(-len(tag) % 4))]
    place, index, body = 128 + 4 + 12 * len(parts), b"", b""
    for name, part in parts:
        index += struct.pack(">4sII", name, place + len(body), len(part))
        body += part
    size = place + len(body)
    head = struct.pack(">I4sB3x4s4s4s12s4s", size, bytes(4), version, b"scnr", b"RGB ", connection, bytes(12), b"acsp")
    head = (head + bytes(28)).ljust(68, b"\0") + struct.pack(">3i", *(round(value * 65536) for value in WHITE))
    return head.ljust(128, b"\0") + struct.pack(">I", len(parts)) + index + body


PROFILES = {
    "mft1": table_profile(old_tag("mft1", 0.0)),
    "mft2": table_profile(old_tag("mft2", 0.0)),
    "mft2, a black that is grey": table_profile(old_tag("mft2", 0.02)),
    "mAB, Lab": table_profile(new_tag(b"Lab ", 0.0035), version=4),
    "mAB, XYZ": table_profile(new_tag(b"XYZ ", 0.0035), b"XYZ ", version=4),
}


@pytest.mark.parametrize("name", PROFILES)
def test_it_agrees_with_littlecms_within_one_step(name):
    samples = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    samples[0, 0], samples[0, 1] = 0, 255
    source = ImageCms.ImageCmsProfile(io.BytesIO(PROFILES[name]))
    shown = ImageCms.profileToProfile(
        Image.fromarray(samples), source, ImageCms.createProfile("sRGB"), outputMode="RGB", flags=ImageCms.Flags.NOOPTIMIZE
    )
    expected = torch.from_numpy(np.asarray(shown).copy()).movedim(-1, 0)[None].float()
    ours = (
        tables_to_srgb(torch.from_numpy(samples).movedim(-1, 0)[None].float() / 255, read_table_profile(PROFILES[name])) * 255
    )
    difference = (ours - expected).abs()
    assert difference.max() <= 1.01
    assert difference.mean() < 0.4
    assert ours[0, :, 0, 1].min() > 253


def test_alpha_stays_and_more_than_256_levels_come_out():
    ramp = torch.linspace(0.25, 0.75, 2000).expand(1, 4, 1, -1).contiguous()
    shown = tables_to_srgb(ramp, read_table_profile(PROFILES["mft2"]))
    assert torch.equal(shown[:, 3], ramp[:, 3])
    assert len(shown[0, 0, 0].unique()) > 1900
    assert (shown[0, :3].diff(dim=-1) > 0).all()


def test_a_deep_file_with_such_a_profile_keeps_its_depth(tmp_path):
    from fidelity.files.tags import Extras
    from fidelity.files.write import Export, write_image

    path = tmp_path / "scan.tif"
    ramp = torch.linspace(0.25, 0.75, 2000).expand(1, 3, 4, -1).contiguous()
    write_image(path, ramp, Extras(icc_profile=PROFILES["mft2"]), Export(bits=16))
    source = read_image(path, color_space="srgb")
    assert source.icc_profile is None
    assert source.notes == ()
    assert len(source.image[0, 0, 0].unique()) > 1900


@pytest.mark.parametrize("cut", [0, 130, 200, 400, 3000])
def test_a_damaged_profile_is_none(cut):
    assert read_table_profile(PROFILES["mft2"][:cut]) is None


def test_a_profile_of_curves_and_a_matrix_is_none_here_and_one_of_tables_is_none_there(display_p3):
    assert read_table_profile(display_p3) is None
    assert read_profile(PROFILES["mft2"]) is None
