"""Loading a state dict as every loader of the process does."""

import pytest
from spandrel import ModelLoader

from fidelity.networks.architectures import register_architectures


@pytest.fixture
def load_state():
    """Loads a copy of a state dict through spandrel's registry, in evaluation mode."""
    register_architectures()
    return lambda state: ModelLoader(device="cpu").load_from_state_dict(dict(state)).eval()
