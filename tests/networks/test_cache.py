"""Model files are loaded once, until they change or there are too many."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from fidelity.errors import ModelNotFoundError
from fidelity.networks.cache import NetworkCache


def test_a_file_is_loaded_once_until_it_changes(compact_file):
    cache, path = NetworkCache(), compact_file(name="once.safetensors")
    first = cache.load(path)
    assert cache.load(path) is first
    path.write_bytes(compact_file(4).read_bytes())
    assert cache.load(path).scale == 4


@pytest.mark.parametrize("limits", [{"max_networks": 2}, {"max_bytes": 1}])
def test_the_one_used_longest_ago_is_dropped_and_the_last_always_stays(compact_file, limits):
    cache = NetworkCache(**limits)
    paths = [compact_file(name=f"{name}.safetensors") for name in "abc"]
    networks = [cache.load(path) for path in paths]
    assert cache.load(paths[2]) is networks[2]
    assert cache.load(paths[0]) is not networks[0]


def test_threads_get_one_network(compact_file):
    cache, path = NetworkCache(), compact_file(name="threads.safetensors")
    with ThreadPoolExecutor(4) as pool:
        assert len({id(network) for network in pool.map(cache.load, [path] * 12)}) == 1


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(ModelNotFoundError, match="no such model file"):
        NetworkCache().load(tmp_path / "none.pth")
