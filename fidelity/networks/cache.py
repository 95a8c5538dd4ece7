"""A bounded, process-wide cache of loaded networks, keyed by path, size and modification time."""

import threading
from collections import OrderedDict
from pathlib import Path

from .loader import load_model
from .network import Network

MAX_NETWORKS = 8
MAX_BYTES = 2 * 2**30
"""Limit on weights. The least recently used network is dropped first; the most recent one always stays."""


class NetworkCache:
    """Loads each model file once until it changes. Safe to use from several threads."""

    def __init__(self, max_networks: int = MAX_NETWORKS, max_bytes: int = MAX_BYTES) -> None:
        """Creates an empty cache.

        Args:
            max_networks: Maximum number of networks to keep.
            max_bytes: Maximum bytes of weights to keep.
        """
        self._max_networks = max_networks
        self._max_bytes = max_bytes
        self._networks: OrderedDict[tuple[Path, int, int], Network] = OrderedDict()
        self._lock = threading.Lock()

    def load(self, path: Path) -> Network:
        """Returns the network of a file, and loads it if it is new or the file has changed.

        Raises:
            FileNotFoundError, ModelRefusedError: See `fidelity.networks.loader.load_model`.
        """
        try:
            status = path.stat()
            key = (path.resolve(), status.st_mtime_ns, status.st_size)
        except OSError:
            return load_model(path)  # raises an error that says what is wrong
        with self._lock:
            if key not in self._networks:
                self._networks[key] = load_model(path)
            self._networks.move_to_end(key)
            while len(self._networks) > 1 and self._is_full():
                self._networks.popitem(last=False)
            return self._networks[key]

    def clear(self) -> None:
        """Drops all networks. A network in use lives on until its last reference goes."""
        with self._lock:
            self._networks.clear()

    def _is_full(self) -> bool:
        held = sum(network.weight_bytes for network in self._networks.values())
        return len(self._networks) > self._max_networks or held > self._max_bytes


NETWORKS = NetworkCache()
"""The process-wide cache."""
