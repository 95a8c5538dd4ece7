"""Nothing that a file of weights may hold takes long, takes much memory or escapes as anything but a refusal with its name."""

import io
import pickle
import time
import zipfile
from collections import OrderedDict

import pytest
import torch
from spandrel.architectures.Compact import Compact

from fidelity.errors import ModelRefusedError
from fidelity.networks.loader import detect_architecture, load_model
from fidelity.networks.pickles import check_pickles


@pytest.fixture
def weights():
    return Compact(num_feat=8, num_conv=2, upscale=2).state_dict()


def archive(path, content, compression=zipfile.ZIP_STORED, **parts):
    with zipfile.ZipFile(path, "w", compression) as file:
        file.writestr("archive/data.pkl", content)
        file.writestr("archive/version", "3\n")
        for name, part in parts.items():
            file.writestr(f"archive/data/{name}", part)
    return path


@pytest.mark.parametrize("old", [False, True])
@pytest.mark.parametrize("kind", range(4))
def test_weights_are_read_as_before(tmp_path, weights, old, kind):
    trained = {"state_dict": weights, "epoch": 3, "best": [1.0, (2, "x")]}
    path = tmp_path / "a.pth"
    torch.save(
        (weights, {"params_ema": weights}, OrderedDict(weights), trained)[kind], path, _use_new_zipfile_serialization=not old
    )
    check_pickles(path)
    assert load_model(path).scale == 2


def nested_key():
    """A tuple of which both parts are the tuple before: 2**80 parts to hash."""
    stream = b"\x80\x02}" + b"K\x01\x85q\x00" + b"".join(b"h%ch%c\x86q%c" % (i, i, i + 1) for i in range(80))
    return stream + b"K\x01s."


HOSTILE = {
    "a nested key": nested_key,
    "a deep list": lambda: b"\x80\x02" + b"]" * 200_000 + b"a" * 199_999 + b".",
    "deep tuples": lambda: b"\x80\x02K\x01" + b"\x85" * 1_000_000 + b".",
    "five million marks": lambda: b"\x80\x02" + b"(" * 5_000_000 + b".",
    "room of any size": lambda: b"\x80\x02c__builtin__\nbytearray\nJ\xff\xff\xff\x7f\x85R.",
    "code": lambda: pickle.dumps(pytest.raises),
    "no dictionary": lambda: pickle.dumps([1, 2, 3]),
    "no tensors": lambda: pickle.dumps({"a": {1, 2}}),
    "a mark alone": lambda: b"\x80\x02(.",
    "nothing on the stack": lambda: b"\x80\x02a.",
    "an unknown instruction": lambda: b"\x80\x02\xf7.",
    "a key from nowhere": lambda: b"\x80\x02}h\x07K\x01s.",
    "no end": lambda: b"\x80\x02}",
    "one letter": lambda: b"a",
    "nothing": lambda: b"",
}


@pytest.mark.parametrize("kind", ["zip", "bare"])
@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_pickles_are_refused_at_once(tmp_path, name, kind):
    path, content = tmp_path / "a.pth", HOSTILE[name]()
    archive(path, content) if kind == "zip" else path.write_bytes(content)
    started = time.process_time()
    with pytest.raises(ModelRefusedError, match=r"a\.pth"):
        load_model(path)
    assert detect_architecture(path) is None
    assert time.process_time() - started < 30  # hangs, not speed


def test_an_archive_that_unpacks_to_much_more_is_refused_before_it_is_unpacked(tmp_path):
    path = archive(tmp_path / "bomb.pth", b"\x80\x02}.", zipfile.ZIP_DEFLATED, a=bytes(200_000_000))
    resource = pytest.importorskip("resource", reason="no resource module: only on Unix")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(ModelRefusedError, match="unpacks to 200 MB"):
        load_model(path)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 50_000


def test_a_file_is_checked_as_pytorch_reads_it(tmp_path):
    empty = io.BytesIO()
    zipfile.ZipFile(empty, "w").close()
    (tmp_path / "both.pth").write_bytes(nested_key() + empty.getvalue())
    with zipfile.ZipFile(tmp_path / "case.pth", "w") as file:
        file.writestr("archive/DATA.PKL", nested_key())
    for name in ("both.pth", "case.pth"):
        with pytest.raises(ModelRefusedError, match=name):
            check_pickles(tmp_path / name)


def test_many_pickles_in_one_file_share_one_budget(tmp_path, monkeypatch):
    monkeypatch.setattr("fidelity.networks.pickles._MOST_OPCODES", 1000)
    with zipfile.ZipFile(tmp_path / "a.pth", "w") as file:
        for index in range(4):
            file.writestr(f"archive/{index}.pkl", b"\x80\x02" + b"N0" * 200 + b"}.")
    with pytest.raises(ModelRefusedError, match="more than 1000 instructions"):
        check_pickles(tmp_path / "a.pth")


def test_a_sparse_tensor_is_refused_and_stops_nothing(tmp_path):
    torch.save({"w": torch.eye(4).to_sparse()}, tmp_path / "a.pth")
    with pytest.raises(ModelRefusedError, match="w is a sparse tensor"):
        load_model(tmp_path / "a.pth")
    assert detect_architecture(tmp_path / "a.pth") is None


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_a_layer_of_a_number_that_no_network_has_is_refused(tmp_path, suffix):
    from safetensors.torch import save_file

    weights = {"body.0.weight": torch.zeros(8, 3, 3, 3), "body.2000000000.weight": torch.zeros(12, 8, 3, 3)}
    path = tmp_path / f"a{suffix}"
    torch.save(weights, path) if suffix == ".pth" else save_file(weights, path)
    with pytest.raises(ModelRefusedError, match="names a layer number 2000000000"):
        load_model(path)


def test_a_tensor_that_claims_more_than_is_stored_is_refused(tmp_path, weights):
    weights["body.0.weight"] = torch.zeros(1).expand(10**6, 10**6)
    torch.save(weights, tmp_path / "a.pth")
    with pytest.raises(ModelRefusedError, match=r"body.0.weight claims more numbers than are stored"):
        load_model(tmp_path / "a.pth")


def test_a_folder_with_refused_files_serves_the_others_and_says_so_once(tmp_path, weights, image_file, capsys, caplog):
    from fidelity.decide.settings import Settings
    from fidelity.decide.target import Target
    from fidelity.files.read import read_image
    from fidelity.networks.loader import list_models
    from fidelity.session import Session

    (tmp_path / "models").mkdir()
    (tmp_path / "models/a.pth").write_text("a")
    torch.save(weights, tmp_path / "models/good.pth")
    image = read_image(image_file()).image
    for _ in range(2):
        session = Session(Settings(Target(scale=2), "photo"), models=list_models([tmp_path / "models"]))
        assert session.run(image).image.shape[2] == 2 * image.shape[2]
    told = [record.message for record in caplog.records if "a.pth" in record.message]
    assert told == ["a.pth: damaged or not a model file; it is not used"]
