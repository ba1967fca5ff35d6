"""One polling session over several requests: lost answers, and a poll that takes over."""

import asyncio

import httpx2 as httpx

from tests.support.hub_process import HubProcess
from tests.support.waiting import eventually


async def poll(
    client: httpx.AsyncClient, *, connection: str = "", secret: str = "", **query: str
) -> httpx.Response:
    """One long poll; `connection` continues a session."""
    parameters = {**query, **({"connection": connection} if connection else {})}
    headers = {"Authorization": f"Bearer {secret}"} if secret else {}
    return await client.get("/poll", params=parameters, headers=headers)


async def test_a_newer_poll_takes_over_from_one_that_still_waits(
    process: HubProcess, channel: str
) -> None:
    """A peer whose request died in mid-poll need not wait for the hub to notice."""
    async with httpx.AsyncClient(base_url=process.url) as client:
        first = (await poll(client, channel=channel, wait="0")).json()
        welcome, position = first["welcome"], first["positions"][channel]
        same = {"connection": welcome["connection"], "secret": welcome["secret"]}
        since = f"{channel}={position}"
        older = asyncio.create_task(poll(client, channel=channel, since=since, wait="20", **same))
        for _ in range(10):
            # Each round trip gives the older poll, sent before, time to begin.
            await client.get(f"/api/channels/{channel}")
        newer = asyncio.create_task(poll(client, channel=channel, since=since, wait="20", **same))
        goodbye = (await older).json()["pushes"]
        assert [push["op"] for push in goodbye] in ([], ["goodbye"])
        await client.post(f"/api/publish/{channel}", json=1)
        [message] = (await newer).json()["pushes"]
        assert (message["op"], message["data"]) == ("message", 1)


async def test_a_publication_that_history_does_not_hold_comes_with_the_next_poll(
    process: HubProcess, channel: str
) -> None:
    """Between two polls the session lives. Another session gets a gap in its place."""
    async with httpx.AsyncClient(base_url=process.url) as client:
        first = (await poll(client, channel=channel, wait="0")).json()
        same = {key: first["welcome"][key] for key in ("connection", "secret")}
        since = f"{channel}={first['positions'][channel]}"
        not_kept = {"X-Message-History": "false"}
        for number, headers in enumerate(({}, not_kept, not_kept, {}, not_kept)):
            await client.post(f"/api/publish/{channel}", json=number, headers=headers)
        body = (await poll(client, channel=channel, since=since, wait="5", **same)).json()
        assert [push.get("data", push["op"]) for push in body["pushes"]] == [0, 1, 2, 3, 4]
        other = (await poll(client, channel=channel, since=since, wait="5")).json()
        told = [push.get("data", push.get("reason")) for push in other["pushes"]]
        assert told == [0, "expired", 3, "expired"]


async def test_an_answer_that_was_lost_is_repeated(process: HubProcess, channel: str) -> None:
    """A peer that asks again from its older position gets what it did not see, once."""
    async with httpx.AsyncClient(base_url=process.url) as client:
        first = (await poll(client, channel=channel, wait="0")).json()
        same = {key: first["welcome"][key] for key in ("connection", "secret")}
        since = f"{channel}={first['positions'][channel]}"
        for number in (1, 2):
            await client.post(f"/api/publish/{channel}", json=number)
        lost = (await poll(client, channel=channel, since=since, wait="5", **same)).json()
        again = (await poll(client, channel=channel, since=since, wait="5", **same)).json()
        assert [push["data"] for push in lost["pushes"]] == [1, 2]
        assert again["pushes"] == lost["pushes"]
        assert again["positions"] == lost["positions"]


async def test_an_answer_that_told_of_a_new_subscription_is_missed_by_who_does_not_name_it(
    process: HubProcess, channel: str
) -> None:
    """Nobody knows then where the subscription started, so the session has ended
    and the peer begins anew."""
    async with httpx.AsyncClient(base_url=process.url) as client:
        first = (await poll(client, session="true", wait="0")).json()
        same = {key: first["welcome"][key] for key in ("connection", "secret")}
        for name in (channel, f"{channel}-2"):
            subscribe = {"op": "subscribe", "id": 1, "channel": name}
            bearer = {"Authorization": f"Bearer {same['secret']}"}
            query = {"connection": same["connection"]}
            await client.post("/command", params=query, json=subscribe, headers=bearer)
        told = (await poll(client, session="true", wait="5", **same)).json()
        assert [push["op"] for push in told["pushes"]] == ["subscribed", "subscribed"]
        # One of them is enough: a URL has not room for many.
        since = f"{channel}={told['positions'][channel]}"
        on = await poll(client, session="true", channel=channel, since=since, wait="0", **same)
        assert on.json()["welcome"]["connection"] == same["connection"]
        await client.post(
            "/command", params=query, json=subscribe | {"channel": "3"}, headers=bearer
        )
        await poll(client, session="true", channel=channel, since=since, wait="5", **same)
        again = await poll(client, session="true", channel=channel, since=since, wait="5", **same)
        assert again.status_code == 404
        assert (await poll(client, session="true", wait="0", **same)).status_code == 404


async def test_a_session_that_is_behind_catches_up_by_the_page_not_by_the_message(
    process: HubProcess, channel: str
) -> None:
    """Messages between two polls are read from history: 90 messages are not 90 round trips."""
    async with httpx.AsyncClient(base_url=process.url) as client:
        answer = (await poll(client, channel=channel, wait="0")).json()
        same = {key: answer["welcome"][key] for key in ("connection", "secret")}
        items = [{"channel": channel, "data": number} for number in range(90)]
        await client.post("/api/publish", json=items)
        seen: list[int] = []
        polls = 0
        while len(seen) < len(items):
            since = f"{channel}={answer['positions'][channel]}"
            answer = (await poll(client, channel=channel, since=since, wait="5", **same)).json()
            seen += [push["data"] for push in answer["pushes"]]
            polls += 1
        assert seen == [*range(90)]
        assert polls <= 4


async def test_a_session_that_is_not_continued_is_let_go_soon(
    process: HubProcess, channel: str
) -> None:
    """A client that polls without `connection` leaves no crowd of sessions behind."""
    async with httpx.AsyncClient(base_url=process.url) as client:
        for _ in range(3):
            await poll(client, channel=channel, wait="0")

        async def gone() -> bool:
            answer = (await client.get(f"/api/channels/{channel}")).json()
            return bool(answer["subscribers"] == 0)

        assert not await gone()
        await eventually(gone)


async def test_polls_whose_peers_have_gone_leave_no_connection_and_no_channel(
    process: HubProcess, channel: str
) -> None:
    """A hundred that are opened and closed: the hub is as it was."""
    port = int(process.url.rpartition(":")[2])
    async with httpx.AsyncClient(base_url=process.url) as client:

        async def held() -> int:
            """Sessions in the first of the channels that all name, and in one of their own."""
            found = 0
            for name in (channel, f"{channel}.7"):
                answer = await client.get(f"/api/channels/{name}")
                found += answer.json()["subscribers"] if answer.status_code == 200 else 0
            return found

        peers = [await asyncio.open_connection("127.0.0.1", port) for _ in range(100)]
        for number, (_, writer) in enumerate(peers):
            target = f"/poll?channel={channel}&channel={channel}.{number}&wait=30"
            writer.write(f"GET {target} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode())

        async def all_wait() -> bool:
            return await held() == 101

        async def none_is_left() -> bool:
            return await held() == 0

        await eventually(all_wait)
        for _, writer in peers:
            writer.transport.abort()
        await eventually(none_is_left, seconds=25)  # a poll itself takes 30
        listed = (await client.get(f"/api/connections?channel={channel}")).json()
        assert listed["total"] == 0


async def test_a_poll_whose_peer_closes_in_order_ends_too(
    process: HubProcess, channel: str
) -> None:
    """A FIN behind a whole request says that nobody asks any more: the socket was closed."""
    port = int(process.url.rpartition(":")[2])
    async with httpx.AsyncClient(base_url=process.url) as client:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        target = f"/poll?channel={channel}&wait=30"
        writer.write(f"GET {target} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode())

        async def subscribers() -> int:
            answer = await client.get(f"/api/channels/{channel}")
            return int(answer.json()["subscribers"]) if answer.status_code == 200 else 0

        async def waits() -> bool:
            return await subscribers() == 1

        async def is_gone() -> bool:
            return await subscribers() == 0

        await eventually(waits)
        writer.close()
        await writer.wait_closed()
        await eventually(is_gone, seconds=25)  # a poll itself takes 30
