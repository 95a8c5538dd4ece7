import shutil

import pytest

from fidelity.decide.recipes import RECIPES
from fidelity.decide.settings import Settings
from fidelity.decide.target import Target
from fidelity.networks.cache import NETWORKS
from fidelity.networks.compute import Compute
from fidelity.networks.loader import list_models
from fidelity.session import Session
from fidelity.video.codecs import Encoding
from fidelity.video.job import upscale_video
from fidelity.video.light import MOST_PARAMETERS, for_video, is_light
from fidelity.video.options import VideoOptions

HEAVY, LIGHT = "RealESRGAN_x4plus_anime_6B", "realcugan-up2x-conservative"


@pytest.fixture
def installed(tmp_path, test_data):
    """A folder with a heavy and a light network for drawings."""
    folder = tmp_path / "models"
    folder.mkdir()
    shutil.copy(test_data / "models" / "realesrgan-x4plus-anime.safetensors", folder / f"{HEAVY}.safetensors")
    return folder


def session_with(folder, model="auto"):
    settings = Settings(Target(2), domain="anime_flux", model=model, restore="off", deband="off", cleanup="off")
    return Session(settings, Compute(precision="fp32"), list_models([folder]))


def test_a_heavy_network_is_left_out_and_told_once(installed):
    given = session_with(installed)
    assert given.chooser.choose(RECIPES["anime_flux"], 4)[0].name.startswith(HEAVY)
    session, chooser = for_video(given)
    for _ in range(2):
        network, choice = session.chooser.choose(RECIPES["anime_flux"], 4)
        assert network.parameters <= MOST_PARAMETERS and choice.is_shipped and "too slow" in choice.reason
    assert chooser.notes == (f"{HEAVY} is installed but too slow for video; --model {HEAVY} uses it",)
    assert given.chooser.choose(RECIPES["anime_flux"], 4)[0].name.startswith(HEAVY)


def test_a_heavy_network_for_another_domain_or_for_restoration_explains_nothing(installed):
    session, chooser = for_video(session_with(installed))
    session.chooser.choose(RECIPES["anime_flux"], 4)
    _, choice = session.chooser.choose(RECIPES["photo"], 4)
    assert chooser.notes and "too slow" not in choice.reason and choice.better


def test_a_light_network_is_chosen_in_place_of_a_heavy_one(installed, test_data):
    shutil.copy(test_data / "models" / f"{LIGHT}.safetensors", installed / f"{LIGHT}.safetensors")
    session, chooser = for_video(session_with(installed))
    assert session.chooser.choose(RECIPES["anime_sd"], 2)[0].name.startswith(LIGHT)
    assert chooser.notes == (f"{HEAVY} is installed but too slow for video; --model {HEAVY} uses it",)


def test_a_heavy_network_that_is_named_is_used(installed):
    session, chooser = for_video(session_with(installed, HEAVY))
    network, choice = session.chooser.choose(RECIPES["anime_flux"], 2)
    assert network.name.startswith(HEAVY) and choice.reason == "chosen by the user" and chooser.notes == ()


@pytest.mark.parametrize(
    ("name", "light"),
    [
        ("realesr-animevideov3-x4.safetensors", True),
        ("realcugan-up4x-conservative.safetensors", True),
        ("realesrgan-x4plus-anime.safetensors", False),
        ("realesrgan-x4plus.safetensors", False),
        ("LapSRN_x2.pb", True),
    ],
)
def test_compact_networks_are_light_and_those_for_pictures_are_not(name, light, test_data):
    assert is_light(NETWORKS.load(test_data / "models" / name)) == light


def test_a_video_is_made_with_a_light_network(installed, make_clip, tmp_path):
    options = VideoOptions(Encoding("h264", preset="ultrafast"))
    report = upscale_video(make_clip(frames=2, size=(24, 32)), tmp_path / "out.mp4", session_with(installed), options)
    assert report.scenes[0].model == "drawn-x2.safetensors"
    assert [note for note in report.notes if "too slow for video" in note] == [
        f"{HEAVY} is installed but too slow for video; --model {HEAVY} uses it"
    ]
