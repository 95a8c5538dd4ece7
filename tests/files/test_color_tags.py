"""Colors told by other tags than a profile: kept or converted, whatever tells them; high dynamic range is tone mapped."""

import struct
import zlib

import numpy as np
import pytest
import torch
from PIL import Image, ImageCms
from skimage.color import deltaE_ciede2000, rgb2lab

from fidelity.files.color_tags import make_profile, to_xyz
from fidelity.files.icc import read_profile
from fidelity.files.png import make_chunk
from fidelity.files.read import read_image
from fidelity.files.tone import tone_map
from fidelity.imaging.hdr import WideSignal

P3 = (0.680, 0.320, 0.265, 0.690, 0.150, 0.060, 0.3127, 0.3290)
SRGB = (0.640, 0.330, 0.300, 0.600, 0.150, 0.060, 0.3127, 0.3290)
ADOBE = (0.64, 0.33, 0.21, 0.71, 0.15, 0.06, 0.3127, 0.3290)


@pytest.fixture
def scene():
    """Colors of a scene as sRGB, (48, 64, 3): a ramp of greys, and colors inside all gamuts used here."""
    rows, columns = np.mgrid[0:48, 0:64]
    mixed = np.stack((rows / 47, columns / 63, 1 - rows / 94 - columns / 126), axis=2)
    return (0.1 + 0.7 * mixed).clip(0, 1)


def to_light(srgb):
    return np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)


def to_code(light):
    return np.where(light <= 0.0031308, 12.92 * light, 1.055 * np.maximum(light, 0) ** (1 / 2.4) - 0.055)


def in_primaries(srgb, primaries):
    return to_light(srgb) @ (np.linalg.inv(to_xyz(primaries)) @ to_xyz(SRGB)).T


def to_pq(nits):
    power = (nits / 10_000) ** (2610 / 16384)
    return ((3424 / 4096 + 2413 / 128 * power) / (1 + 2392 / 128 * power)) ** (2523 / 32)


def save_png(path, samples, chunks, bits=8):
    """A PNG with chunks of its own; samples (H, W, C) in [0, 1]."""
    height, width, channels = samples.shape
    whole = np.round(samples.clip(0, 1) * (2**bits - 1)).astype(">u2" if bits == 16 else "u1")
    lines = b"".join(b"\0" + line.tobytes() for line in whole)
    head = make_chunk(b"IHDR", struct.pack(">2I5B", width, height, bits, {1: 0, 3: 2}[channels], 0, 0, 0))
    body = b"".join(make_chunk(name, data) for name, data in chunks.items())
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + head + body + make_chunk(b"IDAT", zlib.compress(lines)) + make_chunk(b"IEND", b""))
    return path


def chrm(primaries):
    return struct.pack(">8I", *(round(1e5 * value) for value in (*primaries[6:], *primaries[:6])))


def difference(path, scene):
    """Mean CIEDE2000 of what is read, shown in sRGB, and the scene."""
    shown = read_image(path, "srgb").image[0].permute(1, 2, 0).double().numpy()
    return deltaE_ciede2000(rgb2lab(shown), rgb2lab(scene)).mean()


def test_a_built_profile_is_what_littlecms_reads():
    built = make_profile(P3, (2.4, 1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045))
    import io

    theirs = ImageCms.ImageCmsProfile(io.BytesIO(built))
    color = Image.new("RGB", (1, 1), (200, 100, 50))
    shown = ImageCms.profileToProfile(color, theirs, ImageCms.createProfile("sRGB")).getpixel((0, 0))
    wanted = to_code(to_light(np.array([200, 100, 50]) / 255) @ (np.linalg.inv(to_xyz(SRGB)) @ to_xyz(P3)).T) * 255
    assert np.abs(np.array(shown) - wanted).max() < 1.5
    srgb = make_profile(SRGB, (2.4, 1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045))
    assert read_profile(srgb).is_srgb()


@pytest.mark.parametrize("bits", [8, 16])
def test_png_gamma_and_chromaticities(tmp_path, scene, bits):
    linear = save_png(tmp_path / "a.png", to_light(scene), {b"gAMA": struct.pack(">I", 100_000)}, bits)
    assert difference(linear, scene) < 0.7
    wide = in_primaries(scene, ADOBE) ** (1 / 2.2)
    told = save_png(tmp_path / "b.png", wide, {b"gAMA": struct.pack(">I", 45_455), b"cHRM": chrm(ADOBE)}, bits)
    assert difference(told, scene) < 0.7
    kept = read_image(told)
    assert kept.icc_profile
    assert kept.notes == ("colors are those of its gAMA and cHRM",)
    assert np.abs(kept.image[0].permute(1, 2, 0).numpy() - wide).max() < 0.003


def test_png_code_points_count_most_and_srgb_before_gamma(tmp_path, scene):
    other = {b"gAMA": struct.pack(">I", 100_000)}
    p3 = to_code(in_primaries(scene, P3))
    assert difference(save_png(tmp_path / "a.png", p3, {b"cICP": bytes((12, 13, 0, 1)), **other}), scene) < 0.5
    assert difference(save_png(tmp_path / "b.png", scene, {b"sRGB": b"\0", **other}), scene) < 0.3
    profile = b"x\0\0" + zlib.compress(make_profile(SRGB, (1.0,)))
    both = save_png(tmp_path / "c.png", p3, {b"cICP": bytes((12, 13, 0, 1)), b"iCCP": profile})
    assert difference(both, scene) < 0.5
    unknown = save_png(tmp_path / "d.png", to_light(scene), {b"cICP": bytes((2, 2, 0, 1)), b"iCCP": profile})
    assert difference(unknown, scene) < 0.7


def test_the_usual_gamma_is_srgb_and_changes_nothing(tmp_path, scene):
    usual = save_png(tmp_path / "a.png", scene, {b"gAMA": struct.pack(">I", 45_455), b"cHRM": chrm(SRGB)})
    assert (read_image(usual).icc_profile, read_image(usual).notes) == (None, ())


def test_grey_with_gamma(tmp_path, scene):
    grey = scene[..., :1]
    path = save_png(tmp_path / "a.png", to_light(grey), {b"gAMA": struct.pack(">I", 100_000)}, 16)
    assert np.abs(read_image(path, "srgb").image[0, 0].numpy() - grey[..., 0]).max() < 2 / 255


@pytest.mark.parametrize(
    "chunks",
    [
        {b"gAMA": b"\0\0\0\0"},
        {b"gAMA": b"\xff\xff\xff\xff"},
        {b"gAMA": b"\0"},
        {b"cHRM": bytes(32), b"gAMA": struct.pack(">I", 100_000)},
        {b"cHRM": b"\xff" * 32, b"gAMA": struct.pack(">I", 100_000)},
        {b"cICP": b"\xff\xff\0\1"},
        {b"cICP": b"\1"},
    ],
)
def test_tags_without_meaning_are_ignored(tmp_path, scene, chunks):
    assert difference(save_png(tmp_path / "a.png", scene, chunks), scene) < 0.3


def test_adobe_rgb_as_cameras_tell_it(tmp_path, scene):
    wide = in_primaries(scene, ADOBE) ** (256 / 563)
    exif = Image.Exif()
    exif[0x8769] = {0xA001: 65535, 0xA005: {1: "R03", 2: b"0100"}}
    Image.fromarray(np.round(wide * 255).astype(np.uint8)).save(tmp_path / "_a.jpg", quality=98, subsampling=0, exif=exif)
    assert difference(tmp_path / "_a.jpg", scene) < 1.0
    assert read_image(tmp_path / "_a.jpg").notes == ("colors are those of its DCF rule R03 (Adobe RGB)",)


def test_tiff_chromaticities(tmp_path, scene):
    p3 = np.round(to_code(in_primaries(scene, P3)) * 255).astype(np.uint8)
    Image.fromarray(p3).save(tmp_path / "a.tif", tiffinfo={318: P3[6:], 319: P3[:6]})
    assert difference(tmp_path / "a.tif", scene) < 0.5


def test_avif_code_points(tmp_path, scene):
    p3 = Image.fromarray(np.round(to_code(in_primaries(scene, P3)) * 255).astype(np.uint8))
    p3.save(tmp_path / "a.avif", quality=100, subsampling="4:4:4")
    content = (tmp_path / "a.avif").read_bytes()
    place = content.index(b"colrnclx") + 8
    (tmp_path / "a.avif").write_bytes(content[:place] + struct.pack(">2H", 12, 13) + content[place + 4 :])
    assert difference(tmp_path / "a.avif", scene) < 0.7


def test_pq_without_highlights_is_shown_as_it_is(tmp_path, scene):
    signal = to_pq(203 * in_primaries(scene, P3).clip(0))
    path = save_png(tmp_path / "a.png", signal, {b"cICP": bytes((12, 16, 0, 1))}, 16)
    assert difference(path, scene) < 0.1
    read = read_image(path)
    assert (read.icc_profile, read.bits) == (None, 16)
    assert read.notes == ("high dynamic range (PQ, by cICP): tone mapped to sRGB, white at 203 nits",)


def test_highlights_are_compressed_and_keep_order_and_hue():
    nits = np.geomspace(1, 4000, 300)
    ramp = np.stack((nits, 0.6 * nits, 0.3 * nits), axis=1)[None]
    shown = to_light(mapped(to_pq(ramp), "PQ").astype(float))[0]
    assert (np.diff(shown[:, 0]) > -1e-6).all()
    assert shown[-1, 0] == pytest.approx(1, abs=0.01)
    assert shown[nits > 300, 0].max() - shown[nits > 300, 0].min() > 0.1  # brighter than white is not all white
    bright = shown[nits > 20]
    assert np.abs(bright[:, 1] / bright[:, 0] - 0.6).max() < 0.02
    assert np.abs(bright[:, 2] / bright[:, 0] - 0.3).max() < 0.02


def mapped(samples, transfer):
    signal = torch.from_numpy(samples.astype(np.float32)).movedim(-1, 0)[None]
    return tone_map(signal, WideSignal(transfer, 1, ()))[0].movedim(0, -1).numpy()


def test_reference_white_of_hlg_is_white():
    """75 % of the signal is 203 nits (ITU-R BT.2408)."""
    shown = mapped(np.full((4, 4, 3), 0.75), "HLG")
    assert shown.mean() == pytest.approx(1, abs=0.01)


def test_srgb_by_its_chunk_outweighs_what_exif_kept(tmp_path, scene):
    exif = Image.Exif()
    exif[0x8769] = {0xA001: 65535, 0xA005: {1: "R03", 2: b"0100"}}
    path = save_png(tmp_path / "a.png", scene, {b"sRGB": b"\0", b"eXIf": exif.tobytes().removeprefix(b"Exif\0\0")})
    assert difference(path, scene) < 0.3
    assert read_image(path).notes == ()


def test_what_was_converted_to_srgb_has_no_other_color(tmp_path, scene):
    picture = Image.fromarray(np.round(scene * 255).astype(np.uint8)).convert("CMYK")
    picture.save(tmp_path / "a.tif", tiffinfo={318: P3[6:], 319: P3[:6]})
    read = read_image(tmp_path / "a.tif")
    assert read.icc_profile is None
    assert not any("WhitePoint" in note for note in read.notes)


@pytest.mark.parametrize("bits", [8, 16])
def test_samples_of_narrow_range_are_brought_to_full_range(tmp_path, scene, bits):
    codes = (16 + 219 * scene) * 2 ** (bits - 8) / (2**bits - 1)
    read = read_image(save_png(tmp_path / "a.png", codes, {b"cICP": bytes((1, 13, 0, 0))}, bits))
    assert np.abs(read.image[0].movedim(0, -1).numpy() - scene).max() < (0.51 / 219 if bits == 8 else 1e-4)
    assert read.notes == ("samples of narrow range, as in video: brought to full range",)
