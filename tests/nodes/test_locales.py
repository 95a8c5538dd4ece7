"""The nodes' texts in other languages: whole, and of this version."""

import json
import re

import pytest

from tools.showcase.locales import FOLDER, collect_texts, flatten

LANGUAGES = sorted(path.name for path in FOLDER.iterdir())
PARAMETERS = [language for language in LANGUAGES if language != "en"]


def read(language):
    return json.loads((FOLDER / language / "nodeDefs.json").read_text(encoding="utf-8"))


def test_there_are_english_chinese_and_japanese():
    assert {"en", "ja", "zh"} <= set(LANGUAGES)


@pytest.mark.parametrize("language", PARAMETERS)
def test_every_text_is_translated_and_none_is_left_over(language):
    given = flatten(read(language))
    assert given.keys() == flatten(read("en")).keys()
    assert all(text.strip() for text in given.values())


@pytest.mark.parametrize("language", PARAMETERS)
def test_tooltips_have_the_same_numbers(language):
    """A default or a range that was changed in one language alone."""
    given = flatten(read(language))
    for key, english in flatten(read("en")).items():
        if key.endswith("tooltip"):
            wanted, found = (set(re.findall(r"\d+(?:\.\d+)?", text)) for text in (english, given[key]))
            assert wanted <= found, f"{language} {key}"


@pytest.mark.parametrize("language", LANGUAGES)
def test_no_text_has_a_character_that_the_browser_would_interpret(language):
    for key, text in flatten(read(language)).items():
        assert not set("{}@|$") & set(text), key


def test_the_english_texts_are_the_nodes_own(host):
    assert read("en") == collect_texts(host.get("/object_info"))


def test_the_host_serves_them(host):
    served = host.get("/i18n")
    for language in LANGUAGES:
        assert served[language]["nodeDefs"]["FidelityUpscale"] == read(language)["FidelityUpscale"]
