"""One bounded cache of loaded networks a process, by path, size and time of change."""

import threading
from collections import OrderedDict
from pathlib import Path

from .loader import load_model
from .network import Network

MAX_NETWORKS = 8
MAX_BYTES = 2 * 2**30
"""Of weights. The network used longest ago is dropped first; the one used last always stays."""


class NetworkCache:
    """Loads each model file once until it changes. Safe to use from several threads."""

    def __init__(self, max_networks: int = MAX_NETWORKS, max_bytes: int = MAX_BYTES) -> None:
        """Starts empty.

        Args:
            max_networks: Networks to keep at most.
            max_bytes: Bytes of weights to keep at most.
        """
        self._max_networks = max_networks
        self._max_bytes = max_bytes
        self._networks: OrderedDict[tuple[Path, int, int], Network] = OrderedDict()
        self._lock = threading.Lock()

    def load(self, path: Path) -> Network:
        """The network of a file; loaded now if it is new here, or if the file has changed.

        Raises:
            FileNotFoundError, ModelRefusedError: See `fidelity.networks.loader.load_model`.
        """
        try:
            status = path.stat()
            key = (path.resolve(), status.st_mtime_ns, status.st_size)
        except OSError:
            return load_model(path)  # says what is wrong with it
        with self._lock:
            if key not in self._networks:
                self._networks[key] = load_model(path)
            self._networks.move_to_end(key)
            while len(self._networks) > 1 and self._is_full():
                self._networks.popitem(last=False)
            return self._networks[key]

    def clear(self) -> None:
        """Forgets all networks; those in use live on until they are let go."""
        with self._lock:
            self._networks.clear()

    def _is_full(self) -> bool:
        held = sum(network.weight_bytes for network in self._networks.values())
        return len(self._networks) > self._max_networks or held > self._max_bytes


NETWORKS = NetworkCache()
"""The process's own."""
