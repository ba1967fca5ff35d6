"""What many tests need: a channel nobody else uses."""

import secrets

import pytest
from hypothesis import settings

# Examples may take their time: the machine may be busy.
settings.register_profile("hub", deadline=None)
settings.load_profile("hub")


@pytest.fixture
def channel() -> str:
    """A channel of this test alone, in no namespace."""
    return f"test-{secrets.token_hex(4)}"
