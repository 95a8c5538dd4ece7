"""Damaged model files are refused by their names or run; `python -m tools.attack` tries thousands."""

from collections import Counter

from tools.attack.models import find_fault, make_file


def test_damaged_models_are_refused_or_run(tmp_path):
    fates = Counter()
    for seed in range(150):
        path, kind = make_file(seed, tmp_path)
        if kind == ".pb":  # each starts a process
            continue
        fate, fault = find_fault(path)
        assert fault is None, f"seed {seed}, {kind}: {fault}"
        fates[fate] += 1
    assert min(fates["refused"], fates["taken"]) > 5
