"""The hub as an object: a whole node, from start to drained.

    async with Hub(Settings(port=8000)) as hub:
        await hub.publish("prices", {"eur": 1.09})

Entering starts the node, its listener included; leaving drains it. `hub.main` makes a program with
signals of it.
"""

import asyncio
import contextlib
from collections.abc import Collection
from types import TracebackType
from typing import Self

from structlog.typing import FilteringBoundLogger

from hub.admin.drain import abort_all
from hub.core.ports import HistoryPage, PublishRequest, PublishResult, StatePage
from hub.core.publication import Position, check_channel
from hub.errors import HubError
from hub.node.hosted import SIBLINGS_WARNING, HostSignals, should_warn_of_siblings
from hub.node.node import Node
from hub.node.server import Listener
from hub.node.supervisor.roles import Worker
from hub.node.transports import asgi_app
from hub.observe.background import Ticks, tasks
from hub.observe.log_levels import LOOP
from hub.observe.logs import make_logger
from hub.observe.loop_lag import LoopLag
from hub.settings import Settings
from hub.transports.asgi_types import ASGIApp, Receive, Scope, Send
from hub.wire.payload import check_key, check_payload, encode_payload, marks_of

# The scope of idempotency keys of the application in this process.
_IN_PROCESS = "in-process"
_ONE_PROCESS = (
    "HUB_WORKERS has no effect on a hub inside a program: `hub serve` and `hub.serve` start several"
)


class Hub:
    """A node in the running event loop. It can be entered once.

    Args:
        settings: defaults when left out; neither environment nor files are read.
        app: an ASGI application that answers the paths the hub does not. Its requests find this
            hub in their state: `request.state.hub` in Starlette and FastAPI.
        listen: whether the hub opens a port of its own; when left out, it does unless
            `asgi` was called before it starts.
        log: takes the node's lines; stderr when left out.
        worker: the sockets of one of several workers; see `hub.node.supervisor`.
    """

    def __init__(
        self,
        settings: Settings | None = None,
        *,
        app: ASGIApp | None = None,
        listen: bool | None = None,
        log: FilteringBoundLogger | None = None,
        worker: Worker | None = None,
    ) -> None:
        self.settings = settings or Settings()
        self._app = None if app is None else _with_state(app, self)
        self._listen = listen
        self._worker = worker
        self._log = log or make_logger(self.settings)
        self._stack = contextlib.AsyncExitStack()
        self._node: Node | None = None
        self._listener: Listener | None = None
        self._inner: ASGIApp | None = None
        self._stop_now = asyncio.Event()
        self._draining: asyncio.Task[None] | None = None
        self._hosted = listen is False
        """Whether another server owns the process, and so its signals."""

    async def __aenter__(self) -> Self:
        """Start; raise `SettingsError` when the port is taken."""
        try:
            await self._start()
        except BaseException:
            await self._stack.aclose()
            raise
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Drain over `drain_seconds`, at once when an exception or `stop_now` ends it."""
        if kind is not None:
            self.stop_now()
        await self._stack.aclose()

    async def _start(self) -> None:
        for warning in self.settings.warnings():
            self._log.warning("setting", message=warning)
        loop = asyncio.get_running_loop()
        spawn = await self._stack.enter_async_context(tasks(self._log))
        lag_log = self._log.bind(subsystem=LOOP)
        lag = LoopLag(lag_log, stall_seconds=self.settings.stall_seconds)
        self._node = Node(
            self.settings,
            log=self._log,
            spawn=spawn,
            defer=loop.call_soon,
            lag=lag,
            worker=self._worker,
        )
        ticks = Ticks(self._node.tick, self._log, quiet=self._node.is_quiet)
        self._stack.callback(ticks.stop)
        self._stack.push_async_callback(self._node.stop)
        if self._worker is None and self.settings.workers > 1:
            self._log.warning("setting", message=_ONE_PROCESS)
        if self._worker is None and should_warn_of_siblings(self.settings.broker):
            self._log.warning("several_workers", message=SIBLINGS_WARNING)
        await self._node.start()
        self._stack.callback(lag.stop)
        ticks.start()
        if self._hosted:
            self._inner = asgi_app(self._node)
        if self._listen or not self._hosted:
            inherited = () if self._worker is None else self._worker.sockets
            self._listener = Listener(self._node, self._app, inherited)
            self._stack.push_async_callback(self._listener.stop)
            await self._listener.start()
        # Nobody waits for a hub that begins: modules that are still imported are no stall.
        lag.start(loop)
        if self._hosted:
            signals = HostSignals(drain=self.begin_drain, hurry=self.stop_now)
            self._stack.callback(signals.give_back)
            signals.take()
        self._stack.push_async_callback(self._drained)

    def begin_drain(self, *, at_once: bool = False) -> asyncio.Task[None]:
        """Make this node not ready, then close all sessions over `drain_seconds`.

        Await the returned task to know that the sessions are gone. Called again, it returns the
        same task. Leaving the hub waits for it, and begins it where it has not begun.

        Args:
            at_once: close all of them now, asking them to return over `drain_seconds`. For a
                server that is about to cut their connections.
        """
        if self._draining is None:
            self._draining = asyncio.create_task(self._drain(self.node, at_once=at_once))
        return self._draining

    async def _drained(self) -> None:
        await self.begin_drain()

    async def _drain(self, node: Node, *, at_once: bool) -> None:
        settings, drainer = self.settings, node.drainer
        if self._hosted:
            # A process of the hub's own logs this itself, with the signal.
            self._log.info(
                "draining",
                connections=len(node.registry.sessions),
                window_seconds=0 if at_once else settings.drain_seconds,
            )
        draining = asyncio.create_task(
            drainer.stop_at_once(
                return_seconds=settings.drain_seconds, may_take_turns=not self._hosted
            )
            if at_once
            else drainer.stop(
                ready_delay_seconds=settings.ready_delay_seconds,
                window_seconds=settings.drain_seconds,
            )
        )
        stopping = asyncio.create_task(self._stop_now.wait())
        await asyncio.wait({draining, stopping}, return_when=asyncio.FIRST_COMPLETED)
        for task in (draining, stopping):
            task.cancel()
        await asyncio.gather(draining, stopping, return_exceptions=True)
        if self._hosted:
            left = len(node.registry.sessions) + len(node.registry.leaving)
            self._log.info("drained", connections_cut=left)
        abort_all(node.registry)
        node.waiting_polls.end_all()

    async def accept_at(self, places: Collection[int]) -> None:
        """Accept at these of a worker's sockets alone."""
        if self._listener is not None:
            await self._listener.accept_at(places)

    async def stop_accepting(self) -> None:
        """Accept nowhere, and let go of the sockets; connections stay."""
        if self._listener is not None:
            await self._listener.stop_accepting()

    async def leave_to_another(self) -> None:
        """Drain, and have HTTP connections go to another process that accepts already.

        Called after `stop_accepting`. Peers that were accepted before still open their sessions.
        """
        if self._listener is not None:
            await self._listener.first_requests()
        self.begin_drain()
        if self._listener is not None:
            await self._listener.stop_asking(self.settings.drain_seconds)

    def stop_now(self) -> None:
        """End or skip the draining."""
        self._stop_now.set()

    # -- for the application in this process -------------------------------------------------

    @property
    def node(self) -> Node:
        if self._node is None:
            raise RuntimeError("the hub is not started: use `async with Hub(...) as hub`")
        return self._node

    @property
    def url(self) -> str:
        """The hub's URL, such as `http://127.0.0.1:8000`."""
        return "" if self._listener is None else self._listener.url

    def asgi(self) -> ASGIApp:
        """Return this hub as an ASGI application, to be mounted under any server.

        The hub has to be entered while requests come: in the outer application's lifespan, or
        by the server itself where this is its application. The hub opens no port of its own then,
        unless it was made with `listen=True`. The signals of the server are the hub's first
        (`hub.node.hosted`).
        """
        if self._listen is None and self._node is None:
            self._hosted = True

        # A function, not a method: uvicorn takes a bound method for an ASGI 2 application.
        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            if scope["type"] == "lifespan":
                await self._lifespan(receive, send)
                return
            if self._node is None:
                raise RuntimeError("the hub is not started: enter it in the application's lifespan")
            if self._inner is None:
                # A hub with a listener of its own has a second table of routes only where needed.
                self._inner = asgi_app(self._node)
            await self._inner(scope, receive, send)

        return app

    async def _lifespan(self, receive: Receive, send: Send) -> None:
        await receive()
        self._hosted = True
        async with contextlib.AsyncExitStack() as stack:
            try:
                await stack.enter_async_context(self)
            except Exception as error:  # noqa: BLE001 - the border: the server has to know of any
                # Only this ends the server. An exception without it means an application without
                # a lifespan: uvicorn would serve that, and answer each request with 500.
                if not isinstance(error, HubError):
                    self._log.exception("hub_did_not_start")
                why = f"the hub did not start: {error}"
                await send({"type": "lifespan.startup.failed", "message": why})
                return
            await send({"type": "lifespan.startup.complete"})
            await receive()
        await send({"type": "lifespan.shutdown.complete"})

    async def publish(
        self,
        channel: str,
        data: object,
        *,
        key: str | None = None,
        idempotency_key: str | None = None,
        remove: bool = False,
        end: bool = False,
    ) -> PublishResult:
        """Publish anything orjson can encode; `bytes` are taken as JSON that is encoded already.

        As orjson does, NaN and the infinities become null. `remove` takes the row of `key` away.
        `end`: it is the last of its channel.

        Raises:
            BadRequestError: the channel or a key is not allowed, `data` is not JSON, or a row is
                to go of a channel that keeps none.
            TooLargeError: `data` is over `max_message_bytes`.
            HubError: the broker did not take it.
        """
        raw = data if isinstance(data, bytes) else encode_payload(data)
        for name, value in (("key", key), ("idempotency_key", idempotency_key)):
            if value is not None:
                check_key(value, name)
        request = PublishRequest(
            check_channel(channel),
            check_payload(raw, limit=self.settings.max_message_bytes),
            _IN_PROCESS,
            key=key,
            marks=marks_of(remove=remove, end=end, key=key),
            idempotency_key=idempotency_key,
            trace=tracing.current() if (tracing := self.node.tracing) else None,
        )
        if remove:
            self.node.api.check_keyed(channel)
        result = self.node.api.publish(request)
        return result if isinstance(result, PublishResult) else await result

    async def history(
        self, channel: str, since: Position | None = None, limit: int = 100
    ) -> HistoryPage:
        """See `hub.core.reading.ChannelReading.history`."""
        return await self.node.api.history(check_channel(channel), since, limit)

    async def state(self, channel: str, after: str = "", limit: int = 100) -> StatePage:
        """See `hub.core.reading.ChannelReading.state`."""
        return await self.node.api.state(check_channel(channel), after, limit)


def _with_state(inner: ASGIApp, hub: Hub) -> ASGIApp:
    """Return `inner` with the hub in the state of its requests."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        scope.setdefault("state", {})["hub"] = hub
        await inner(scope, receive, send)

    return app
