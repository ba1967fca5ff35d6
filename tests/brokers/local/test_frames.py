"""What workers and their broker process say: both ends know whether they say the same."""

import pytest

from hub.brokers.local import frames


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
