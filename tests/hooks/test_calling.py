"""Calls of the application share connections and imports, and no call has another one's cookies."""

import asyncio
import subprocess
import sys

import pytest

from hub.hooks.calling import MAX_ANSWER_BYTES, Caller, HookError
from hub_client.interim import MAX_PARTS
from tests.support.application import Application


@pytest.mark.parametrize("name", ["session", "s{}"], ids=["the same", "another each time"])
async def test_a_cookie_of_the_application_goes_with_no_other_call(name: str) -> None:
    """A cookie belongs to the peer that was asked about, and the next
    question may be about another."""
    async with Application() as app:
        app.fields = lambda: f"Set-Cookie: {name.format(len(app.asked))}=1; Path=/\r\n"
        caller = Caller(app.url, timeout_seconds=10)
        for _ in range(3):
            assert (await caller.post(b"{}", {}))[0] == 200
        await caller.close()
    assert ["cookie" in asked.headers for asked in app.asked] == [False] * 3
    assert app.connections == 1


@pytest.mark.parametrize(
    "answer",
    [
        b"Content-Length: %d\r\n\r\n%b" % (2 * MAX_ANSWER_BYTES, b"x" * 2 * MAX_ANSWER_BYTES),
        b"Content-Length: 100\r\n\r\ncut short",
        b"Transfer-Encoding: chunked\r\n\r\nno chunk",
    ],
    ids=["too long", "cut short", "no body"],
)
async def test_a_status_counts_whatever_becomes_of_the_page_behind_it(answer: bytes) -> None:
    """Events were taken with a 200; of a question only what a 200 says has to be read."""
    status = 0

    async def answers(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n{}")
        writer.write(b"HTTP/1.1 %d x\r\n%b" % (status, answer))
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(answers, "127.0.0.1") as server:
        port = server.sockets[0].getsockname()[1]
        caller = Caller(f"http://127.0.0.1:{port}/", timeout_seconds=10)
        for status in (200, 403, 500):
            assert await caller.post(b"{}", {}, whole=()) == (status, b"")
        for status in (403, 500):
            assert await caller.post(b"{}", {}) == (status, b"")
        status = 200
        with pytest.raises(HookError):
            await caller.post(b"{}", {})
        await caller.close()


async def test_an_answer_in_thousands_of_parts_is_too_large_before_it_is_late() -> None:
    """To read them would hold the loop: a chunk of one byte costs as much as a long one."""

    async def answers(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n{}")
        writer.write(b"HTTP/1.1 200 x\r\nTransfer-Encoding: chunked\r\n\r\n")
        writer.write(b"1\r\n \r\n" * (parts - 1) + b"1\r\n1\r\n0\r\n\r\n")
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(answers, "127.0.0.1") as server:
        port = server.sockets[0].getsockname()[1]
        caller = Caller(f"http://127.0.0.1:{port}/", timeout_seconds=10)
        parts = MAX_PARTS
        assert await caller.post(b"{}", {}) == (200, b" " * (parts - 1) + b"1")
        parts += 1
        with pytest.raises(HookError) as caught:
            await caller.post(b"{}", {})
        assert caught.value.outcome == "too_large"
        await caller.close()


def test_modules_that_a_call_needs_are_imported_at_the_start_and_by_no_question() -> None:
    """The first peer would wait for it, within the time of its question, and the loop as well."""
    program = (
        "import sys, hub.hooks.calling as calling;"
        "assert 'httpx2' not in sys.modules;"
        "calling.Caller('http://127.0.0.1:1/', timeout_seconds=1);"
        "assert 'httpx2' in sys.modules"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


async def test_an_application_that_says_no_status_has_taken_nothing() -> None:
    async with Application() as app:
        caller = Caller(app.url, timeout_seconds=10)
    with pytest.raises(HookError):
        await caller.post(b"{}", {}, whole=())
