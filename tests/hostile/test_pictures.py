"""Damaged pictures are read or refused in one line; `python -m tools.attack` tries thousands."""

from collections import Counter

import pytest


def test_damaged_pictures_are_read_or_refused(tmp_path):
    pytest.importorskip("pillow_heif", reason="no pillow-heif; pip install '.[formats]' to run this")
    from tools.attack.pictures import find_fault, make_file

    fates = Counter()
    for seed in range(400):
        path, kind = make_file(seed, tmp_path)
        fate, fault = find_fault(path)
        assert fault is None, f"seed {seed}, {kind}: {fault}"
        fates[fate] += 1
    assert min(fates["read"], fates["refused"]) > 50
