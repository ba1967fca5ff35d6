"""One rule decides what a payload may be: every way to publish gives the same answer."""

from collections.abc import AsyncIterator, Awaitable, Callable

import httpx2 as httpx
import orjson
import pytest
from websockets.asyncio.client import connect

from hub import Hub, Settings
from hub.errors import HubError
from hub.wire.payload import MAX_NESTING

SETTINGS = Settings(port=0, drain_seconds=0)
Verdict = tuple[str, str]
"""The error's code and message; empty where it was published."""
PUBLISHED: Verdict = ("", "")


@pytest.fixture
async def hub() -> AsyncIterator[Hub]:
    async with Hub(SETTINGS) as running:
        yield running


@pytest.fixture
async def http(hub: Hub) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=hub.url, trust_env=False) as client:
        yield client


def of_problem(answer: dict[str, str]) -> Verdict:
    return answer.get("code", ""), answer.get("detail", "")


def of_reply(raw: bytes | str) -> Verdict:
    reply = orjson.loads(raw)
    assert reply["id"] == 7, reply
    error = reply.get("error", {})
    return error.get("code", ""), error.get("message", "")


def publish_command(data: bytes) -> bytes:
    return b'{"op":"publish","id":7,"channel":"a","data":%b}' % data


async def over_http(_: Hub, http: httpx.AsyncClient, data: bytes) -> Verdict:
    return of_problem((await http.post("/api/publish/a", content=data)).json())


async def in_an_object(_: Hub, http: httpx.AsyncClient, data: bytes) -> Verdict:
    item = b'{"channel":"a","data":%b}' % data
    return of_problem((await http.post("/api/publish", content=item)).json())


async def in_an_array(_: Hub, http: httpx.AsyncClient, data: bytes) -> Verdict:
    """Between two that are published whatever becomes of it."""
    items = [b'{"channel":"b","data":%b}' % each for each in (b"1", data, b"2")]
    answer = await http.post("/api/publish", content=b"[" + b",".join(items) + b"]")
    assert answer.status_code in {200, 207}, answer.text
    first, asked, last = answer.json()
    assert "offset" in first
    assert "offset" in last
    return of_problem(asked)


async def over_websocket(hub: Hub, _: httpx.AsyncClient, data: bytes) -> Verdict:
    async with connect(f"ws{hub.url.removeprefix('http')}/ws", proxy=None) as socket:
        await socket.recv()
        await socket.send(publish_command(data), text=True)
        return of_reply(await socket.recv())


async def by_command(_: Hub, http: httpx.AsyncClient, data: bytes) -> Verdict:
    async with http.stream("GET", "/sse?session=true") as stream:
        lines = stream.aiter_lines()
        welcome = orjson.loads(await _first_data(lines))
        answer = await http.post(
            f"/command?connection={welcome['connection']}",
            content=publish_command(data),
            headers={"Authorization": f"Bearer {welcome['secret']}"},
        )
        return of_reply(answer.content)


async def _first_data(lines: AsyncIterator[str]) -> str:
    async for line in lines:
        if line.startswith("data: "):
            return line.removeprefix("data: ")
    raise AssertionError("the stream ended")


async def from_python(hub: Hub, _: httpx.AsyncClient, data: bytes) -> Verdict:
    try:
        await hub.publish("a", data)
    except HubError as error:
        return error.code, error.message
    return PUBLISHED


Door = Callable[[Hub, httpx.AsyncClient, bytes], Awaitable[Verdict]]
DOORS: tuple[Door, ...] = (
    over_http,
    in_an_object,
    in_an_array,
    over_websocket,
    by_command,
    from_python,
)


def nested(depth: int, opening: bytes = b"[", closing: bytes = b"]") -> bytes:
    return opening * depth + b"1" + closing * depth


@pytest.mark.parametrize(
    "depth", [100, MAX_NESTING, MAX_NESTING + 1, 974, 975, 1_000, 1_023, 1_024, 1_025, 4_000]
)
@pytest.mark.parametrize(("opening", "closing"), [(b"[", b"]"), (b'{"a":', b"}")])
async def test_nesting_has_one_limit_and_one_answer(
    hub: Hub, http: httpx.AsyncClient, depth: int, opening: bytes, closing: bytes
) -> None:
    """Word for word, whichever parser saw it first."""
    data = nested(depth, opening, closing)
    verdicts = {door.__name__: await door(hub, http, data) for door in DOORS}
    expected = verdicts["over_http"]
    assert set(verdicts.values()) == {expected}, verdicts
    assert (expected == PUBLISHED) == (depth <= MAX_NESTING)


@pytest.mark.parametrize(
    "data", [rb'"abc\ud83d"', rb'"\ude00"', b'"a\x01b"', b'"a\nb"', rb'"\x41"', rb'["\\\ud800"]']
)
async def test_text_that_is_no_json_is_refused_at_every_door(
    hub: Hub, http: httpx.AsyncClient, data: bytes
) -> None:
    """With its id, in its place of an array, and never as a fault of the hub."""
    codes = {door.__name__: (await door(hub, http, data))[0] for door in DOORS}
    assert set(codes.values()) == {"bad_request"}, codes


async def test_python_objects_are_judged_as_their_json(hub: Hub) -> None:
    """Whatever the encoder's own limit."""
    value: object = 1
    for _ in range(MAX_NESTING):
        value = [value]
    await hub.publish("a", value)
    with pytest.raises(HubError, match=f"over the limit of {MAX_NESTING}"):
        await hub.publish("a", [value])


async def test_a_bad_item_among_many_large_ones_is_refused_alone(
    hub: Hub, http: httpx.AsyncClient
) -> None:
    """To find where the items end takes less than to parse them."""
    broken = b'{"channel":"a","data":%b}' % nested(5_000)
    large = b'{"channel":"a","data":[%b1]}' % (b"[]," * 500)
    answer = await http.post("/api/publish", content=b"[%b]" % b",".join([broken] + [large] * 900))
    assert answer.status_code == 207
    first, *others = answer.json()
    assert first["code"] == "bad_request"
    assert [each["offset"] for each in others] == list(range(1, 901))
