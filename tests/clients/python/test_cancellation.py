"""The client is cancelled at every place where it can wait; nothing stays behind."""

import asyncio
import gc
import types
from collections.abc import AsyncIterator, Coroutine, Generator, Iterator
from contextlib import asynccontextmanager

import httpx2 as httpx
import pytest

from hub_client import ClientOptions, Gap, HubClient, Message, Publisher, ReconnectTiming
from tests.clients.python.fakes import Peer, message, reset, stay, websocket_hub, welcome
from tests.support.hub_process import HubProcess
from tests.support.waiting import eventually

DEADLINE_SECONDS = 20.0
OPTIONS = ClientOptions(timing=ReconnectTiming(base_seconds=0.01, cap_seconds=0.05))
# More than any use below has; the test fails when a use still waits after so many.
MAX_WAITS = 200


class CancelledAt:
    """Runs a coroutine and cancels its task when it waits for the `number`th time."""

    def __init__(self, number: int) -> None:
        self._number = number
        self.waits = 0

    @types.coroutine
    def run(self, use: "Coroutine[object, object, None]") -> Generator[object, object, None]:
        value: object = None
        error: BaseException | None = None
        while True:
            try:
                waits_for = use.send(value) if error is None else use.throw(error)
            except StopIteration:
                return
            self.waits += 1
            if self.waits == self._number:
                task = asyncio.current_task()
                assert task is not None
                task.cancel()
            try:
                value, error = (yield waits_for), None
            except BaseException as thrown:  # noqa: BLE001 - handed on to `use`
                error = thrown


async def is_over_after(number: int, use: "Coroutine[object, object, None]") -> bool:
    """Whether `use` ended before it waited for the `number`th time; otherwise it is cancelled."""
    cancelled = CancelledAt(number)

    async def run() -> None:
        await cancelled.run(use)

    job = asyncio.create_task(run())
    async with asyncio.timeout(DEADLINE_SECONDS):
        await asyncio.wait([job])
    if job.cancelled():
        return False
    job.result()
    # A cancellation on the last steps out may find nothing left to do: then it is over too.
    return cancelled.waits < number


async def subscribing(url: str, transport: str) -> None:
    """All a client does between its beginning and its end."""
    async with HubClient(url, transports=(transport,), options=OPTIONS) as hub:
        subscription = hub.subscribe("a", gaps=True)
        await hub.wait_connected()
        await subscription.wait_started()
        await hub.publish("a", 1)
        await anext(subscription)
        await hub.history("a")
        subscription.close()
        await hub.ping()


async def publishing(url: str, transport: str) -> None:
    async with Publisher(url) as publisher:
        await asyncio.gather(*(publisher.publish("a", number) for number in range(3)))
        await publisher.publish_many([])


@pytest.fixture(scope="module")
def hub() -> Iterator[HubProcess]:
    with HubProcess() as process:
        yield process


async def connections(url: str) -> int:
    async with httpx.AsyncClient(timeout=30) as http:
        stats = (await http.get(f"{url}/api/connections")).json()
    return len(stats["connections"])


@asynccontextmanager
async def nothing_left(url: str, *, leased: bool = False) -> AsyncIterator[None]:
    """No task, no complaint in the loop, and after the block no connection at the hub, which
    keeps only `leased` ones that nobody polls any more."""
    complaints: list[dict[str, object]] = []
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _, context: complaints.append(context))
    before = asyncio.all_tasks()
    yield
    await eventually(lambda: asyncio.all_tasks() <= before, what="the end of all tasks")
    if not leased:
        await eventually(lambda: is_empty(url), what="the end of all connections")
    assert complaints == []


async def is_empty(url: str) -> bool:
    return await connections(url) == 0


async def test_a_second_cancellation_while_it_disconnects_leaves_nothing_behind(
    hub: HubProcess,
) -> None:
    """Impatient callers cancel twice; the clean-up goes on without them."""
    async with nothing_left(hub.url):
        for transport in ("websocket", "sse"):
            entered = asyncio.Event()

            async def use(transport: str = transport, entered: asyncio.Event = entered) -> None:
                async with HubClient(hub.url, transports=(transport,), options=OPTIONS) as client:
                    kept = client.subscribe("a")
                    await kept.wait_started()
                    entered.set()
                    await asyncio.Event().wait()

            job = asyncio.create_task(use())
            await entered.wait()
            job.cancel()
            await asyncio.sleep(0)
            job.cancel()
            await asyncio.wait([job])
            assert job.cancelled()


@pytest.mark.parametrize(
    ("use", "transport"),
    [
        (subscribing, "websocket"),
        (subscribing, "sse"),
        (publishing, "http"),
        # The last, because the hub keeps it until its lease has ended.
        (subscribing, "poll"),
    ],
    ids=["websocket", "sse", "publisher", "poll"],
)
# anyio leaves the socket to the collector where a connect is cancelled as it succeeds.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
async def test_a_use_cancelled_at_any_of_its_waits_leaves_nothing_behind(
    hub: HubProcess, use: object, transport: str
) -> None:
    """Neither task nor connection is left, whichever wait was cancelled, and the next use works."""
    assert callable(use)
    number = 1
    async with nothing_left(hub.url, leased=transport == "poll"):
        while not await is_over_after(number, use(hub.url, transport)):
            number += 1
            assert number < MAX_WAITS
    assert number >= 3
    gc.collect()  # here, where the warning is expected


async def test_a_gap_whose_handler_is_cancelled_is_reported_again() -> None:
    """`on_gap` runs to its end once for every gap, or the iteration does not go on."""
    handled: list[str] = []
    called, forever = asyncio.Event(), asyncio.Event()

    async def handle(gap: Gap) -> None:
        if not called.is_set():
            called.set()
            await forever.wait()
        handled.append(gap.reason)

    async def script(peer: Peer) -> None:
        await peer.push(welcome())
        await peer.start("e1:0")
        await peer.push(reset("a", "e2:0"), message("a", 1))
        await peer.socket.wait_closed()

    async with websocket_hub(script) as fake, HubClient(fake.url, transports=("websocket",)) as hub:
        subscription = hub.subscribe("a", gaps=True, on_gap=handle)
        impatient = asyncio.ensure_future(anext(subscription))
        await called.wait()
        impatient.cancel()
        await asyncio.wait([impatient])
        before = subscription.position
        gap, item = await anext(subscription), await anext(subscription)
    assert (handled, before) == (["reset"], None)
    assert isinstance(gap, Gap)
    assert isinstance(item, Message)


async def test_an_error_that_a_state_handler_raises_at_the_end_leaves_nobody_waiting() -> None:
    """The iteration of another task ends all the same."""

    def handle(state: object) -> None:
        if getattr(state, "name", "") == "closed":
            raise KeyError

    options = ClientOptions(on_state=handle)
    async with websocket_hub(stay) as fake:
        client = HubClient(fake.url, transports=("websocket",), options=options)
        await client.__aenter__()
        waiting = asyncio.ensure_future(anext(client.subscribe("a"), None))
        await client.wait_connected()
        with pytest.raises(KeyError):
            await client.__aexit__(None, None, None)
        async with asyncio.timeout(DEADLINE_SECONDS):
            assert await waiting is None
