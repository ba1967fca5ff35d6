"""Both transports that stream, wherever a test takes `transport`."""

import pytest

from tests.chaos.subscriber import TRANSPORTS


@pytest.fixture(params=TRANSPORTS)
def transport(request: pytest.FixtureRequest) -> str:
    return str(request.param)
