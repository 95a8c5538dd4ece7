"""High dynamic range that is kept: the signal, its tags, and a color difference that can hold it."""

import json
import struct
import zlib

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from fidelity.cli import app
from fidelity.decide.settings import Settings
from fidelity.decide.target import Target
from fidelity.files.png import make_chunk
from fidelity.files.read import read_image
from fidelity.imaging.hdr import nits_to_pq, signal_to_nits
from fidelity.imaging.resample import resize
from fidelity.session import Session

BT2020, PQ, HLG = 9, 16, 18


@pytest.fixture
def lights():
    """Light in nits, (1, 3, 48, 64): a gradient to 200 nits with a lamp of 4000."""
    down, across = torch.meshgrid(torch.linspace(0.02, 1, 48), torch.linspace(0.1, 1, 64), indexing="ij")
    light = 200 * torch.stack((down, across * down, 0.4 + 0 * across))[None]
    light[:, :, 20:28, 30:38] = torch.tensor([4000.0, 3000.0, 1500.0]).reshape(1, 3, 1, 1)
    return light


def save(path, signal, transfer, primaries=BT2020):
    """A PNG of 16 bits with a cICP chunk."""
    samples = (signal[0].movedim(0, -1).numpy() * 65535).round().astype(">u2")
    rows = b"".join(b"\0" + row.tobytes() for row in samples)
    head = struct.pack(">IIBBBBB", samples.shape[1], samples.shape[0], 16, 2, 0, 0, 0)
    chunks = {b"IHDR": head, b"cICP": bytes((primaries, transfer, 0, 1)), b"IDAT": zlib.compress(rows), b"IEND": b""}
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(make_chunk(name, data) for name, data in chunks.items()))
    return path


def upscale(*arguments):
    return CliRunner().invoke(app, ["upscale", *map(str, arguments), "--scale", "2", "--restore", "off"])


@pytest.mark.parametrize("transfer", [PQ, HLG])
def test_the_signal_its_tags_and_its_depth_are_kept(tmp_path, lights, transfer):
    signal = nits_to_pq(lights) if transfer == PQ else (lights / 4000).clamp(0, 1) ** 0.5
    source = save(tmp_path / "s.png", signal, transfer)
    report = tmp_path / "r.json"
    result = upscale(source, "-o", tmp_path / "o.png", "--hdr", "keep", "--domain", "photo", "--report", report)
    assert result.exit_code == 0, result.output
    assert b"cICP" + bytes((BT2020, transfer, 0, 1)) in (tmp_path / "o.png").read_bytes()
    made = read_image(tmp_path / "o.png", hdr="keep")
    assert (made.bits, made.signal.transfer, made.icc_profile) == (16, "PQ" if transfer == PQ else "HLG", None)
    assert made.image.shape == (1, 3, 96, 128)
    assert (resize(made.image, (48, 64)) - signal).abs().mean() < 0.003
    assert made.image.max() > signal.max() - 0.02
    (told,) = json.loads(report.read_text())
    assert told["recipe"]["difference"] == "BT.2124"
    assert told["drift"]["color"]["mean"] < 0.5


@pytest.mark.parametrize("transfer", [PQ, HLG])
def test_avif_keeps_it_with_12_bits(tmp_path, lights, transfer):
    pytest.importorskip("pyvips", reason="no pyvips; pip install 'pyvips[binary]' to run this")
    signal = nits_to_pq(lights) if transfer == PQ else (lights / 4000).clamp(0, 1) ** 0.5
    source = save(tmp_path / "s.png", signal, transfer)
    for name in ("o.png", "o.avif"):
        result = upscale(source, "-o", tmp_path / name, "--hdr", "keep", "--domain", "photo")
        assert result.exit_code == 0, result.output
    assert b"colrnclx" + struct.pack(">2H", BT2020, transfer) in (tmp_path / "o.avif").read_bytes()
    wanted, made = (read_image(tmp_path / name, hdr="keep") for name in ("o.png", "o.avif"))
    assert (made.signal.transfer, made.signal.primaries) == (wanted.signal.transfer, wanted.signal.primaries)
    assert (made.image - wanted.image).abs().max() <= 0.51 / 4095 + 1e-6
    assert upscale(tmp_path / "o.avif", "-o", tmp_path / "again.png", "--hdr", "keep").exit_code == 0


def test_otherwise_it_is_tone_mapped_and_said_so(tmp_path, lights):
    source = save(tmp_path / "s.png", nits_to_pq(lights), PQ)
    for choice in ("auto", "sdr"):
        assert "tone mapped to sRGB" in upscale(source, "-o", tmp_path / f"{choice}.png", "--hdr", choice).stdout
        assert b"cICP" not in (tmp_path / f"{choice}.png").read_bytes()
    refused = upscale(source, "-o", tmp_path / "o.jpg", "--hdr", "keep")
    assert (refused.exit_code, (tmp_path / "o.jpg").exists()) == (1, False)
    assert "cannot hold high dynamic range; wanted .png or .avif, or --hdr sdr" in " ".join(refused.stderr.split())


def test_grey_is_kept_and_what_contradicts_is_refused(tmp_path, lights):
    grey = nits_to_pq(lights.mean(dim=1, keepdim=True).expand(-1, 3, -1, -1))
    source = save(tmp_path / "s.png", grey, PQ)
    for options in (("--bits", "8"), ("--color-space", "srgb")):
        refused = upscale(source, "-o", tmp_path / "o.png", "--hdr", "keep", *options)
        assert (refused.exit_code, (tmp_path / "o.png").exists()) == (2, False)
    assert upscale(source, "-o", tmp_path / "o.png", "--hdr", "keep").exit_code == 0


def test_damage_is_measured_on_the_signal_that_is_restored(tmp_path, lights):
    noise = 0.02 * torch.randn(lights.shape, generator=torch.Generator().manual_seed(0))
    source = read_image(save(tmp_path / "s.png", (nits_to_pq(lights) + noise).clamp(0, 1), PQ), hdr="keep")
    session = Session(Settings(Target(scale=2)), models={})
    decided = session.decide(source.image, view=source.as_seen())
    assert decided.conditions == session.decide(source.image).conditions
    assert decided.verdict == session.decide(source.as_seen()).verdict


def test_a_picture_of_standard_range_is_as_without_the_option(tmp_path, image_file):
    source = image_file("s.png")
    assert upscale(source, "-o", tmp_path / "a.png").exit_code == 0
    assert upscale(source, "-o", tmp_path / "b.png", "--hdr", "keep").exit_code == 0
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()


def test_pq_and_back():
    nits = torch.tensor([0.0, 0.1, 1.0, 100.0, 203.0, 1000.0, 10_000.0], dtype=torch.float64).expand(1, 3, 1, 7)
    assert torch.allclose(signal_to_nits(nits_to_pq(nits), "PQ"), nits, rtol=1e-5, atol=1e-4)
    assert nits_to_pq(torch.tensor(100.0)) == pytest.approx(0.508078, abs=1e-5)  # BT.2408, table 1: 50.8 %
    assert nits_to_pq(torch.tensor(203.0)) == pytest.approx(0.580689, abs=1e-5)


def test_the_difference_is_that_of_bt_2124(tmp_path, lights):
    """Written again in numpy, from the recommendation."""
    source = read_image(save(tmp_path / "s.png", nits_to_pq(lights), PQ), hdr="keep")
    first, second = source.image, (source.image * 0.99 + 0.002).clamp(0, 1)

    def itp(signal):
        power = signal ** (32 / 2523)
        nits = 10_000 * (np.maximum(power - 3424 / 4096, 0) / (2413 / 128 - 2392 / 128 * power)) ** (16384 / 2610)
        lms = nits @ (np.array([[1688, 2146, 262], [683, 2951, 462], [99, 309, 3688]]) / 4096).T
        power = (lms / 10_000) ** (2610 / 16384)
        pq = ((3424 / 4096 + 2413 / 128 * power) / (1 + 2392 / 128 * power)) ** (2523 / 32)
        ictcp = pq @ (np.array([[2048, 2048, 0], [6610, -13613, 7003], [17933, -17390, -543]]) / 4096).T
        return ictcp * (1, 0.5, 1)

    pair = [itp(image[0].movedim(0, -1).double().numpy()) for image in (first, second)]
    expected = 720 * np.sqrt(((pair[0] - pair[1]) ** 2).sum(axis=-1))
    assert np.abs(source.signal.difference(first, second)[0, 0].numpy() - expected).max() < 0.1


def test_primaries_of_another_space_are_converted_before_they_are_compared(tmp_path, lights):
    """White differs by as much in any primaries."""
    grey = nits_to_pq(torch.full((1, 3, 4, 4), 100.0))
    steps = []
    for primaries in (1, 9, 12):
        signal = read_image(save(tmp_path / f"{primaries}.png", grey, PQ, primaries), hdr="keep").signal
        steps.append(float(signal.difference(grey, grey + 0.002).mean()))
    assert max(steps) - min(steps) < 0.01 * max(steps)
    assert steps[0] == pytest.approx(720 * 0.002, rel=0.02)
