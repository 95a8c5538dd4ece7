"""What the tests of videos share."""

import pytest

from fidelity.decide.settings import Settings
from fidelity.decide.target import Target
from fidelity.networks.compute import Compute
from fidelity.session import Session


@pytest.fixture
def session():
    """Doubles the size with the shipped networks, without restoring, in float32."""
    settings = Settings(Target(2), domain="photo", restore="off", deband="off", cleanup="off")
    return Session(settings, Compute(precision="fp32"))
