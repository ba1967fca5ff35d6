"""Errors of the clients name the hub's address without its password."""

import asyncio

import pytest

from hub_client import (
    ClientOptions,
    ClosedError,
    ConnectionState,
    HubClient,
    NotPublishedError,
    Outgoing,
    Publisher,
    PublisherOptions,
    PublishRefusedError,
    PublishRetry,
    ReconnectTiming,
    RejectedError,
    SyncPublisher,
)
from hub_client.outages import OutageLog
from hub_client.transport import check_base_url, public_url
from tests.clients.python.fakes import HttpAnswer, http_hub, problem, stay, websocket_hub
from tests.support.waiting import eventually

NOBODY = "http://ann:s3cret@127.0.0.1:1/live"
ONCE = PublisherOptions(retry=PublishRetry(for_seconds=0))
NAMED = r"is a hub running there\? \(1 attempt in .* s at http://127.0.0.1:1/live\)$"


async def test_a_publisher_says_where_nobody_was() -> None:
    """The error shows the URL with its base path, as it was given."""
    async with Publisher(NOBODY, options=ONCE) as publisher:
        with pytest.raises(NotPublishedError, match=NAMED):
            await publisher.publish("a", 1)
        (outcome,) = await publisher.publish_many([Outgoing.of("a", 1)])
    assert "127.0.0.1:1/live" in str(outcome)
    assert "s3cret" not in str(outcome)


async def test_a_publisher_for_threads_says_the_same() -> None:
    """Django's log is read by somebody who did not write the settings."""
    with SyncPublisher(NOBODY, options=ONCE) as publisher:
        with pytest.raises(NotPublishedError, match=NAMED):
            await asyncio.to_thread(publisher.publish, "a", 1)


async def test_a_server_without_tls_is_suspected_where_its_answer_is_no_tls() -> None:
    """A hub answers the first bytes of a TLS handshake with a 400 in plain text."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.write(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n")
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        url = f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        suspects = r"does the URL begin with http:// there\?"
        async with Publisher(url, options=ONCE) as publisher:
            with pytest.raises(NotPublishedError, match=suspects):
                await publisher.publish("a", 1)
        with SyncPublisher(url, options=ONCE) as blocking:
            with pytest.raises(NotPublishedError, match=suspects):
                await asyncio.to_thread(blocking.publish, "a", 1)


async def test_an_answer_that_is_no_hubs_asks_whether_the_url_is_right() -> None:
    """Another server answers with a 404 in place of a hub's problem document."""
    async with (
        http_hub(lambda _: HttpAnswer(404, b"<h1>Not Found</h1>")) as (url, _),
        Publisher(url, options=ONCE) as publisher,
    ):
        with pytest.raises(PublishRefusedError, match="no answer of a hub: is the URL right"):
            await publisher.publish("a", 1)


async def test_a_client_that_is_rejected_has_the_hub_beside_its_traceback() -> None:
    """The reason itself is the hub's words."""
    async with (
        http_hub(lambda _: problem(403, "forbidden")) as (url, _),
        HubClient(url) as client,
    ):
        with pytest.raises(RejectedError) as raised:
            await anext(client.subscribe("a"))
    assert raised.value.__notes__ == [f"hub: {url}"]


@pytest.mark.parametrize("url", ["http://h:8000?token=t0k", "http://h/#live"])
def test_an_address_with_a_query_is_refused_and_what_is_in_it_not_repeated(url: str) -> None:
    """The query would stand in the middle of every URL that the client makes of the address."""
    with pytest.raises(ValueError, match=r"^hub URL is .*, expected") as raised:
        check_base_url(url)
    assert "t0k" not in str(raised.value)


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("http://h:8000/?room=1&x=", "http://h:8000/?room=1&x="),
        ("http://h:8000/live#top=1", "http://h:8000/live#top=1"),
        ("http://h?token=t0k&room=1", "http://h?token=********&room=1"),
        ("http://h?access_key=t0k#id_token=t0k", "http://h?access_key=********#id_token=********"),
        ("http://h?t0k", "http://h?********"),
        ("http://h#t0k", "http://h#********"),
        ("http://ann:t0k@h/?room=1", "http://h/?room=1"),
        ("http://ann:t0?k=t0k@h/?a=1", "http://h/?a=1"),
        ("ftp://h/?a=1", "ftp://h/?a=1"),
        ("http://h/a b?c=1", "http://h/a b?c=1"),
    ],
)
def test_a_wrong_address_is_named_whole_but_for_its_secrets(url: str, shown: str) -> None:
    """The error shows the refused address, also if only its query is wrong."""
    with pytest.raises(ValueError, match="hub URL is") as raised:
        check_base_url(url)
    assert f"hub URL is {shown!r}, expected something like" in str(raised.value)
    assert ("without a query" in str(raised.value)) == ("?" in shown or "#" in shown)


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("http://h:8000/live", "http://h:8000/live"),
        ("https://ann:p@w@h/live?token=t0k#x", "https://h/live"),
        ("http://ann:s3cret@h h", "http://h h"),
        ("nowhere", "nowhere"),
    ],
)
def test_an_address_is_shown_without_its_secrets(url: str, shown: str) -> None:
    """A wrong address is shown without them too, because errors show addresses."""
    assert public_url(url) == shown


async def test_a_client_that_finds_nobody_logs_it_once_and_names_the_hub(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Without the line, a program that is started before the hub would wait in silence."""
    options = ClientOptions(timing=ReconnectTiming(0.01, 0.02))
    with caplog.at_level("INFO", logger="hub_client"):
        async with HubClient(NOBODY, options=options) as client:
            await eventually(lambda: caplog.records)
            with pytest.raises(TimeoutError):
                await client.wait_connected(timeout_seconds=0.2)
    (record,) = caplog.records
    assert record.levelname == "WARNING"
    assert record.getMessage().startswith("no connection to http://127.0.0.1:1/live (")
    assert record.getMessage().endswith("is a hub running there?); trying until there is one")


def test_a_connection_that_ends_and_comes_back_is_no_outage(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A restart is silent, and a longer outage is logged at its beginning and at its end."""
    tell = OutageLog("http://h")
    restart = ["connecting", "connected", "waiting", "connecting", "connected"]
    outage = ["waiting", "connecting", "waiting", "connecting", "waiting", "connected"]
    with caplog.at_level("INFO", logger="hub_client"):
        for name in restart:
            tell(ConnectionState(name, "1012", transport="sse"))
        assert caplog.records == []
        for name in outage:
            tell(ConnectionState(name, "refused", transport="sse"))
    assert [record.getMessage() for record in caplog.records] == [
        "no connection to http://h (refused); trying until there is one",
        "connected to http://h over sse",
    ]


async def test_a_client_is_entered_once() -> None:
    """A second connection of the same client would be one that nobody closes."""
    async with websocket_hub(stay) as fake, HubClient(fake.url) as client:
        with pytest.raises(ClosedError, match="make another one"):
            await client.__aenter__()
