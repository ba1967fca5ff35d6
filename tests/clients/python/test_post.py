"""POST straight to a hub: the same answers for threads and for asyncio, whatever a server says."""

import asyncio
import logging
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from hub_client import (
    NotPublishedError,
    Publisher,
    PublisherOptions,
    PublishRetry,
    SyncPublisher,
)
from hub_client.answer import (
    MAX_ANSWER_BYTES,
    AnswerReader,
    HttpResponse,
    PostFailedError,
    PostTarget,
)
from hub_client.async_post import AsyncPost
from hub_client.blocking_post import BlockingPost
from tests.clients.python.fakes import DEADLINE_SECONDS, HttpRequest, answers_all, http_hub
from tests.support import certificates
from tests.support.waiting import eventually

Post = Callable[[bytes], Awaitable[HttpResponse]]
Say = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n[]"


@asynccontextmanager
async def raw_server(say: Say) -> AsyncIterator[str]:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await say(reader, writer)
        finally:
            writer.close()

    server = await asyncio.start_server(talk, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/api/publish"
    finally:
        server.close()


async def asked(reader: asyncio.StreamReader) -> bytes:
    """The head and the body of one request."""
    head = await reader.readuntil(b"\r\n\r\n")
    return head + await reader.readexactly(int(head.partition(b"Content-Length: ")[2].split()[0]))


@asynccontextmanager
async def poster(kind: str, url: str, seconds: float = DEADLINE_SECONDS) -> AsyncIterator[Post]:
    server = PostTarget.of(url, {"Content-Type": "application/json"})
    if kind == "asyncio":
        post = AsyncPost(server, tls=None, max_connections=1, connect_seconds=seconds / 3)

        async def one(body: bytes) -> HttpResponse:
            return await post.post(body, seconds=seconds)

        yield one
        await post.close()
        return
    blocking = BlockingPost(server, tls=None, max_connections=1, connect_seconds=seconds / 3)

    async def threaded(body: bytes) -> HttpResponse:
        return await asyncio.to_thread(blocking.post, body, seconds=seconds)

    yield threaded
    blocking.close()


both = pytest.mark.parametrize("kind", ["asyncio", "threads"])


@both
@pytest.mark.parametrize(
    ("said", "status", "body"),
    [
        (OK, 200, b"[]"),
        (b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 x\r\n\r\n" + OK, 200, b"[]"),
        (b"HTTP/1.0 502 x\r\n\r\n<html>", 502, b"<html>"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n[]\r\n0\r\n\r\n", 200, b"[]"),
        (b"HTTP/1.1 204 x\r\n\r\n", 204, b""),
    ],
    ids=["plain", "informed before", "without a length", "chunked", "empty"],
)  # fmt: skip
async def test_an_answer_of_every_form_is_read(
    kind: str, said: bytes, status: int, body: bytes
) -> None:
    """In one piece and byte by byte."""

    async def say(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await asked(reader)
        for at in range(len(said)):
            writer.write(said[at : at + 1])
            await writer.drain()

    async with raw_server(say) as url, poster(kind, url) as post:
        answer = await post(b"[]")
    assert (answer.status, answer.body) == (status, body)
    reader = AnswerReader()
    reader.feed(said)
    if reader.answer is None:
        reader.end()
    assert reader.answer == answer


@both
@pytest.mark.parametrize(
    "said",
    [b"", b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n[", b"SSH-2.0-OpenSSH\r\n"],
    ids=["nothing", "half", "no HTTP"],
)
async def test_an_answer_that_is_cut_may_have_been_carried_out(kind: str, said: bytes) -> None:
    """The request was sent: nobody knows."""

    async def say(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await asked(reader)
        writer.write(said)

    async with raw_server(say) as url, poster(kind, url) as post:
        with pytest.raises(PostFailedError) as raised:
            await post(b"[]")
    assert raised.value.reached


@both
async def test_a_connection_is_used_again_until_the_hub_ends_it(kind: str) -> None:
    """One that ended while nobody used it is noticed before anything is sent on it."""
    connections = 0
    ended = asyncio.Event()

    async def say(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        for _ in range(3):
            await asked(reader)
            writer.write(OK)
            await writer.drain()
        writer.close()
        await writer.wait_closed()
        ended.set()

    async with raw_server(say) as url, poster(kind, url) as post:
        for _ in range(3):
            assert (await post(b"[]")).status == 200
        await ended.wait()
        for _ in range(3):
            await asyncio.sleep(0)  # the end is in the kernel, and not yet with the loop
        assert (await post(b"[]")).status == 200
    assert connections == 2


@both
@pytest.mark.parametrize("more", [OK, OK[:20]], ids=["whole", "begun"])
async def test_an_answer_that_nobody_asked_for_is_nobodys(kind: str, more: bytes) -> None:
    """The unasked answer comes in one read with the one before it, and the next request
    takes another connection."""
    connections = 0

    async def say(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        number = connections
        await asked(reader)
        body = b"%d" % number
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n" + body + more)
        await reader.read()

    async with raw_server(say) as url, poster(kind, url) as post:
        assert [(await post(b"[]")).body for _ in range(3)] == [b"1", b"2", b"3"]


async def test_an_answer_is_late_by_its_own_deadline() -> None:
    """One timer serves all connections: a later deadline hides no earlier one."""

    async def say(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
        await asked(reader)
        await asyncio.Event().wait()

    async with raw_server(say) as url:
        server = PostTarget.of(url, {})
        post = AsyncPost(server, tls=None, max_connections=2, connect_seconds=DEADLINE_SECONDS)
        patient = asyncio.create_task(post.post(b"[]", seconds=3600))
        await eventually(lambda: post._look is not None)
        with pytest.raises(PostFailedError, match="no answer in time"):
            await post.post(b"[]", seconds=0.05)
        assert not patient.done()
        patient.cancel()
        await asyncio.wait([patient])
        await post.close()


@both
async def test_an_answer_that_is_too_long_is_not_read_to_its_end(kind: str) -> None:
    """An answer longer than any of a hub's comes from another server, so
    it is not read to its end."""

    async def say(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await asked(reader)
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        while not writer.is_closing():
            writer.write(b"x" * 100_000)
            try:
                await writer.drain()
            except ConnectionError:
                return

    async with raw_server(say) as url, poster(kind, url) as post:
        answer = await post(b"[]")
    assert MAX_ANSWER_BYTES < len(answer.body) < 2 * MAX_ANSWER_BYTES


@both
async def test_where_no_connection_is_free_in_time_nothing_was_sent(kind: str) -> None:
    """The error says that the fault is on the client's side and that nothing was sent."""

    async def say(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
        await asked(reader)
        await asyncio.Event().wait()

    async with raw_server(say) as url, poster(kind, url, seconds=0.6) as post:
        first, second = await asyncio.gather(post(b"[1]"), post(b"[2]"), return_exceptions=True)
    assert isinstance(first, PostFailedError)
    assert isinstance(second, PostFailedError)
    assert (first.reached, "no answer in time" in str(first)) == (True, True)
    assert (second.reached, second.ours) == (False, True)


def test_a_request_says_where_it_goes_as_http_has_it() -> None:
    """The port where it is not the scheme's, a user of the URL, a path of any letters."""
    plain = PostTarget.of("http://[::1]:8000/livé/api/publish", {"A": "b"}).request(b"[]")
    head, _, body = plain.partition(b"\r\n\r\n")
    assert body == b"[]"
    assert head.split(b"\r\n") == [
        b"POST /liv%C3%A9/api/publish HTTP/1.1",
        b"Host: [::1]:8000",
        b"A: b",
        b"Content-Length: 2",
    ]
    secure = PostTarget.of("https://ann:p%40w@hub.example/api/publish", {})
    assert (secure.port, secure.secure) == (443, True)
    assert b"Host: hub.example\r\nAuthorization: Basic YW5uOnBAdw==\r\n" in secure.head


@both
@pytest.mark.skipif(not certificates.is_installed(), reason="no openssl here")
@pytest.mark.parametrize("trusted", [True, False])
async def test_a_hub_behind_tls_is_published_to_where_its_certificate_is_trusted(
    kind: str, trusted: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """`SSL_CERT_FILE` names who vouches for it; without that nothing is sent or tried again."""
    made = certificates.make_certificates(tmp_path)
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(made.certificate, made.key)

    async def say(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                await asked(reader)
                told = b'[{"channel":"a","epoch":"e1","offset":1}]'
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(told) + told)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    server = await asyncio.start_server(say, "127.0.0.1", 0, ssl=tls)
    url = f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    for name in ("SSL_CERT_FILE", "SSL_CERT_DIR", "HTTPS_PROXY", "https_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    if trusted:
        monkeypatch.setenv("SSL_CERT_FILE", str(made.authority))
    options = PublisherOptions(retry=PublishRetry(for_seconds=3600, base_seconds=3600))
    async with server:
        if trusted:
            await _publish(kind, url, options)
            await _publish(kind, url, options)
        else:
            with pytest.raises(NotPublishedError, match=r"not trusted .*SSL_CERT_FILE") as raised:
                await _publish(kind, url, options)
            # Another attempt would meet the same certificate.
            assert (raised.value.code, raised.value.retryable) == ("untrusted_certificate", False)


@both
async def test_an_outage_is_logged_once_and_its_end_as_well(
    kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Somebody with a wrong port should not look at half a minute of silence."""
    retry = PublishRetry(for_seconds=30, base_seconds=0.01, cap_seconds=0.02)
    options = PublisherOptions(retry=retry, breaker=None)
    async with http_hub(answers_all) as (url, _):
        port = int(url.rpartition(":")[2])
    with caplog.at_level("INFO", logger="hub_client"):
        call = asyncio.create_task(_publish(kind, url, options))
        await eventually(lambda: len(caplog.records) == 1)
        async with http_hub(answers_all, port):
            await call
    warning, info = caplog.records
    assert (warning.levelno, info.levelno) == (logging.WARNING, logging.INFO)
    assert warning.getMessage().startswith(f"cannot publish at {url} (ConnectError: ")
    assert "is a hub running there?" in warning.getMessage()
    assert info.getMessage() == f"publishing at {url} again"


async def _publish(kind: str, url: str, options: PublisherOptions) -> None:
    if kind == "asyncio":
        async with Publisher(url, options=options) as publisher:
            await publisher.publish("a", 1)
        return
    with SyncPublisher(url, options=options) as publisher:
        await asyncio.to_thread(publisher.publish, "a", 1)


async def test_ten_thousands_of_publications_at_once_all_happen() -> None:
    """More than may wait at a time: each waits for its turn, and nothing is thrown."""

    def answer(request: HttpRequest) -> object:
        return answers_all(request)

    async with http_hub(answer) as (url, requests), Publisher(url) as publisher:  # type: ignore[arg-type]  # an answer
        calls = (publisher.publish("a", number) for number in range(20_000))
        published = await asyncio.gather(*calls)
    assert [each.position.offset for each in published] == list(range(20_000))
    assert len(requests) <= 120
