"""What many tests need: a channel nobody else uses."""

import secrets

import pytest


@pytest.fixture
def channel() -> str:
    """A channel of this test alone, in no namespace."""
    return f"test-{secrets.token_hex(4)}"
