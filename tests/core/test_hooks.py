"""A publication carries the application's data, whether a command or a request brought it."""

from typing import Any, cast

import pytest

from hub.core.commands import Publish
from hub.core.hooks import Asker, Hooks, judged
from hub.core.identity import Identity
from hub.core.ports import PublishRequest
from hub.core.publication import REMOVES

ASKER = Asker(Identity(), None, "192.0.2.1", {})


class Answering:
    """An application that gives the same data each time; None: what it was asked about."""

    def __init__(self, instead: bytes | None) -> None:
        self._instead = instead

    async def check_publish(self, asker: Asker, channel: str, data: bytes) -> bytes:
        return data if self._instead is None else self._instead


def answering(instead: bytes | None) -> Hooks:
    return cast("Hooks", Answering(instead))


@pytest.mark.parametrize("asked", [Publish(None, "a", b"1"), PublishRequest("a", b"1", "me")])
async def test_the_application_s_data_stands_in_the_place_of_the_asker_s(
    asked: Any,
) -> None:
    assert (await judged(answering(b"2"), ASKER, asked)).data == b"2"
    assert await judged(answering(None), ASKER, asked) is asked


@pytest.mark.parametrize(
    "asked",
    [
        Publish(None, "a", b"null", key="k", marks=REMOVES),
        PublishRequest("a", b"null", "me", key="k", marks=REMOVES),
    ],
)
async def test_nothing_is_put_into_what_takes_a_row_away(asked: Any) -> None:
    assert await judged(answering(b"2"), ASKER, asked) is asked
