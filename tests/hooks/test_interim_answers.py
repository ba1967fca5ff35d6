"""Answers before an answer are passed over while they are few, and end the call where they are not.

To read them would hold the loop: the library reads all that came in one step.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest

from hub.auth.fetching import KeySetSource
from hub.auth.provider import FetchError
from hub.hooks.calling import Caller, HookError

EARLY = b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"


@asynccontextmanager
async def server(interim: Callable[[], int], *, step: int = 1 << 20) -> AsyncIterator[str]:
    """Answer each request behind so many others, in pieces of `step` bytes."""

    async def answers(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while await reader.readuntil(b"\r\n\r\n"):
                data = EARLY * interim() + b"HTTP/1.1 200 x\r\nContent-Length: 2\r\n\r\n{}"
                for at in range(0, len(data), step):
                    writer.write(data[at : at + step])
                    await writer.drain()
                    await asyncio.sleep(0)
        except (OSError, asyncio.IncompleteReadError):
            """The client has gone."""
        finally:
            writer.close()

    async with await asyncio.start_server(answers, "127.0.0.1") as listening:
        yield f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}/"


async def hook(url: str) -> bytes:
    caller = Caller(url, timeout_seconds=10)
    try:
        # Its body would be read as the next request.
        return (await caller.post(b"", {}))[1]
    finally:
        await caller.close()


CALLS: dict[str, Callable[[str], Awaitable[bytes]]] = {
    "the application": hook,
    "the provider": lambda url: KeySetSource(url)(),
}


@pytest.mark.parametrize("name", CALLS)
@pytest.mark.parametrize("step", [1, 7, 1 << 20])
async def test_a_few_are_passed_over(name: str, step: int) -> None:
    async with server(lambda: 16, step=step) as url:
        assert await CALLS[name](url) == b"{}"


@pytest.mark.parametrize("name", CALLS)
@pytest.mark.parametrize("count", [16 + 1, 1500])
async def test_too_many_end_the_call_before_its_deadline(name: str, count: int) -> None:
    async with server(lambda: count) as url:
        with pytest.raises((HookError, FetchError)) as caught:
            await CALLS[name](url)
    assert isinstance(caught.value, HookError | FetchError)
    assert caught.value.outcome == "unreachable"


async def test_each_call_of_a_connection_has_its_own() -> None:
    async with server(lambda: 16) as url:
        caller = Caller(url, timeout_seconds=10)
        for _ in range(3):
            assert await caller.post(b"", {}) == (200, b"{}")
        await caller.close()


@pytest.mark.parametrize("name", CALLS)
async def test_a_proxy_on_the_way_may_send_no_more(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server here is the proxy: it answers in place of the one that is named."""
    count = 16
    async with server(lambda: count) as url:
        monkeypatch.setenv("http_proxy", url)
        assert await CALLS[name]("http://application.invalid/") == b"{}"
        count += 1
        with pytest.raises((HookError, FetchError), match="answers came before the answer"):
            await CALLS[name]("http://application.invalid/")
