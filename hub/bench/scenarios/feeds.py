"""The cost of patterns, filters and tables beside plain subscriptions and channels.

Both sides are in one hub and take turns, round by round, so that disturbances meet both. The figure
is the hub's own CPU, per delivery or per POST.
"""

import asyncio
import json
import secrets
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median
from typing import cast
from urllib.parse import quote

from hub.bench.cores import Cores
from hub.bench.greetings import subscribe_request
from hub.bench.plan import BenchError, Contestant, ServerAddress
from hub.bench.reader import allow_open_files
from hub.bench.scenarios.probe import stall_goals, watched_server
from hub.bench.scenarios.scenario import Bar, Goal, Result, ScenarioOptions
from hub.bench.server import SERVE_COMMAND, own_server

ROUNDS = 5
_OTHER_FILES = 256
_DIALLED_AT_ONCE = 256
_OF_AN_ADDRESS = 5000
_ALL_SECONDS = 120.0
_DATA = "x" * 200
_MESSAGE = b'"op":"message"'
# Subscribers here answer no pings: none comes while one is measured.
_SETTINGS = {
    "HUB_LOG_LEVEL": "error",
    "HUB_HEARTBEAT_SECONDS": "300",
    "HUB_NAMESPACES": '{"table":{"keyed":true}}',
}
FILTERS = 100
MEMBERS = 1000
FOLLOWERS = 10_000
POSTS = 2000
_AT_ONCE = 16
ROWS = 10_000
_TABLES = 5
_LAST_PAGE = b'"more":false'


class _Arrivals:
    """Messages that came to all subscribers."""

    def __init__(self) -> None:
        self.count = 0
        self._wanted = 0
        self._reached = asyncio.Event()

    def came(self, count: int) -> None:
        self.count += count
        if self.count >= self._wanted:
            self._reached.set()

    async def reach(self, wanted: int) -> None:
        self._wanted = wanted
        self._reached.clear()
        try:
            if self.count < wanted:
                async with asyncio.timeout(_ALL_SECONDS):
                    await self._reached.wait()
        except TimeoutError:
            raise BenchError(f"{wanted - self.count:,} messages did not come") from None


class _Subscriber(asyncio.Protocol):
    def __init__(self, request: bytes, arrivals: _Arrivals) -> None:
        self._request = request
        self._arrivals = arrivals
        self._rest = b""
        self.subscribed: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        cast("asyncio.Transport", transport).write(self._request)

    def data_received(self, data: bytes) -> None:
        text = self._rest + data
        if not self.subscribed.done():
            if b'"op":"subscribed"' not in text:
                self._rest = text
                return
            self.subscribed.set_result(None)
        if count := text.count(_MESSAGE):
            self._arrivals.came(count)
            text = text[text.rfind(_MESSAGE) + len(_MESSAGE) :]
        self._rest = text[1 - len(_MESSAGE) :]


@dataclass(frozen=True, slots=True)
class _Side:
    """A side: its subscribers, and the publications of a round."""

    label: str
    queries: Sequence[str]
    bodies: Sequence[object]
    deliveries: int


async def _subscribe(
    target: ServerAddress,
    queries: Sequence[str],
    arrivals: _Arrivals,
    held: list[asyncio.Transport],
) -> None:
    loop, head = asyncio.get_running_loop(), subscribe_request(target, Contestant.WEBSOCKET, "X")
    for start in range(0, len(queries), _DIALLED_AT_ONCE):
        some = queries[start : start + _DIALLED_AT_ONCE]
        requests = [head.replace(b"?channel=X", b"?" + query.encode(), 1) for query in some]
        made = await asyncio.gather(
            *(
                loop.create_connection(
                    lambda request=request: _Subscriber(request, arrivals),
                    target.host,
                    target.port,
                    local_addr=_local(len(held)),
                )
                for request in requests
            )
        )
        held += [transport for transport, _ in made]
        async with asyncio.timeout(_ALL_SECONDS):
            await asyncio.gather(*(peer.subscribed for _, peer in made))


def _local(number: int) -> tuple[str, int] | None:
    """Return an address for so many more connections: one address alone has 28,000 ports."""
    return None if sys.platform != "linux" else (f"127.0.0.{2 + number // _OF_AN_ADDRESS}", 0)


async def _leave(held: Sequence[asyncio.Transport]) -> None:
    for transport in held:
        transport.abort()
    await asyncio.sleep(0)


async def _post(target: ServerAddress, bodies: Sequence[object]) -> None:
    """Each on one of a few connections, one after another there."""
    waiting = [json.dumps(body).encode() for body in reversed(bodies)]

    async def one() -> None:
        reader, writer = await asyncio.open_connection(target.host, target.port)
        while waiting:
            body = waiting.pop()
            head = f"POST /api/publish HTTP/1.1\r\nHost: {target.host}:{target.port}\r\n"
            fields = f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
            writer.write((head + fields).encode() + body)
            answer = await reader.readuntil(b"\r\n\r\n")
            if b" 200 " not in answer[:20]:
                raise BenchError(f"not published: {answer[:300]!r}")
            length = answer.lower().partition(b"content-length:")[2].partition(b"\r\n")[0]
            await reader.readexactly(int(length))
        writer.close()
        await writer.wait_closed()

    await asyncio.gather(*(one() for _ in range(min(_AT_ONCE, len(bodies)))))


def _compare(
    request: ScenarioOptions, sides: tuple[_Side, _Side], *, at_most: float, about: str, per: str
) -> Result:
    """Compare the first side with the second; `per` is the unit of the figure."""
    allow_open_files(sum(len(side.queries) for side in sides) + _OTHER_FILES)
    cores = Cores.divide()
    found: dict[str, list[float]] = {side.label: [] for side in sides}
    command = request.command or SERVE_COMMAND
    with (
        cores.as_load(),
        own_server(cores, command=command, settings=_SETTINGS) as server,
        asyncio.Runner() as run,
    ):
        meter = server.meter
        if meter is None:
            raise BenchError("this needs a hub of its own")
        arrivals = run.run(_arrivals())
        held: list[asyncio.Transport] = []
        for side in sides:
            request.phases.phase(side.label, len(side.queries))
            run.run(_subscribe(server.target, side.queries, arrivals, held))
        rounds, disturbed = request.rounds or ROUNDS, False
        for number in range(rounds + 1):
            for side in sides if number % 2 else reversed(sides):
                before, began = meter.usage(), time.perf_counter()
                run.run(_round(server.target, side, arrivals))
                used = meter.usage().since(before)
                # The first is to warm up.
                if number:
                    each = used.cpu_seconds / max(side.deliveries, len(side.bodies))
                    found[side.label].append(each * 1e6)
                    disturbed |= used.disturbed(time.perf_counter() - began)
        run.run(_leave(held))
    new, plain = (median(found[side.label]) for side in sides)
    ratios = [one / other for one, other in zip(*found.values(), strict=True)]
    return Result(
        goals=(
            Goal(about, median(ratios), at_most=at_most),
            *(
                Goal(f"server CPU per {per}, {s.label}", median(found[s.label]), unit="us")
                for s in sides
            ),
        ),
        bars=[Bar(sides[0].label, new), Bar(sides[1].label, plain)],
        bars_about=f"server CPU per {per}, microseconds",
        sound=True,
        disturbed=disturbed,
        details={"rounds": found},
    )


async def _arrivals() -> _Arrivals:
    return _Arrivals()


async def _round(target: ServerAddress, side: _Side, arrivals: _Arrivals) -> None:
    wanted = arrivals.count + side.deliveries
    await _post(target, side.bodies)
    await arrivals.reach(wanted)


def _items(channels: Sequence[str], **more: object) -> Sequence[object]:
    """Return arrays of 100, one publication for each channel."""
    items = [{"channel": channel, "data": _DATA, **more} for channel in channels]
    return [items[start : start + 100] for start in range(0, len(items), 100)]


def patterns(request: ScenarioOptions) -> Result:
    """Give each session a pattern of its own; each publication matches one of them."""
    count = request.subscribers or FOLLOWERS
    run = secrets.token_hex(3)
    followed = [f"followed-{run}:{number}:x" for number in range(count)]
    # Half as many, for the files that a process may have open: the figure is of one delivery.
    named = [f"named-{run}:{number}:x" for number in range(max(1, count // 2))]
    sides = (
        _Side(
            "a pattern each",
            [f"pattern=followed-{run}:{number}:*" for number in range(count)],
            _items(followed),
            count,
        ),
        _Side("a channel each", [f"channel={name}" for name in named], _items(named), len(named)),
    )
    about = "a delivery through a pattern, beside one by name"
    return _compare(request, sides, at_most=1.3, about=about, per="delivery")


def filters(request: ScenarioOptions) -> Result:
    """Give one channel's members 100 filters, all of which look at each publication."""
    count = request.subscribers or MEMBERS
    run = secrets.token_hex(3)

    def side(label: str, channel: str, query: Callable[[int], str]) -> _Side:
        queries = [f"channel={channel}{query(number)}" for number in range(count)]
        bodies = [
            {"channel": channel, "data": _DATA, "tags": {"level": FILTERS}} for _ in range(100)
        ]
        return _Side(label, queries, bodies, 100 * count)

    def filtered(number: int) -> str:
        return "&filter=" + quote(json.dumps({"level": {"gte": number % FILTERS}}))

    sides = (
        side("100 filters", f"filtered-{run}", filtered),
        side("no filter", f"whole-{run}", lambda _: ""),
    )
    about = "a delivery past one of 100 filters, beside one without"
    return _compare(request, sides, at_most=2, about=about, per="delivery")


def keyed(request: ScenarioOptions) -> Result:
    """POST single publications with a key, to a channel that keeps a table and to one that does
    not."""
    run = secrets.token_hex(3)

    def side(label: str, channel: str) -> _Side:
        bodies = [
            {"channel": channel, "data": _DATA, "key": f"k{number % 1000}"}
            for number in range(POSTS)
        ]
        return _Side(label, (), bodies, 0)

    sides = (side("keyed", f"table:{run}"), side("plain", f"plain:{run}"))
    about = "a POST to a keyed channel, beside a plain one"
    return _compare(request, sides, at_most=1.2, about=about, per="POST")


def state(request: ScenarioOptions) -> Result:
    """Send a table of 10,000 rows to new subscribers, one after another."""
    cores = Cores.divide()
    channel = f"table:{secrets.token_hex(3)}"
    rows = [{"channel": channel, "data": _DATA, "key": f"k{number}"} for number in range(ROWS)]
    pages = [rows[start : start + 100] for start in range(0, ROWS, 100)]
    with (
        cores.as_load(),
        watched_server(cores, _SETTINGS, request.command) as hub,
        asyncio.Runner() as run,
    ):
        target, meter = hub.server.target, hub.server.meter
        if meter is None:
            raise BenchError("this needs a hub of its own")
        run.run(_post(target, pages))
        request.phases.phase("tables", _TABLES)
        run.run(_table(target, channel))
        hub.begin()
        before, began = meter.usage(), time.perf_counter()
        found = [run.run(_table(target, channel)) for _ in range(_TABLES)]
        spent = meter.usage().since(before)
        used, disturbed = spent.cpu_seconds / _TABLES, spent.disturbed(time.perf_counter() - began)
        waits = hub.waits()
    return Result(
        goals=(
            *stall_goals(waits, at_most_ms=20),
            Goal("server CPU per row", used / ROWS * 1e6, unit="us"),
            Goal("rows that were missing", sum(ROWS - count for count in found), at_most=0),
        ),
        bars=[Bar("a row of a table", used / ROWS * 1e6)],
        bars_about="server CPU, microseconds",
        sound=all(count == ROWS for count in found),
        disturbed=disturbed,
        details={"rows": found},
    )


async def _table(target: ServerAddress, channel: str) -> int:
    """Return the number of rows that a new subscriber got."""
    reader, writer = await asyncio.open_connection(target.host, target.port)
    head = subscribe_request(target, Contestant.WEBSOCKET, channel)
    writer.write(head.replace(b"?channel=", b"?state=true&channel=", 1))
    text = b""
    async with asyncio.timeout(_ALL_SECONDS):
        while _LAST_PAGE not in text:
            if not (more := await reader.read(1 << 16)):
                raise BenchError(f"cut: {text[-200:]!r}")
            text += more
    writer.close()
    await writer.wait_closed()
    return text.count(b'"key":')
