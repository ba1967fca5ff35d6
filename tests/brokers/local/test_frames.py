"""Workers and their broker process compare the shape of their messages, so that both
know whether they agree."""

import asyncio
from typing import cast

import pytest

from hub.brokers.local import frames
from hub.core.options import MIB


def test_every_kind_of_message_has_a_number_of_its_own() -> None:
    kinds = [
        value
        for name, value in vars(frames).items()
        if type(value) is int and name[0] != "_" and value in frames._LAYOUTS
    ]
    assert len(kinds) == len(frames._LAYOUTS) == len(set(kinds))


def test_another_layout_is_another_shape(monkeypatch: pytest.MonkeyPatch) -> None:
    """A message that gets a field more is not taken for the one that it was."""
    monkeypatch.setitem(frames._LAYOUTS, frames.HISTORY, "number, channel, after, limit")
    assert frames._shape() != frames.SHAPE


def test_another_field_of_what_travels_is_another_shape(monkeypatch: pytest.MonkeyPatch) -> None:
    names = frames._names
    monkeypatch.setattr(frames, "_names", lambda kind: (*names(kind), "more"))
    assert frames._shape() != frames.SHAPE


class NotingTransport:
    """Notes whether the connection was cut off."""

    def __init__(self) -> None:
        self.aborted = False

    def abort(self) -> None:
        self.aborted = True


@pytest.mark.parametrize(("length", "aborted"), [(128 * MIB, False), (128 * MIB + 1, True)])
async def test_a_frame_of_128_mib_is_awaited_and_none_that_is_longer(
    length: int, *, aborted: bool
) -> None:
    """The first four bytes decide, so nothing of a longer frame is kept."""
    transport = NotingTransport()
    end = frames.Frames(on_messages=lambda _: None, on_lost=lambda: None)
    end.connection_made(cast("asyncio.BaseTransport", transport))
    end.data_received(length.to_bytes(4, "big") + b"x")
    assert transport.aborted is aborted
