"""`hub subscribe` as a process, against a hub played by a script."""

import asyncio
import json
import signal

import pytest

from hub.cli.subscribe import positions, transports, trouble
from hub_client import ConnectionState
from tests.cli.commands import DEADLINE_SECONDS, run, started
from tests.clients.python.fakes import (
    Peer,
    message,
    reset,
    websocket_hub,
    welcome,
)
from tests.clients.python.fakes import started as reply_of
from tests.support.forked_process import PipedProcess


async def read_lines(process: PipedProcess, count: int) -> list[bytes]:
    async with asyncio.timeout(DEADLINE_SECONDS):
        return [await process.stdout.readline() for _ in range(count)]


async def read_errors(process: PipedProcess, until: str) -> str:
    """Stderr up to and with the line that holds `until`."""
    text = ""
    async with asyncio.timeout(DEADLINE_SECONDS):
        while until not in text:
            line = await process.stderr.readline()
            assert line, text
            text += line.decode()
    return text


async def test_a_push_is_printed_as_the_bytes_that_came() -> None:
    """One line each, fields and a 23-digit integer untouched; diagnostics stay off stdout."""
    raw = '{"op":"message","channel":"a","offset":1,"time":5,"data":{"n": 12345678901234567890123}}'
    join = {"op": "join", "channel": "a", "member": {"id": "ann", "connection": "c2"}}

    async def script(peer: Peer) -> None:
        await peer.push(welcome())
        command = await peer.start("e1:0")
        assert (command["last"], "fill" in command) == (3, False)
        await peer.socket.send(raw)
        await peer.push(join)
        await peer.socket.wait_closed()

    async with (
        websocket_hub(script) as fake,
        started("subscribe", "a", "--last", "3", "--token", "t0k", "--url", fake.url) as process,
    ):
        lines = await read_lines(process, 2)
        await read_errors(process, "subscribed to a")
    assert lines[0] == raw.encode() + b"\n"
    assert json.loads(lines[1]) == join
    assert any(value == "Bearer t0k" for value in fake.headers[0].values())


async def test_a_restarted_hub_shows_as_one_reset_per_channel() -> None:
    """The connection breaks, the new hub has a new epoch: one gap line for each channel."""
    asked: list[object] = []

    async def first(peer: Peer) -> None:
        await peer.push(welcome())
        for _ in range(2):
            command = await peer.command()
            channel = command["channel"]
            await peer.push(reply_of(command, "e1:0"), message(channel, 1))
        peer.socket.transport.abort()

    async def second(peer: Peer) -> None:
        await peer.push(welcome())
        for _ in range(2):
            command = await peer.command()
            asked.append(command.get("since"))
            channel = command["channel"]
            await peer.push(reply_of(command, "e2:0", recovered=False), reset(channel, "e2:0"))
            await peer.push(message(channel, 1))
        await peer.socket.wait_closed()

    async with (
        websocket_hub(first, second) as fake,
        started("subscribe", "a", "b", "--url", fake.url, "--transport", "websocket") as process,
    ):
        pushes = [json.loads(line) for line in await read_lines(process, 6)]
    for channel in ("a", "b"):
        mine = [push for push in pushes if push["channel"] == channel]
        assert [push.get("reason", push["op"]) for push in mine] == ["message", "reset", "message"]
    assert asked == ["e1:1", "e1:1"]


async def test_a_refusal_ends_the_command_with_its_reason() -> None:
    """Exit code 1; on stderr what the hub said, what may help, and which hub it was."""

    async def script(peer: Peer) -> None:
        await peer.socket.close(4401, "no such token")

    async with (
        websocket_hub(script) as fake,
        started("subscribe", "a", "--url", fake.url) as process,
    ):
        err = await read_errors(process, f"no such token (--token or HUB_TOKEN), at {fake.url}")
        async with asyncio.timeout(DEADLINE_SECONDS):
            assert await process.wait() == 1
    assert "Traceback" not in err


async def test_a_channel_that_an_operator_takes_away_is_named() -> None:
    """The message names the one channel that ended, which the hub's reason alone does not."""

    async def script(peer: Peer) -> None:
        await peer.push(welcome())
        await peer.start("e1:0")
        await peer.push({"op": "unsubscribed", "channel": "a", "reason": "by operator"})
        await peer.socket.wait_closed()

    async with (
        websocket_hub(script) as fake,
        started("subscribe", "a", "--url", fake.url) as process,
    ):
        await read_errors(process, "hub: unsubscribed: a: by operator")
        async with asyncio.timeout(DEADLINE_SECONDS):
            assert await process.wait() == 1


async def test_a_closed_pipe_ends_the_command_quietly() -> None:
    """`hub subscribe a | head -1` ends although nothing more is published."""

    async def script(peer: Peer) -> None:
        await peer.push(welcome())
        await peer.start("e1:0")
        await peer.push(message("a", 1))
        await peer.socket.wait_closed()

    async with (
        websocket_hub(script) as fake,
        started("subscribe", "a", "--url", fake.url) as process,
    ):
        await read_lines(process, 1)
        process.close_stdout()
        async with asyncio.timeout(DEADLINE_SECONDS):
            assert await process.wait() == 0
            assert b"Traceback" not in await process.stderr.read()


async def test_an_interrupt_ends_the_command_without_a_traceback() -> None:
    """The exit code is 130, as after Ctrl-C."""

    async def script(peer: Peer) -> None:
        await peer.push(welcome())
        await peer.start("e1:0")
        await peer.socket.wait_closed()

    async with (
        websocket_hub(script) as fake,
        started("subscribe", "a", "--url", fake.url) as process,
    ):
        await read_errors(process, "subscribed to a")
        process.send_signal(signal.SIGINT)
        async with asyncio.timeout(DEADLINE_SECONDS):
            assert await process.wait() == 130
            assert b"Traceback" not in await process.stderr.read()


def test_since_names_its_channel_unless_there_is_only_one() -> None:
    """POSITION suffices with one channel, and must be CHANNEL=POSITION with more or a pattern."""
    assert positions(("a",), (), ["e1:4"]) == {"a": "e1:4"}
    both = positions(("a", "b:c"), (), ["b:c=e1:4", "a=e2:0"])
    assert both == {"b:c": "e1:4", "a": "e2:0"}
    assert positions(("a",), ("b:*",), ["b:c=e1:4"]) == {"b:c": "e1:4"}
    for channels, patterns in ((("a", "b"), ()), ((), ("b:*",))):
        with pytest.raises(ValueError, match="CHANNEL=POSITION"):
            positions(channels, patterns, ["e1:4"])
    with pytest.raises(ValueError, match="not among the CHANNELs"):
        positions(("a",), ("b:*",), ["c=e1:4"])


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "name a CHANNEL, or give a --pattern"),
        (("prices:*",), "--pattern 'prices:*' reads all"),
        (("--pattern", "a:*", "--state"), "--state is of a channel, not of a --pattern"),
        (("--pattern", "a:*", "--every-ms", "5"), "--every-ms is of a channel, not of a --pattern"),
        (("a", "--filter", "{league"), "--filter is no JSON"),
        (("a", "--filter", "[1]"), '--filter is a JSON object, such as {"league":"nba"}'),
    ],
)
async def test_flags_that_do_not_go_together_are_refused_in_one_line(
    arguments: tuple[str, ...], said: str
) -> None:
    """Exit code 2, what is wrong and what to do; nobody is asked."""
    ended = await run("subscribe", *arguments)
    assert ended.code == 2
    assert said in ended.err
    assert len(ended.err.splitlines()) == 1


def test_an_unknown_transport_is_refused_with_what_is_allowed() -> None:
    """The message lists the names."""
    with pytest.raises(ValueError, match="auto, websocket, sse"):
        transports("pigeon")


async def test_characters_that_a_terminal_would_obey_are_printed_as_escapes() -> None:
    """A push with C1 and bidi characters in its data stays the same JSON, in one line."""
    raw = '{"op":"message","channel":"a","offset":1,"time":5,"data":\n{"n": "\x9b31m\u202e"}}'

    async def script(peer: Peer) -> None:
        await peer.push(welcome())
        await peer.start("e1:0")
        await peer.socket.send(raw)
        await peer.socket.wait_closed()

    async with (
        websocket_hub(script) as fake,
        started("subscribe", "a", "--url", fake.url) as process,
    ):
        (line,) = await read_lines(process, 1)
    assert line.rstrip(b"\n").decode().isprintable()
    assert json.loads(line) == json.loads(raw)


@pytest.mark.parametrize(
    ("seconds", "told"), [(0.0, "again at once"), (0.04, "again at once"), (0.06, "again in 0.1 s")]
)
def test_when_it_is_tried_again_is_said(seconds: float, told: str) -> None:
    """The first time is at once."""
    state = ConnectionState("waiting", "refused", retry_in_seconds=seconds)
    assert trouble(state) == f"refused; {told}"
