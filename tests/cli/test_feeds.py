"""Patterns, state, filters, intervals, history and the flags of `hub publish`, on a real hub."""

import json
from asyncio.subprocess import PIPE
from collections.abc import Iterator
from typing import Any

import httpx2 as httpx
import pytest

from tests.cli.commands import Ended
from tests.cli.operating import (
    KEY,
    OperatedHub,
    environment,
    interrupted,
    line_of,
    publish,
    run,
    started,
)
from tests.support.forked_process import PipedProcess, piped
from tests.support.hub_process import HubProcess
from tests.support.programs import outside

pytestmark = pytest.mark.timeout(240)
ROWS = '{"rows":{"keyed":true}}'


@pytest.fixture(scope="module")
def hub() -> Iterator[HubProcess]:
    with OperatedHub(HUB_NAMESPACES=ROWS) as running:
        yield running


async def command(hub: HubProcess, *arguments: str) -> Ended:
    """`hub` with these arguments and all keys, to its end."""
    return await run(*arguments, **environment(hub.url), HUB_PUBLISH_KEY=KEY)


def lines_of(ended: Ended) -> list[Any]:
    return [json.loads(line) for line in ended.out.splitlines()]


async def next_push(process: PipedProcess) -> Any:
    return json.loads(await line_of(process))


async def until(process: PipedProcess, said: str) -> None:
    """Read stderr up to the line that holds `said`."""
    while said not in (line := (await process.stderr.readline()).decode()):
        assert line


async def kept(hub: HubProcess, channel: str) -> list[Any]:
    """History's messages, by the hub itself."""
    async with httpx.AsyncClient(headers={"Authorization": f"Bearer {KEY}"}) as client:
        answer = await client.get(f"{hub.url}/api/channels/{channel}/history")
    return list(answer.json()["publications"])


async def test_a_pattern_is_followed_with_channels_that_come_later(
    hub: HubProcess, channel: str
) -> None:
    """Beside a channel by name, from its positions on; each message says its channel."""
    await publish(hub, f"{channel}:a", 1)
    (first,) = await kept(hub, f"{channel}:a")
    assert first["offset"] == 1
    arguments = ("subscribe", "--pattern", f"{channel}:*", f"{channel}x", "--last", "1")
    async with started(*arguments, **environment(hub.url)) as process:
        assert (await next_push(process))["channel"] == f"{channel}:a"
        await until(process, f"subscribed to {channel}x")
        await publish(hub, f"{channel}:b", 2)
        later = await next_push(process)
        await publish(hub, f"{channel}x", 3)
        named = await next_push(process)
        ended = await interrupted(process)
    assert (later["channel"], later["data"]) == (f"{channel}:b", 2)
    assert (named["channel"], named["data"]) == (f"{channel}x", 3)
    assert ended.code == 130


async def test_rows_come_first_and_hub_state_prints_the_same_ones(
    hub: HubProcess, channel: str
) -> None:
    """Published and taken away by `hub publish`; the state is one push, then what follows."""
    table = f"rows:{channel}"
    for arguments in (("1", "--message-key", "a"), ("2", "--message-key", "b")):
        assert (await command(hub, "publish", table, *arguments)).code == 0
    removed = await command(hub, "publish", table, "--message-key", "a", "--remove")
    assert lines_of(removed)[0]["offset"] == 3
    listed = await command(hub, "state", table)
    async with started("subscribe", table, "--state", **environment(hub.url)) as process:
        state = await next_push(process)
        await command(hub, "publish", table, "3", "--message-key", "b")
        changed = await next_push(process)
    assert [(row["key"], row["data"]) for row in lines_of(listed)] == [("b", 2)]
    assert (state["op"], state["rows"]) == ("state", lines_of(listed))
    assert (changed["key"], changed["data"]) == ("b", 3)
    assert (await kept(hub, table))[2]["remove"] is True


async def test_only_messages_with_the_tags_of_the_filter_come(
    hub: HubProcess, channel: str
) -> None:
    """`--tag` makes numbers and booleans of what is such, and texts of the rest."""
    arguments = ("subscribe", channel, "--filter", '{"league":"nba","round":{"gte":3}}')
    async with started(*arguments, **environment(hub.url)) as process:
        await until(process, f"subscribed to {channel}")
        for number in ("2", "3"):
            tags = ("--tag", "league=nba", "--tag", f"round={number}", "--tag", "home=true")
            await command(hub, "publish", channel, number, *tags)
        message = await next_push(process)
    assert message["data"] == 3
    assert message["tags"] == {"league": "nba", "round": 3, "home": True}


async def test_the_newest_comes_at_most_that_often(hub: HubProcess, channel: str) -> None:
    """Of ten publications at once the first comes, and an interval later the last."""
    async with started(
        "subscribe", channel, "--every-ms", "700", **environment(hub.url)
    ) as process:
        await until(process, f"subscribed to {channel}")
        await publish(hub, channel, *range(10))
        came = [(await next_push(process))["data"] for _ in range(2)]
    assert came[0] == 0
    assert came[1] > 1


async def test_a_channel_that_ends_ends_the_command(hub: HubProcess, channel: str) -> None:
    """Lines of stdin, `null` with the end behind them, and exit code 0 at both ends."""
    async with started("subscribe", channel, **environment(hub.url)) as process:
        await until(process, f"subscribed to {channel}")
        program = ("-m", "hub", "publish", channel, "-", "--end")
        variables = outside() | environment(hub.url) | {"HUB_PUBLISH_KEY": KEY}
        async with piped(program, variables, stdin=PIPE) as publishing:
            _, err = await publishing.communicate(b"All\nis\nsaid\n")
        out, said = await process.communicate()
    pushes = [json.loads(line) for line in out.decode().splitlines()]
    assert [push["data"] for push in pushes] == ["All", "is", "said", None]
    assert [push.get("end", False) for push in pushes] == [False, False, False, True]
    assert (publishing.returncode, process.returncode) == (0, 0)
    assert "4 published, 0 not" in err.decode()
    assert f"{channel} has ended" in said.decode()


async def test_a_publication_in_several_channels_is_told_for_each(
    hub: HubProcess, channel: str
) -> None:
    """A line for each; one that is refused is named, and the exit code says so."""
    one, other = f"{channel}.1", f"{channel}.2"
    flags = ("--ttl", "60", "--idempotency-key", "once")
    told = await command(hub, "publish", f"{one},{other}", "1", *flags)
    again = await command(hub, "publish", f"{one},{other}", "1", *flags)
    partly = await command(hub, "publish", f"{one},not allowed", "2")
    assert [(each["channel"], each["offset"]) for each in lines_of(told)] == [(one, 1), (other, 1)]
    assert all(each["duplicate"] for each in lines_of(again))
    assert (partly.code, lines_of(partly)[0]["channel"]) == (1, one)
    assert "not allowed: not published: bad_request" in partly.err


async def test_a_publication_without_history_is_not_in_it(hub: HubProcess, channel: str) -> None:
    assert (await command(hub, "publish", channel, "1", "--no-history")).code == 0
    assert (await command(hub, "publish", channel, "2")).code == 0
    assert [message["data"] for message in await kept(hub, channel)] == [2]


async def test_history_is_printed_forwards_backwards_and_from_a_moment_on(
    hub: HubProcess, channel: str
) -> None:
    """One JSON line each; where the rest is held no more stderr says so."""
    await publish(hub, channel, *range(5))
    moment = (await kept(hub, channel))[0]["time"]
    everything = await command(hub, "history", channel)
    newest = await command(hub, "history", channel, "--reverse", "--limit", "2")
    since = await command(hub, "history", channel, "--from-time", str(moment))
    none = await command(hub, "history", channel, "--from-time", "2999-01-01")
    assert [line["data"] for line in lines_of(everything)] == [0, 1, 2, 3, 4]
    assert [line["data"] for line in lines_of(newest)] == [4, 3]
    assert [line["data"] for line in lines_of(since)] == [0, 1, 2, 3, 4]
    assert (none.out, none.err, none.code) == ("", "", 0)
    wrong = await command(hub, "history", channel, "--from-time", "yesterday")
    assert wrong.code == 1
    assert "from_time is 'yesterday', expected milliseconds since 1970 or ISO 8601" in wrong.err


async def test_history_is_deleted_only_where_somebody_said_yes(
    hub: HubProcess, channel: str
) -> None:
    """Without a terminal --yes is needed; numbers go on."""
    await publish(hub, channel, 1, 2)
    asked = await command(hub, "history", channel, "--delete")
    assert (asked.code, len(await kept(hub, channel))) == (2, 2)
    assert "add --yes" in asked.err
    narrowed = await command(hub, "history", channel, "--delete", "--yes", "--limit", "1")
    assert narrowed.code == 2
    done = await command(hub, "history", channel, "--delete", "--yes")
    assert (done.code, await kept(hub, channel)) == (0, [])
    await publish(hub, channel, 3)
    shown = await command(hub, "history", channel)
    assert [line["offset"] for line in lines_of(shown)] == [3]
    assert f"history of {channel} begins at " in shown.err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("a", "--remove"), "which names the row"),
        (("a", "-", "--remove", "--message-key", "k"), "reads no lines"),
        (("a", "-", "--idempotency-key", "k"), "is for one message"),
        (("a", "1", "--tag", "league"), "NAME=VALUE, such as league=nba"),
        (("a", "1", "--tag", "x=1", "--tag", "x=2"), "names 'x' twice"),
        (("a", "1", "--ttl", "soon"), "--ttl is 'soon'"),
        (("a,a", "1"), "'a' is named twice"),
    ],
)
async def test_flags_of_publish_that_cannot_be_are_refused_in_one_line(
    hub: HubProcess, arguments: tuple[str, ...], said: str
) -> None:
    """Exit code 2, and nothing is sent."""
    ended = await command(hub, "publish", *arguments)
    assert (ended.code, ended.out) == (2, "")
    assert said in ended.err
    assert len(ended.err.splitlines()) == 1
