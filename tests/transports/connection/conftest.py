from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.transports.connection.rig import Rig


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """No pages at all, and a client without a word."""
    for name in ("pages", "client"):
        (tmp_path / name).mkdir()
    (tmp_path / "pages" / "client.min.js").touch()
    return tmp_path


@pytest.fixture
async def rig(files: Path) -> Rig:
    return Rig(files)


@pytest.fixture
async def make_rig(files: Path) -> Callable[..., Rig]:
    def make(**settings: Any) -> Rig:
        return Rig(files, **settings)

    return make
