"""The hub as an object in somebody's program."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from unittest.mock import Mock

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from hub import Hub, Settings
from hub.errors import BadRequestError, SettingsError, TooLargeError
from hub.wire.codes import CloseCode
from tests.transports.peers import Query, WebSocketPeer, http_client

QUICK = Settings(port=0, drain_seconds=0)


async def test_a_program_publishes_to_its_own_hub(channel: str) -> None:
    """In the same process, with no request in between."""
    async with Hub(QUICK) as hub, WebSocketPeer(hub.url, Query(channel), {}) as peer:
        first = await hub.publish(channel, {"eur": 1.09}, key="eur")
        again = await hub.publish(channel, b'{"big":12345678901234567890123}')
        came = [await peer.message() for _ in range(2)]
        page = await hub.history(channel, first.position)
    assert [push["data"] for push in came] == [{"eur": 1.09}, {"big": 12345678901234567890123}]
    assert came[0]["key"] == "eur"
    assert (first.position.offset, again.position.offset) == (1, 2)
    assert [publication.offset for publication in page.publications] == [2]


async def test_a_program_keeps_a_table_in_its_own_hub() -> None:
    """Rows come by key, are read, and are taken away."""
    keyed = Settings(port=0, drain_seconds=0, namespaces={"prices": {"keyed": True}})
    async with Hub(keyed) as hub:
        await hub.publish("prices:fx", 1.08, key="eur")
        await hub.publish("prices:fx", 0.86, key="gbp")
        await hub.publish("prices:fx", None, key="eur", remove=True)
        page = await hub.state("prices:fx")
        with pytest.raises(BadRequestError, match="not keyed"):
            await hub.state("news")
        with pytest.raises(BadRequestError, match="not keyed"):
            await hub.publish("news", None, key="eur", remove=True)
    assert [(row.key, row.data) for row in page.rows] == [("gbp", b"0.86")]
    assert page.head.offset == 3


async def test_an_idempotency_key_works_from_python_too(channel: str) -> None:
    async with Hub(QUICK) as hub:
        first = await hub.publish(channel, 1, idempotency_key="k")
        again = await hub.publish(channel, 1, idempotency_key="k")
    assert (again.position, again.duplicate, first.duplicate) == (first.position, True, False)


async def test_a_publication_that_cannot_be_made_is_said_and_not_counted(channel: str) -> None:
    async with Hub(Settings(port=0, drain_seconds=0, max_message_bytes=10)) as hub:
        with pytest.raises(BadRequestError, match="not allowed"):
            await hub.publish("not a channel", 1)
        with pytest.raises(BadRequestError):
            await hub.publish(channel, b"{not json}")
        with pytest.raises(TooLargeError, match="limit is 10"):
            await hub.publish(channel, "x" * 10)
        with pytest.raises(BadRequestError):
            await hub.publish(channel, 1, key="")
        assert (await hub.history(channel)).head.offset == 0


async def test_a_hub_that_is_not_started_says_so() -> None:
    hub = Hub(QUICK)
    assert hub.url == ""
    with pytest.raises(RuntimeError, match="async with"):
        await hub.publish("a", 1)


async def test_a_port_that_is_taken_is_named(channel: str) -> None:
    """The error names the settings that chose the port, and the program that uses it goes on."""
    async with Hub(QUICK) as first:
        port = int(first.url.rpartition(":")[2])
        with pytest.raises(SettingsError, match=f"HUB_PORT is {port} .*in use"):
            async with Hub(Settings(port=port)):
                pass
        async with WebSocketPeer(first.url, Query(channel), {}) as peer:
            await first.publish(channel, 1)
            assert await peer.data(1) == [1]


@pytest.mark.parametrize("url", ["redis://h:65536", "redis+sentinel://h", "redis://h,redis://h"])
async def test_a_broker_that_is_none_is_named(url: str) -> None:
    """With the setting, for whoever has many."""
    with pytest.raises(SettingsError, match=r"(?i)^HUB_BROKER: .*redis"):
        async with Hub(Settings(port=0, broker=url)):
            pass


@pytest.mark.parametrize("host", ["192.0.2.1", "nowhere.invalid"])
async def test_an_address_that_is_not_this_machines_is_named(host: str) -> None:
    """The message does not name the port, because nothing is wrong with it."""
    # RFC 5737: an address for documentation, on no machine. RFC 6761: a name of none.
    with pytest.raises(SettingsError, match=f"^HUB_HOST is {host}: .*an address of this machine"):
        async with Hub(Settings(host=host, port=0, insecure=True)):
            pass


async def test_the_port_is_free_again_afterwards() -> None:
    async with Hub(QUICK) as hub:
        port = int(hub.url.rpartition(":")[2])
    async with Hub(Settings(port=port, drain_seconds=0)) as again:
        assert again.url == hub.url


async def test_a_hub_listens_on_ipv6_too() -> None:
    with contextlib.closing(socket.socket(socket.AF_INET6)) as probe:
        try:
            probe.bind(("::1", 0))
        except OSError:
            pytest.skip("this machine has no IPv6 loopback")
    async with Hub(Settings(host="::1", port=0, drain_seconds=0)) as hub:
        assert hub.url.startswith("http://[::1]:")
        async with http_client() as http:
            assert (await http.get(f"{hub.url}/readyz")).status_code == 200


async def test_an_exception_in_the_body_stops_without_draining(channel: str) -> None:
    """The exception reaches the caller without waiting for the hour of draining."""
    hub = Hub(Settings(port=0, drain_seconds=3600, ready_delay_seconds=3600))

    async def run(stack: contextlib.AsyncExitStack) -> None:
        async with hub:
            await stack.enter_async_context(WebSocketPeer(hub.url, Query(channel), {}))
            raise ZeroDivisionError

    async with contextlib.AsyncExitStack() as stack, asyncio.timeout(60):
        with pytest.raises(ZeroDivisionError):
            await run(stack)
    assert not hub.node.registry.sessions


async def test_cancelling_the_body_stops_without_draining() -> None:
    entered = asyncio.Event()

    async def run() -> None:
        async with Hub(Settings(port=0, drain_seconds=60, ready_delay_seconds=60)):
            entered.set()
            await asyncio.Event().wait()

    task = asyncio.create_task(run())
    await entered.wait()
    task.cancel()
    done, _ = await asyncio.wait([task], timeout=30)
    assert done
    assert task.cancelled()


async def test_two_hubs_in_one_process_know_nothing_of_each_other(channel: str) -> None:
    """No global state: channels, counters and sessions are a node's own."""
    async with Hub(QUICK) as one, Hub(QUICK) as two:
        async with WebSocketPeer(one.url, Query(channel), {}) as peer:
            await two.publish(channel, "two")
            await one.publish(channel, "one")
            assert await peer.data(1) == ["one"]
        assert (one.node.counters.publications, two.node.counters.publications) == (1, 1)


def _application(steps: list[str]) -> Starlette:
    async def hello(request: Request) -> PlainTextResponse:
        return PlainTextResponse(f"hello from {request.app.state.name}")

    @contextlib.asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        steps.append("started")
        app.state.name = "the application"
        yield
        steps.append("stopped")

    return Starlette(routes=[Route("/hello", hello), Route("/", hello)], lifespan=lifespan)


async def test_an_application_answers_what_the_hub_does_not(channel: str) -> None:
    """On the same port, within its own lifespan."""
    steps: list[str] = []
    async with Hub(QUICK, app=_application(steps)) as hub:
        assert steps == ["started"]
        async with (
            http_client(base_url=hub.url) as http,
            WebSocketPeer(hub.url, Query(channel), {}) as peer,
        ):
            for path in ("/hello", "/"):
                assert (await http.get(path)).text == "hello from the application"
            assert (await http.get("/nowhere")).status_code == 404
            assert (await http.post(f"/api/publish/{channel}", json=1)).status_code == 200
            assert await peer.data(1) == [1]
    assert steps == ["started", "stopped"]


async def test_a_request_of_the_application_finds_the_hub_it_came_by(channel: str) -> None:
    """Two hubs with one application: each request publishes in its own."""

    async def publish(request: Request) -> PlainTextResponse:
        published = await request.state.hub.publish(channel, 1)
        return PlainTextResponse(str(published.position))

    app = Starlette(routes=[Route("/publish", publish, methods=["POST"])])
    async with Hub(QUICK, app=app) as first, Hub(QUICK, app=app) as second:
        for hub in (first, second):
            async with http_client(base_url=hub.url) as http:
                answer = await http.post("/publish")
            assert answer.text == str((await hub.history(channel)).head)
            assert answer.text.endswith(":1")


async def test_an_application_that_cannot_start_ends_the_start() -> None:
    @contextlib.asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        raise RuntimeError("no database")
        yield

    with pytest.raises(SettingsError, match="did not start"):
        async with Hub(QUICK, app=Starlette(lifespan=lifespan)):
            pass


async def test_a_fault_while_history_is_replayed_ends_the_session(
    channel: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To stay would hide from it what never came; it comes back and resumes."""
    async with Hub(QUICK) as hub:
        await hub.publish(channel, 1)
        fault = Mock(side_effect=RuntimeError("a fault"))
        monkeypatch.setattr(hub.node.core.replay, "_write", fault)
        async with WebSocketPeer(hub.url, Query(channel, last="1"), {}) as peer:
            while (push := await peer.push())["op"] != "goodbye":
                assert push["op"] in {"welcome", "subscribed"}
    assert push["code"] == CloseCode.INTERNAL


async def test_a_hub_in_a_program_says_that_workers_are_not_its_business() -> None:
    """A hub in a program is one process whatever HUB_WORKERS says, so it logs a warning."""
    log = Mock()
    async with Hub(Settings(port=0, drain_seconds=0, workers=4), log=log):
        pass
    told = [str(call) for call in log.warning.call_args_list]
    assert any("HUB_WORKERS has no effect" in each for each in told)
