"""`hub serve --workers 2`: one hub to whoever uses it, whatever becomes of its processes."""

import asyncio
import contextlib
import json
import os
import re
import signal
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx2 as httpx
import psutil
import pytest

from tests.multi_node.checker import Truth, faults
from tests.multi_node.fleet import NO_TLS, Seat, is_ready, kept, publish
from tests.multi_node.workers import BROKER, WorkersHub
from tests.support.fork_server import ran
from tests.support.programs import outside
from tests.support.redis_server import RedisServer
from tests.support.waiting import eventually, eventually_blocking

pytestmark = pytest.mark.timeout(180)
PRESENT = '{"room":{"presence":true}}'


@pytest.fixture(scope="module")
def shared() -> Iterator[WorkersHub]:
    """One that no test breaks."""
    with WorkersHub(HUB_NAMESPACES=PRESENT) as hub:
        yield hub


@pytest.fixture
def hub() -> Iterator[WorkersHub]:
    """One that may be broken."""
    with WorkersHub(HUB_DRAIN_SECONDS="0.5") as hub:
        yield hub


async def get(hub: WorkersHub, path: str, **headers: str) -> Any:
    """By a connection of its own, so at any worker."""
    return (await read(hub, path, **headers)).json()


async def read(hub: WorkersHub, path: str, **headers: str) -> httpx.Response:
    async with httpx.AsyncClient(timeout=10, verify=NO_TLS) as client:
        answer = await client.get(f"{hub.url}{path}", headers=headers)
        return answer.raise_for_status()


async def nodes(hub: WorkersHub) -> dict[int, dict[str, Any]]:
    return {node["worker"]: node for node in (await get(hub, "/api/nodes"))["nodes"]}


@contextlib.asynccontextmanager
async def everywhere(hub: WorkersHub, channel: str) -> AsyncIterator[list[Seat]]:
    """Subscribers until each worker has two at least."""
    seats: list[Seat] = []
    try:

        async def one_more() -> bool:
            seats.append(Seat(channel, f"seat {len(seats)}"))
            await seats[-1].join(hub)
            return (
                len(seats) >= 4
                and min(sum(seat.id.startswith(tag) for seat in seats) for tag in tags(seats)) >= 2
                and len(tags(seats)) == 2
            )

        await eventually(one_more)
        yield seats
    finally:
        for seat in seats:
            await seat.leave()


def tags(seats: list[Seat]) -> set[str]:
    """Of the workers that hold them."""
    return {seat.id[:8] for seat in seats}


async def judged(hub: WorkersHub, seats: list[Seat], said: dict[Any, object], **truth: Any) -> None:
    """All saw all, or were told."""
    channel = seats[0].channel
    head, held = await kept(hub, channel)
    await eventually(lambda: all(seat.view.position == head for seat in seats))
    truth = {"may_lose": False, "epochs": 1} | truth
    assert faults([seat.view for seat in seats], Truth(said, held, head, **truth)) == []


# -- one hub -----------------------------------------------------------------------------------


async def test_every_worker_is_a_node(shared: WorkersHub) -> None:
    """Each worker has a number and a name of its own."""
    await eventually(lambda: _all_nodes(shared))
    found = await nodes(shared)
    assert {n: record["node"] for n, record in found.items()} == {
        1: "test-node-1",
        2: "test-node-2",
    }
    processes = shared.processes()
    assert {number: psutil.Process(pid).name() for number, pid in processes.items()} == {
        BROKER: "hub-broker",
        1: "hub-worker-1",
        2: "hub-worker-2",
    }
    # Signals of a terminal are the supervisor's.
    assert {os.getsid(pid) for pid in processes.values()} == set(processes.values())


async def test_the_order_is_one_whoever_publishes_and_wherever_a_peer_listens(
    shared: WorkersHub, channel: str
) -> None:
    async with everywhere(shared, channel) as seats:
        answers = await asyncio.gather(
            *(publish(shared, channel, number, key=f"k{number}") for number in range(60))
        )
        said: dict[Any, object] = {
            (a.json()["epoch"], a.json()["offset"]): n for n, a in enumerate(answers)
        }
        assert len(said) == 60
        again = await asyncio.gather(
            *(publish(shared, channel, number, key=f"k{number}") for number in range(60))
        )
        assert all(answer.json()["duplicate"] for answer in again)
        await judged(shared, seats, said)


async def test_lists_members_and_commands_reach_all_workers(
    shared: WorkersHub, channel: str
) -> None:
    """Whichever worker answers."""
    room = f"room:{channel}"
    async with everywhere(shared, room) as seats:
        ids = {seat.id for seat in seats}
        for _ in range(4):
            listed = await get(shared, "/api/connections?limit=100")
            assert ids <= {each["connection"] for each in listed["connections"]}
            members = await get(shared, f"/api/channels/{room}/presence")
            assert {each["connection"] for each in members["members"]} == ids
            channels = (await get(shared, f"/api/channels?prefix={room}"))["channels"]
            assert [each["subscribers"] for each in channels] == [len(seats)]
            one = await get(shared, f"/api/channels/{room}")
            assert one["subscribers"] == len(seats)
        async with httpx.AsyncClient(timeout=10, verify=NO_TLS) as client:
            for seat in seats:
                command = {"id": 1, "op": "subscribe", "channel": f"more.{channel}"}
                answer = await client.post(
                    f"{shared.url}/command?connection={seat.id}",
                    headers={"Authorization": f"Bearer {seat.secret}"},
                    json=command,
                )
                assert answer.status_code == 200, answer.text


async def test_a_channel_without_subscribers_is_listed_at_any_worker(
    shared: WorkersHub, channel: str
) -> None:
    """With what history holds of it, as in one process."""
    for number in range(3):
        await publish(shared, f"quiet.{channel}", number)
    for _ in range(4):
        listed = (await get(shared, f"/api/channels?prefix=quiet.{channel}"))["channels"]
        assert [(each["subscribers"], each["history"]) for each in listed] == [(0, 3)]


@pytest.mark.parametrize("published", [False, True])
async def test_a_channel_of_one_worker_has_its_subscriber_at_any_worker(
    shared: WorkersHub, channel: str, *, published: bool
) -> None:
    """Also at a worker that does not know the channel, or knows it from history alone."""
    seat = Seat(channel, "alone")
    await seat.join(shared)
    try:
        if published:
            await publish(shared, channel, 1)
        for _ in range(8):
            one = await get(shared, f"/api/channels/{channel}")
            assert (one["subscribers"], one["complete"], one["unanswered"]) == (1, True, [])
    finally:
        await seat.leave()


async def test_a_poll_that_reaches_another_worker_is_carried_to_its_session(
    shared: WorkersHub, channel: str
) -> None:
    """Each request by a connection of its own."""
    told = await get(shared, f"/poll?channel={channel}&wait=0")
    welcome, seen = told["welcome"], []
    for number in range(12):
        await publish(shared, channel, number)
        since = f"{channel}%3D{told['positions'][channel]}"
        told = await get(
            shared,
            f"/poll?channel={channel}&wait=5&since={since}&connection={welcome['connection']}",
            Authorization=f"Bearer {welcome['secret']}",
        )
        assert told["welcome"]["connection"] == welcome["connection"]
        seen += [push["data"] for push in told["pushes"] if push["op"] == "message"]
    assert seen == list(range(12))


async def test_a_page_of_metrics_tells_of_all_workers(shared: WorkersHub, channel: str) -> None:
    """At whichever worker Prometheus is let in."""
    async with everywhere(shared, channel) as seats:
        answers = [await publish(shared, channel, number) for number in range(10)]
        assert {answer.status_code for answer in answers} == {200}
        for _ in range(4):
            told = (await read(shared, "/metrics")).text
            open_now = re.findall(
                r'^hub_connections\{transport="websocket",worker="(\d)"\} (\S+)$',
                told,
                re.MULTILINE,
            )
            assert {worker for worker, _ in open_now} == {"1", "2"}
            assert sum(float(number) for _, number in open_now) == len(seats)
            assert told.count("# HELP hub_connections ") == 1


# -- what breaks ---------------------------------------------------------------------------------


class Feed:
    """Numbers, each sent until it is in, while things go wrong."""

    def __init__(self, hub: WorkersHub, channel: str) -> None:
        self.hub, self.channel = hub, channel
        self.said: dict[Any, object] = {}
        self.statuses: set[int] = set()
        self._stopping = False

    async def run(self) -> None:
        number = 0
        while not self._stopping:
            await eventually(lambda number=number: self._one(number), seconds=30)  # type: ignore[misc]
            number += 1
            await asyncio.sleep(0.01)

    async def _one(self, number: int) -> bool:
        try:
            answer = await publish(self.hub, self.channel, number, key=f"key-{number}")
        except httpx.TransportError:
            return False
        self.statuses.add(answer.status_code)
        told = answer.json()
        if answer.status_code == 200:
            self.said[told["epoch"], told["offset"]] = number
            return True
        assert told["code"] in {"not_published", "outcome_unknown"}, told
        return False

    async def more(self, count: int = 20) -> None:
        goal = len(self.said) + count
        await eventually(lambda: len(self.said) >= goal, seconds=30)


@contextlib.asynccontextmanager
async def feeding(hub: WorkersHub, channel: str) -> AsyncGenerator[Feed]:
    feed = Feed(hub, channel)
    running = asyncio.create_task(feed.run())
    try:
        yield feed
    finally:
        feed._stopping = True
        await running


async def test_a_killed_worker_is_started_again_and_its_sessions_resume(
    hub: WorkersHub, channel: str
) -> None:
    async with everywhere(hub, channel) as seats:
        async with feeding(hub, channel) as feed:
            await feed.more()
            before = hub.processes()
            hub.kill_child(1)
            assert not psutil.pid_exists(before[1])
            await eventually(lambda: sum(not seat.seated for seat in seats) >= 2)
            for seat in seats:
                if not seat.seated:
                    await seat.join(hub)
            await eventually(lambda: hub.processes().get(1, before[1]) != before[1], seconds=30)
            await eventually(lambda: _all_nodes(hub), seconds=30)
            await feed.more()
        await judged(hub, seats, feed.said)


async def _all_nodes(hub: WorkersHub) -> bool:
    return set(await nodes(hub)) == {1, 2}


async def test_a_killed_broker_process_is_a_reset_and_publishers_are_told(
    hub: WorkersHub, channel: str
) -> None:
    """Sessions stay; what was published before is in an epoch that has ended."""
    async with everywhere(hub, channel) as seats:
        async with feeding(hub, channel) as feed:
            await feed.more()
            hub.kill_child(BROKER)
            await eventually(lambda: 503 in feed.statuses, seconds=10)
            await eventually(lambda: all(seat.view.left for seat in seats), seconds=30)
            await eventually(lambda: is_ready(hub), seconds=30)
            await feed.more()
        assert all(seat.connects == 1 for seat in seats)
        await judged(hub, seats, feed.said, epochs=2, may_lose=True)


async def test_durable_history_outlives_the_broker_process(tmp_path: Path, channel: str) -> None:
    """Killed in the middle of work: everybody goes on in the same epoch, and nothing is missing."""
    with WorkersHub(HUB_BROKER=f"sqlite:///{tmp_path}/history.db") as hub:
        async with everywhere(hub, channel) as seats:
            async with feeding(hub, channel) as feed:
                await feed.more()
                hub.kill_child(BROKER)
                await eventually(lambda: 503 in feed.statuses, seconds=10)
                await eventually(lambda: is_ready(hub), seconds=30)
                await feed.more()
            assert all(seat.connects == 1 and not seat.view.left for seat in seats)
            await judged(hub, seats, feed.said)


async def test_a_worker_that_an_operator_drains_gets_nobody_until_it_takes_again(
    hub: WorkersHub, channel: str
) -> None:
    """Others accept what would have come to it, so the hub is ready all the time."""
    await eventually(lambda: _all_nodes(hub))
    async with httpx.AsyncClient(timeout=10, verify=NO_TLS) as client:
        await client.post(f"{hub.url}/api/nodes/test-node-1/drain", json={"window_seconds": 0})
    await eventually(lambda: _is_draining(hub, 1))

    async def is_left_alone() -> bool:
        return all([await is_ready(hub) for _ in range(16)])

    await eventually(is_left_alone)
    for _ in range(20):
        assert await is_ready(hub)
        seat = Seat(channel, "seat")
        await seat.join(hub)
        await seat.leave()
    async with httpx.AsyncClient(timeout=10, verify=NO_TLS) as client:
        await client.delete(f"{hub.url}/api/nodes/test-node-1/drain")
    async with everywhere(hub, channel) as seats:
        assert len(tags(seats)) == 2


async def _is_draining(hub: WorkersHub, number: int) -> bool:
    return bool((await nodes(hub))[number]["draining"])


async def test_no_process_outlives_a_killed_supervisor(hub: WorkersHub, channel: str) -> None:
    children = list(hub.processes().values())
    assert len(children) == 3
    await asyncio.to_thread(hub.kill)
    # The port is free at once, also while they drain.
    await asyncio.to_thread(hub.restart)
    await eventually(lambda: not any(map(_runs, children)), seconds=30)


def _runs(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


async def test_sigterm_drains_all(hub: WorkersHub, channel: str) -> None:
    """Everybody is told goodbye, and nothing is left."""
    children = list(hub.processes().values())
    async with everywhere(hub, channel) as seats:
        hub.signal(signal.SIGTERM)
        assert await asyncio.to_thread(hub.wait) == 0
        await eventually(lambda: not any(seat.seated for seat in seats))
    assert not any(map(_runs, children))
    assert "killed" not in hub.stderr


def test_a_taken_port_is_said_and_nothing_is_started(hub: WorkersHub) -> None:
    """The port is refused also if both hubs would share it."""
    serve = ("-m", "hub", "serve", "--workers", "2", "--port", str(hub.port))
    told = ran(*serve, environment=outside(), seconds=30)
    assert told.returncode != 0
    assert "HUB_PORT" in told.stderr


# -- SIGHUP --------------------------------------------------------------------------------------


def test_sighup_brings_up_what_the_file_says_now(tmp_path: Path) -> None:
    """A file that is wrong changes nothing, and the log says why."""
    file = tmp_path / "hub.toml"
    file.write_text("heartbeat_seconds = 25\n")
    with WorkersHub(HUB_CONFIG=str(file)) as hub:
        before = hub.processes()
        file.write_text("heartbeat_seconds = 11\n")
        hub.signal(signal.SIGHUP)
        eventually_blocking(lambda: '"workers_replaced"' in hub.stderr, seconds=60, what="a roll")
        after = hub.processes()
        assert after[BROKER] == before[BROKER]
        assert {after[1], after[2]}.isdisjoint(before.values())
        first = httpx.get(f"{hub.url}/poll?channel=a&wait=0", verify=NO_TLS)
        assert first.status_code == 200
        file.write_text("heartbeat_seconds = 'often'\n")
        hub.signal(signal.SIGHUP)
        eventually_blocking(
            lambda: "worker_did_not_come_up" in hub.stderr, seconds=60, what="a refusal"
        )
        assert hub.processes() == after
        assert httpx.get(f"{hub.url}/readyz", verify=NO_TLS).status_code == 200


def test_a_single_worker_is_today_s_single_process() -> None:
    """Nothing beside it, and its name is its own."""
    with WorkersHub(1) as hub:
        assert hub.processes() == {}
        (node,) = httpx.get(f"{hub.url}/api/nodes", verify=NO_TLS).json()["nodes"]
        assert (node["node"], node["worker"]) == ("test-node", 0)
        assert json.loads(hub.stderr.splitlines()[0])["event"] == "started"


# -- other shapes ----------------------------------------------------------------------------------

APPLICATION = """
import os
from hub import serve
from hub.settings import load_settings

async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        while (await receive())["type"] != "lifespan.shutdown":
            await send({"type": "lifespan.startup.complete"})
        await send({"type": "lifespan.shutdown.complete"})
        return
    hub = scope["state"]["hub"]
    await hub.publish("from.app", os.getpid())
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": str(os.getpid()).encode()})

raise SystemExit(serve(app, load_settings(config_file=None, flags={}, environ=os.environ)))
"""


class _WithApplication(WorkersHub):
    program = ("-c", APPLICATION)
    is_forked = False


async def test_an_application_beside_the_hub_runs_in_each_worker(channel: str) -> None:
    """The program is started again for each, and they are one hub."""
    with _WithApplication() as hub:
        children = hub.processes()
        assert set(children) == {BROKER, 1, 2}
        seat = Seat("from.app", "seat")
        await seat.join(hub)
        asked: set[int] = set()
        for _ in range(40):
            asked.add(int((await read(hub, "/anything")).text))
        assert asked == {children[1], children[2]}
        await eventually(lambda: len(seat.data) == 40)
        assert set(seat.data) == asked
        await seat.leave()


async def test_with_redis_each_worker_is_a_node_of_it(redis: RedisServer, channel: str) -> None:
    """There is no broker process, and the workers of another machine are nodes beside these."""
    with (
        WorkersHub(HUB_BROKER=redis.url) as hub,
        WorkersHub(HUB_BROKER=redis.url, HUB_NODE="other") as other,
    ):
        assert set(hub.processes()) == {1, 2}
        names = {"test-node-1", "test-node-2", "other-1", "other-2"}
        listed = (await get(hub, "/api/nodes"))["nodes"]
        assert {node["node"] for node in listed} == names
        async with everywhere(hub, channel) as seats:
            answers = [await publish(other, channel, number) for number in range(20)]
            said: dict[Any, object] = {
                (a.json()["epoch"], a.json()["offset"]): n for n, a in enumerate(answers)
            }
            await judged(hub, seats, said)
            told = (await read(hub, "/metrics")).text
            assert set(re.findall(r'hub_ready{worker="(\d)"}', told)) == {"1", "2"}
            assert told.count("hub_ready{") == 2
