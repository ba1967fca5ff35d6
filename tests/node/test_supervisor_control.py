"""A supervisor and its children talk in lines, without a process here."""

import asyncio
from typing import cast

import pytest

from hub.errors import SettingsError
from hub.node.supervisor.control import ControlSocket


class NotingWriter:
    """A stream that notes what is written; `broken` is how its other end has gone."""

    def __init__(self) -> None:
        self.written = b""
        self.closing = False
        self.broken: OSError | None = None

    def write(self, data: bytes) -> None:
        assert not self.closing
        self.written += data

    async def drain(self) -> None:
        if self.broken is not None:
            raise self.broken

    def is_closing(self) -> bool:
        return self.closing

    def close(self) -> None:
        self.closing = True


class Conversation:
    """One end, and the other end's words."""

    def __init__(self) -> None:
        self.reader = asyncio.StreamReader()
        self.writer = NotingWriter()
        self.control = ControlSocket(self.reader, cast("asyncio.StreamWriter", self.writer))
        self.heard: list[list[str]] = []
        self.hearing = asyncio.create_task(self._hear())

    async def _hear(self) -> None:
        async for words in self.control.messages():
            self.heard.append(words)

    async def turn(self) -> None:
        for _ in range(5):
            await asyncio.sleep(0)


@pytest.fixture
async def told() -> Conversation:
    return Conversation()


async def test_words_are_lines(told: Conversation) -> None:
    told.control.say("slots", "0", "2")
    told.control.say("retire")
    assert told.writer.written == b"slots 0 2\nretire\n"


@pytest.mark.parametrize("cut", range(1, len(b"slots 0 2\nretire\n")))
async def test_lines_may_be_cut_anywhere(told: Conversation, cut: int) -> None:
    stream = b"slots 0 2\nretire\n"
    told.reader.feed_data(stream[:cut])
    await told.turn()
    assert len(told.heard) == stream[:cut].count(b"\n")
    told.reader.feed_data(stream[cut:])
    await told.turn()
    assert told.heard == [["slots", "0", "2"], ["retire"]]


async def test_an_empty_line_says_nothing(told: Conversation) -> None:
    told.reader.feed_data(b"\nup\n")
    await told.turn()
    assert told.heard == [[], ["up"]]


@pytest.mark.parametrize("end", ["closed", "half a line", "reset", "no text", "no end of a line"])
async def test_the_end_of_the_stream_is_the_others_death(told: Conversation, end: str) -> None:
    """Lines before the end of the stream count, and a line without its end does not."""
    told.reader.feed_data(b"up\n")
    await told.turn()
    match end:
        case "closed":
            told.reader.feed_eof()
        case "half a line":
            told.reader.feed_data(b"slots 0")
            told.reader.feed_eof()
        case "reset":
            told.reader.set_exception(ConnectionResetError())
        case "no text":
            told.reader.feed_data(b"\xff\n")
        case "no end of a line":
            told.reader.feed_data(b"x" * (1 << 17))
    await told.turn()
    assert told.hearing.done()
    assert told.hearing.exception() is None
    assert told.heard == [["up"]]


async def test_nothing_is_said_to_the_dead(told: Conversation) -> None:
    told.control.close()
    told.control.say("drain")
    assert told.writer.written == b""


@pytest.mark.parametrize("broken", [None, BrokenPipeError()])
async def test_why_a_child_cannot_begin_is_said_before_it_ends(
    told: Conversation, broken: OSError | None
) -> None:
    """A line for each wrong setting; a supervisor that has gone hears none."""
    told.writer.broken = broken
    await told.control.refuse(SettingsError("HUB_PORT is 'x'\nHUB_HOST is 'y'"))
    assert told.writer.written == b"wrong HUB_PORT is 'x'\nwrong HUB_HOST is 'y'\n"
    assert told.writer.closing


async def test_a_child_says_that_it_lives_until_it_is_told_to_end(
    told: Conversation, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hub.node.supervisor.control.ALIVE_SECONDS", 0)
    living = asyncio.create_task(told.control.stay_alive())
    await told.turn()
    living.cancel()
    assert told.writer.written.startswith(b"alive\nalive\n")
    assert set(told.writer.written.split()) == {b"alive"}
