"""Two nodes are one hub on every kind of Redis deployment, before, during and after its faults.

What has to hold is the same for all; `topologies` says what there is and what happens to it.
"""

import asyncio
from collections.abc import Sequence
from contextlib import AsyncExitStack
from functools import partial

import httpx2 as httpx
import pytest

from tests.multi_node.checker import Truth, faults
from tests.multi_node.feed import Feed, feeding
from tests.multi_node.fleet import Seat, hubs, kept, seats
from tests.multi_node.topologies import CASES, Case, Scene
from tests.support.hub_process import HubProcess
from tests.support.waiting import eventually

PRESENCE = '{"room":{"presence":true,"history_size":100000}}'
# What was cut off is told anew within the 10 s of a lease; the rest is for a busy machine.
KNOWN_SECONDS = 20.0


# The longest takes 18 s on a machine that has nothing else to do.
@pytest.mark.timeout(180)
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
async def test_nothing_goes_silently_and_nodes_are_one_hub(case: Case, channel: str) -> None:
    """Subscribers of both nodes see a numbered stream in order, or are told what they miss.

    And afterwards whoever is present is known everywhere, and a connection can be reached and
    closed from the node that does not have it.
    """
    with case.start() as redis:
        names = case.channels(redis, f"room:{channel}")
        async with AsyncExitStack() as stack:
            nodes = await stack.enter_async_context(hubs(redis.url, 2, HUB_NAMESPACES=PRESENCE))
            taken = {n: await stack.enter_async_context(seats(n, *nodes)) for n in names}
            async with feeding(names, nodes) as feeds:
                await _all_run(feeds)
                await case.fault(Scene(redis, nodes, names))
                await _all_run(feeds)
            for number, feed in enumerate(feeds):
                hit = number < case.hit
                await _is_whole(feed, nodes, taken[feed.channel], hit=hit)
                assert not feed.refusals or (hit and case.refused)
            await asyncio.gather(*(_is_one_hub(nodes, n, taken[n]) for n in (names[0], names[-1])))


async def _all_run(feeds: Sequence[Feed]) -> None:
    await asyncio.gather(*(feed.runs() for feed in feeds))


async def _is_whole(
    feed: Feed, nodes: Sequence[HubProcess], taken: Sequence[Seat], *, hit: bool
) -> None:
    """Nothing is missing but what a reset ended, and no reset is there without need."""
    head, held = await kept(nodes[0], feed.channel)
    views = [seat.view for seat in taken]
    await eventually(lambda: all(view.position == head for view in views), what=f"{head}")
    truth = Truth(feed.said, held, head, may_lose=False, epochs=1 + hit)
    assert faults(views, truth) == []
    assert [len(view.left) for view in views] == [int(hit)] * len(views)
    seen = {number for view in views for number in view.delivered.values()}
    assert not feed.not_published & (seen | set(held.values())), "refused, and published"
    assert all(seat.connects == 1 and seat.seated for seat in taken), "sessions stay connected"


async def _is_one_hub(nodes: Sequence[HubProcess], channel: str, taken: Sequence[Seat]) -> None:
    one, two = nodes
    there, guest = taken[1], Seat(channel, "guest")
    async with httpx.AsyncClient(timeout=10) as client:
        members = {seat.id for seat in taken}
        for hub in nodes:
            for known in (
                partial(_knows_all, client, hub),
                partial(_lists, client, hub, channel, members),
            ):
                await eventually(known, seconds=KNOWN_SECONDS, what=f"{known}")
        await guest.join(one)
        await eventually(lambda: ("join", guest.id) in there.changes, what="a join")
        assert await _command(client, two, guest) == f"via {guest.id}"
        await _close(client, two, guest)
        await eventually(lambda: ("leave", guest.id) in there.changes, what="a leave")
    assert there.changes.count(("join", guest.id)) == 1


async def _knows_all(client: httpx.AsyncClient, hub: HubProcess) -> bool:
    answer = await client.get(f"{hub.url}/api/nodes")
    return answer.status_code == 200 and [n["node"] for n in answer.json()["nodes"]] == [
        "node-0",
        "node-1",
    ]


async def _lists(
    client: httpx.AsyncClient, hub: HubProcess, channel: str, members: set[str]
) -> bool:
    answer = await client.get(f"{hub.url}/api/channels/{channel}/presence")
    return answer.status_code == 200 and {m["id"] for m in answer.json()["members"]} == members


async def _command(client: httpx.AsyncClient, hub: HubProcess, seat: Seat) -> object:
    """Publish for a seat at another node; what the seat is then sent."""
    answer = await client.post(
        f"{hub.url}/command?connection={seat.id}",
        json={"op": "publish", "id": 1, "channel": seat.channel, "data": f"via {seat.id}"},
        headers={"Authorization": f"Bearer {seat.secret}"},
    )
    place = (answer.json()["ok"]["epoch"], answer.json()["ok"]["offset"])
    return await eventually(lambda: seat.view.delivered.get(place), what="the publication")


async def _close(client: httpx.AsyncClient, hub: HubProcess, seat: Seat) -> None:
    answer = await client.delete(f"{hub.url}/api/connections/{seat.id}")
    assert answer.status_code == 204, answer.text
    await eventually(lambda: not seat.seated, what="the end of the connection")
