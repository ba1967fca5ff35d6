"""The picture of `hub top` is never higher than its terminal, however low that is."""

from dataclasses import replace

import pytest

from hub.cli.top_picture import picture
from hub.cli.top_taking import Snapshot
from hub.cli.top_view import Shown, shown_at_first

SHOWN = shown_at_first("connections", None)
# The first lines and the last one stand whatever the height.
LEAST = 5


@pytest.mark.parametrize("height", range(1, 12))
@pytest.mark.parametrize(
    "shown",
    [
        replace(SHOWN, help=True),
        replace(SHOWN, selected="c1", is_open=True),
    ],
    ids=["help", "open"],
)
def test_a_text_takes_the_lines_that_there_are(height: int, shown: Shown) -> None:
    opened = {f"field{number}": number for number in range(30)} | {"connection": "c1"}
    snapshot = Snapshot("connections", 0.0, [], [], 0, opened=opened)
    made = picture(shown, snapshot, url="http://h", trouble="", width=80, height=height)
    assert len(made.renderables) == max(height, LEAST)
