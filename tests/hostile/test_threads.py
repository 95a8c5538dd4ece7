"""Threads that share a network get what each would alone; `python -m tools.attack` tries more networks and images."""

from tools.attack.threads import share_networks


def test_threads_share_networks_of_every_backend(tmp_path):
    tried = {name: differ for name, _, differ in share_networks(tmp_path, 12, ("Compact", "FFDNet", "SPAN"))}
    assert len(tried) > 5
    assert not any(tried.values()), tried
