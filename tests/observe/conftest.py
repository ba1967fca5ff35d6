"""Logging of the process, as it was before a test."""

import logging
from collections.abc import Iterator

import pytest

from hub.observe.logs import LEVEL_FLOORS


@pytest.fixture
def logging_as_before() -> Iterator[None]:
    """`adopt_stdlib` changes the process; the next test must not notice."""
    names = ("uvicorn", "uvicorn.error", "uvicorn.access", *LEVEL_FLOORS)
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    levels = {name: logging.getLogger(name).level for name in names}
    yield
    root.handlers[:], root.level = handlers, level
    for name, before in levels.items():
        logging.getLogger(name).setLevel(before)
