"""The places that show a label's values have a word for each of them."""

import re

import pytest

from hub.core.labels import CLOSE_CODE, LIMIT
from hub.dashboard import DIRECTORY

OWN_CODES = [code for code in CLOSE_CODE.meanings if code >= "4000"]


@pytest.mark.parametrize(
    ("view", "values"),
    [("refused.js", list(LIMIT.meanings)), ("closed.js", OWN_CODES)],
    ids=["limits", "close codes"],
)
def test_the_dashboard_has_a_word_for_each(view: str, values: list[str]) -> None:
    """The dashboard's maps are JavaScript, so no other check finds a value that
    was added in Python alone."""
    text = (DIRECTORY / "views" / view).read_text()
    assert [each for each in values if not re.search(rf"\b{each}: \"", text)] == []
