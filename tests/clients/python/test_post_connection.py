"""One socket of a publisher under asyncio, on a transport that only notes."""

import asyncio
from typing import cast

import pytest

from hub_client.answer import HttpResponse, PostFailedError, PostTarget
from hub_client.async_post import AsyncPost, _Connection

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n[]"


class NotingTransport:
    """Takes all it is given."""

    def __init__(self) -> None:
        self.written = b""
        self.closing = False

    def write(self, data: bytes) -> None:
        assert not self.closing
        self.written += data

    def is_closing(self) -> bool:
        return self.closing

    def abort(self) -> None:
        self.closing = True


class Asked:
    """A connection on which one request is under way, and its outcomes."""

    def __init__(self) -> None:
        self.transport = NotingTransport()
        self.connection = _Connection()
        self.connection.connection_made(cast("asyncio.Transport", self.transport))
        self.outcomes: list[HttpResponse | PostFailedError] = []
        self.ask()

    def ask(self) -> None:
        self.connection.ask(b"POST", 10.0, self.outcomes.append)

    @property
    def whole(self) -> list[tuple[int, bytes]]:
        return [
            (each.status, each.body) for each in self.outcomes if isinstance(each, HttpResponse)
        ]

    def failure(self) -> PostFailedError:
        (error,) = self.outcomes
        assert isinstance(error, PostFailedError)
        return error


@pytest.fixture
async def asked() -> Asked:
    return Asked()


async def test_a_request_is_written_at_once_and_waits_until_its_deadline(asked: Asked) -> None:
    assert asked.transport.written == b"POST"
    assert (asked.connection.deadline, asked.connection.may_reuse) == (10.0, False)
    asked.connection.data_received(OK)
    assert asked.whole == [(200, b"[]")]
    assert (asked.connection.deadline, asked.connection.may_reuse) == (None, True)


@pytest.mark.parametrize("cut", range(1, len(OK)))
async def test_an_answer_may_be_cut_anywhere(asked: Asked, cut: int) -> None:
    asked.connection.data_received(OK[:cut])
    assert asked.outcomes == []
    asked.connection.data_received(OK[cut:])
    assert asked.whole == [(200, b"[]")]
    asked.ask()
    asked.connection.data_received(OK)
    assert asked.whole == [(200, b"[]")] * 2


@pytest.mark.parametrize("came", range(len(OK)))
async def test_an_end_in_the_middle_of_an_answer_is_told_once(asked: Asked, came: int) -> None:
    """The request may have been carried out, so the failure says that the hub was reached."""
    asked.connection.data_received(OK[:came])
    asked.connection.connection_lost(ConnectionResetError("reset"))
    assert asked.failure().reached
    assert "reset" in str(asked.failure())
    assert asked.connection.over.done()
    asked.connection.connection_lost(None)
    assert len(asked.outcomes) == 1


async def test_an_answer_without_a_length_ends_with_the_connection(asked: Asked) -> None:
    asked.connection.data_received(b"HTTP/1.1 502 x\r\n\r\n<html>")
    assert asked.outcomes == []
    asked.connection.eof_received()
    assert asked.whole == [(502, b"<html>")]
    assert not asked.connection.may_reuse


async def test_an_end_behind_a_whole_answer_lets_nothing_more_be_asked(asked: Asked) -> None:
    asked.connection.data_received(OK)
    assert asked.connection.may_reuse
    asked.connection.eof_received()
    assert not asked.connection.may_reuse
    assert asked.whole == [(200, b"[]")]


@pytest.mark.parametrize("more", [b"x", OK])
async def test_bytes_that_nobody_asked_for_let_nothing_more_be_asked(
    asked: Asked, more: bytes
) -> None:
    asked.connection.data_received(OK)
    asked.connection.data_received(more)
    assert not asked.connection.may_reuse
    assert len(asked.outcomes) == 1


async def test_an_answer_that_is_no_http_is_told(asked: Asked) -> None:
    asked.connection.data_received(b"SSH-2.0-OpenSSH\r\n")
    assert asked.failure().reached
    assert not asked.connection.may_reuse


async def test_an_answer_is_read_up_to_its_bound() -> None:
    head = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n"
    most = 4 * 1024 * 1024
    for size in (most, most + 1):
        asked = Asked()
        asked.connection.data_received(head % (size + 1) + b"x" * size)
        over = size > most
        assert [len(body) for _, body in asked.whole] == ([size] if over else [])
        assert not asked.connection.may_reuse


async def test_a_request_on_a_connection_that_has_ended_is_told_later(asked: Asked) -> None:
    """Never before the call that asks has returned."""
    asked.connection.data_received(OK)
    asked.transport.closing = True
    asked.ask()
    assert len(asked.outcomes) == 1
    await asyncio.sleep(0)
    assert isinstance(asked.outcomes[1], PostFailedError)


async def test_of_many_connections_each_has_its_own_deadline(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """By a clock that a test turns: a request is late at its deadline, and not before."""
    loop = asyncio.get_running_loop()
    now = loop.time()
    post = AsyncPost(
        PostTarget.of("http://hub.test/api/publish", {}),
        tls=None,
        max_connections=3,
        connect_seconds=1,
    )
    made: list[_Connection] = []
    for _ in range(2):
        connection = _Connection()
        connection.connection_made(cast("asyncio.Transport", NotingTransport()))
        connection.may_reuse = True
        post._open.add(connection)
        post._idle.append(connection)
        made.append(connection)
    outcomes: dict[float, list[HttpResponse | PostFailedError]] = {5.0: [], 3.0: []}
    monkeypatch.setattr(loop, "time", lambda: now)
    for seconds, told in outcomes.items():
        assert post.begin(b"[]", seconds=seconds, on_answer=told.append)
    assert not post.begin(b"[]", seconds=1, on_answer=outcomes[5.0].append)
    for passed, late in ((2.999, 0), (3.0, 1), (4.999, 1), (5.0, 2)):
        monkeypatch.setattr(loop, "time", lambda passed=passed: now + passed)
        post._give_up_late()
        assert sum(map(len, outcomes.values())) == late
    assert "no answer in time" in str(outcomes[3.0][0])
    monkeypatch.undo()
    await post.close()
