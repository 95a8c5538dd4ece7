"""CLIP-IQA on the command line: what open_clip embeds, judged as by hand; nothing is downloaded."""

import json

import pytest
import torch
from safetensors.torch import save_file
from torch.nn import functional
from typer.testing import CliRunner

from fidelity.cli import app
from fidelity.errors import RefusedError
from fidelity.imaging.clip_iqa import PAIRS
from fidelity.report import open_clip as module
from fidelity.report.open_clip import judge_with_clip

open_clip = pytest.importorskip("open_clip", reason="open_clip is not installed")
TINY = {
    "embed_dim": 16,
    "vision_cfg": {"image_size": 224, "layers": 1, "width": 32, "head_width": 16, "patch_size": 32},
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1},
}


@pytest.fixture
def tiny(tmp_path):
    """A model of open_clip's with random weights, by its name and its file."""
    (tmp_path / "tiny-clip.json").write_text(json.dumps(TINY))
    (tmp_path / "other-clip.json").write_text(json.dumps(TINY | {"embed_dim": 24}))
    open_clip.add_model_config(tmp_path)
    torch.manual_seed(0)
    model = open_clip.create_model("tiny-clip", load_weights=False).eval()
    save_file(model.state_dict(), tmp_path / "tiny.safetensors")
    return model, tmp_path / "tiny.safetensors"


def test_scores_are_those_of_embeddings_by_hand(tiny, random_image):
    model, weights = tiny
    image = random_image(1, 3, 224, 224)
    seen = open_clip.get_model_preprocess_cfg(model)
    mean, spread = (torch.tensor(seen[key]).reshape(1, 3, 1, 1) for key in ("mean", "std"))
    with torch.no_grad():
        picture = functional.normalize(model.encode_image((image - mean) / spread), dim=1)
        texts = functional.normalize(
            model.encode_text(open_clip.tokenize([one for pair in PAIRS.values() for one in pair])), dim=1
        )
    expected = (100 * picture @ texts.T).reshape(-1, 2).softmax(dim=1)[:, 0]
    scores = judge_with_clip(image, "tiny-clip", weights)
    assert list(scores) == list(PAIRS)
    assert torch.allclose(torch.tensor(list(scores.values())), expected, atol=1e-5)


def test_the_command_prints_them_with_the_others(tiny, image_file):
    _, weights = tiny
    path = str(image_file())
    told = CliRunner().invoke(app, ["measure", path, path, "--clip", "tiny-clip", str(weights)])
    assert told.exit_code == 0 and "clip_quality" in told.stdout and "compare only with the same CLIP" in told.stdout
    figures = json.loads(CliRunner().invoke(app, ["measure", path, path, "--clip", "tiny-clip", str(weights), "--json"]).stdout)
    assert 0 <= figures["clip_noisiness"] <= 1


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("nothing", "knows no model nothing"),
        ("other-clip", "not the weights of other-clip"),
        ("ViT-L-14-336", "wanted a vision transformer that sees 224 px"),
        ("roberta-ViT-B-32", "needs a tokenizer from the internet"),
    ],
)
def test_what_cannot_be_judged_with_is_refused(tiny, random_image, name, message):
    with pytest.raises(RefusedError, match=message):
        judge_with_clip(random_image(1, 3, 224, 224), name, tiny[1])


def test_a_missing_library_is_told_with_the_command_that_installs_it(tiny, random_image, monkeypatch):
    monkeypatch.setattr(module, "find_spec", lambda name: None)
    with pytest.raises(RefusedError, match="pip install open_clip_torch"):
        judge_with_clip(random_image(1, 3, 224, 224), "tiny-clip", tiny[1])
