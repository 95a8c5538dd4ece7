"""What the loader reads, and what it refuses without running it."""

import os
import pickle

import pytest
import torch
from safetensors.torch import save_file

from fidelity.errors import ModelRefusedError
from fidelity.networks.backends.torch import TorchNetwork
from fidelity.networks.descriptors import accept_rgb
from fidelity.networks.loader import detect_architecture, find_model, list_models, load_model


def test_safetensors_and_pth_give_the_same_network(compact_file, tmp_path, random_image):
    from safetensors.torch import load_file

    path = compact_file()
    as_pth = tmp_path / "same.pth"
    torch.save({"params": load_file(path)}, as_pth)
    image = random_image(1, 3, 8, 8)
    with torch.no_grad():
        assert torch.equal(load_model(path).descriptor(image), load_model(as_pth).descriptor(image))


def test_a_network_knows_its_name_scale_and_architecture(compact):
    model = compact(scale=4)
    assert (model.name, model.scale, model.architecture) == ("compact-3ch-x4.safetensors", 4, "RealESRGAN Compact")


class Bomb:
    """Would write a file if it were unpickled."""

    def __init__(self, target):
        self.target = str(target)

    def __reduce__(self):
        return os.system, (f"touch {self.target}",)


def test_code_in_a_pickle_is_refused_and_never_run(tmp_path):
    path, witness = tmp_path / "model.pth", tmp_path / "was-run"
    for write in (torch.save, lambda value, file: file.write_bytes(pickle.dumps(value))):
        write(Bomb(witness), path)
        with pytest.raises(ModelRefusedError, match=r"model\.pth: (contains code|damaged)"):
            load_model(path)
        assert not witness.exists()


def test_a_pickled_module_from_the_wild_is_refused_by_name(test_data):
    with pytest.raises(ModelRefusedError, match=r"contains code \(lapsrn\.Net\), not only weights, and was not loaded"):
        load_model(test_data / "models/unsafe/lapsrn_pickled_module.pth")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("empty.pth", b"", "empty.pth: damaged or not a model file"),
        ("text.pth", b"hello, I am a text file", "text.pth: damaged or not a model file"),
        ("text.safetensors", b"hello, I am a text file", "text.safetensors: damaged or not a model file"),
        ("empty.safetensors", b"", "empty.safetensors: damaged or not a model file"),
        ("picture.png", b"\x89PNG", "picture.png: not a model file; wanted .safetensors"),
    ],
)
def test_what_is_no_model_is_refused_in_one_line(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ModelRefusedError, match=message) as refusal:
        load_model(tmp_path / name)
    assert "\n" not in str(refusal.value)


def test_a_truncated_model_is_refused(compact_file, tmp_path):
    path = tmp_path / "cut.safetensors"
    path.write_bytes(compact_file().read_bytes()[:-100])
    with pytest.raises(ModelRefusedError, match=r"cut\.safetensors: damaged"):
        load_model(path)


def test_weights_of_no_known_architecture_are_refused(tmp_path):
    path = tmp_path / "linear.safetensors"
    save_file({"fc.weight": torch.zeros(3, 3)}, path)
    with pytest.raises(ModelRefusedError, match="unknown architecture; wanted one"):
        load_model(path)


def test_a_look_alike_is_refused(tmp_path):
    path = tmp_path / "fake.safetensors"
    save_file({"body.0.weight": torch.zeros(2), "body.1.weight": torch.zeros(2)}, path)
    with pytest.raises(ModelRefusedError, match="looks like a network but does not load"):
        load_model(path)


def test_a_list_in_place_of_weights_is_refused(tmp_path):
    path = tmp_path / "list.pth"
    torch.save([1, 2, 3], path)
    with pytest.raises(ModelRefusedError, match="contains list; wanted a state dict"):
        load_model(path)


@pytest.mark.parametrize(
    "content", [{1: torch.zeros(2)}, {"model.0.weight": 3, "model.extra.weight": torch.zeros(2, 2)}], ids=["numbers", "extra"]
)
def test_names_and_contents_of_other_kinds_are_refused_and_of_no_architecture(tmp_path, content):
    path = tmp_path / "odd.pth"
    torch.save(content, path)
    with pytest.raises(ModelRefusedError, match=r"odd\.pth: "):
        load_model(path)
    assert detect_architecture(path) is None


def test_a_look_alike_of_ffdnet_is_refused_whatever_else_it_has(tmp_path):
    path = tmp_path / "fake.safetensors"
    names = ("model.0.weight", "model.0.bias", "model.2.weight", "model.2.bias", "model.extra.weight")
    save_file({name: torch.zeros(4, 5, 3, 3) for name in names}, path)
    with pytest.raises(ModelRefusedError, match="looks like a network but does not load"):
        load_model(path)


def test_a_missing_file_is_named():
    with pytest.raises(FileNotFoundError, match=r"nowhere\.pth: no such model file"):
        load_model("nowhere.pth")


def test_a_grey_network_takes_rgb_through_its_adapter(compact, random_image):
    grey, image = compact(channels=1), random_image(1, 3, 12, 10)
    adapted = accept_rgb(grey)
    with torch.no_grad():
        result = adapted(image)
        from_grey = adapted(image[:, :1].repeat(1, 3, 1, 1))
        expected = grey.descriptor(image[:, :1])
    assert result.shape == (1, 3, 24, 20)
    assert (from_grey - expected).abs().max() < 1e-5
    assert (adapted.input_channels, adapted.output_channels) == (3, 3)


def test_an_rgb_network_needs_no_adapter(compact):
    model = compact()
    assert accept_rgb(model) is model.descriptor


def test_a_network_behind_an_adapter_is_run_without_it(compact):
    grey = compact(channels=1)
    wrapped = TorchNetwork("grey", accept_rgb(grey))
    assert (wrapped.channels_in, wrapped.channels_out) == (1, 1)
    assert wrapped.descriptor.model is grey.descriptor.model


def test_installed_models_are_listed_after_the_shipped_ones(compact_file):
    path = compact_file(name="aa-mine.safetensors")
    names = list(list_models([path.parent]))
    assert names[0] == "drawn-x1.safetensors"
    assert names[-1] == "aa-mine.safetensors"


@pytest.mark.parametrize("name", ["natural-x4", "natural-x4.safetensors"])
def test_a_model_is_found_with_and_without_its_ending(name):
    assert find_model(name, list_models([])).name == "natural-x4.safetensors"


def test_an_unknown_name_is_answered_with_those_there_are():
    with pytest.raises(FileNotFoundError, match=r"nothing: no such model; installed: drawn-x1.*natural-x4"):
        find_model("nothing", list_models([]))


def test_the_architecture_is_seen_without_building_the_network(compact_file, tmp_path):
    path = compact_file()
    assert detect_architecture(path) == "RealESRGAN Compact"
    (tmp_path / "text.pth").write_bytes(b"hello")
    assert detect_architecture(tmp_path / "text.pth") is None
    assert detect_architecture(tmp_path / "missing.pth") is None


def test_a_changed_file_is_read_again(compact_file, tmp_path):
    path = tmp_path / "changing.safetensors"
    save_file({"fc.weight": torch.zeros(3, 3)}, path)
    assert detect_architecture(path) is None
    path.write_bytes(compact_file().read_bytes())
    assert detect_architecture(path) == "RealESRGAN Compact"
