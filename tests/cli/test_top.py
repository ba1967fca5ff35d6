"""`hub top` in a pseudo-terminal, against a real hub with live traffic."""

import json
import os
import signal
from collections.abc import Callable, Iterator

import psutil
import pytest

from tests.cli.operating import OperatedHub, environment, publish, run, subscribed, traffic
from tests.cli.terminal import DEADLINE_SECONDS, Terminal, terminal
from tests.support.hub_process import HubProcess
from tests.support.waiting import eventually

pytestmark = pytest.mark.timeout(180)
QUICK = ("--every", "0.3")
# Longer than any wait here: what is seen then is the answer to a key or a signal.
SELDOM = ("--every", "3600")


@pytest.fixture(scope="module")
def hub() -> Iterator[HubProcess]:
    with OperatedHub() as started:
        yield started


def shows(*texts: str) -> Callable[[list[str]], bool]:
    """Whether each text stands in some line."""
    return lambda lines: all(any(text in line for line in lines) for text in texts)


def place(lines: list[str], text: str) -> int:
    """In which line a text stands; -1 where in none."""
    return next((number for number, line in enumerate(lines) if text in line), -1)


async def test_an_operator_sees_connections_sorts_them_by_a_key_and_quits(
    hub: HubProcess, channel: str
) -> None:
    """Traffic shows as rates; another key is another order; the terminal is as it was."""
    async with (
        subscribed(hub, channel) as busy,
        subscribed(hub, "a", "b", "c") as quiet,
        traffic(hub, channel),
        terminal("top", *QUICK, variables=environment(hub.url)) as seen,
    ):
        lines = await seen.sees(
            lambda lines: 0 < place(lines, busy.id) < place(lines, quiet.id),
            "both connections, the busy one first",
        )
        assert (place(lines, "SENT↓"), place(lines, "2 connections")) == (4, 0)
        await seen.sees(lambda lines: "deliveries 0/s" not in lines[1], "deliveries per second")
        seen.press("u")
        lines = await seen.sees(
            lambda lines: 0 < place(lines, quiet.id) < place(lines, busy.id),
            "the connection with more subscriptions first",
        )
        assert "SUBS↓" in lines[4]
        seen.press("r")
        await seen.sees(
            lambda lines: "SUBS↑" in lines[4] and place(lines, busy.id) < place(lines, quiet.id),
            "the other way round",
        )
        assert seen.is_taken
        assert seen.modes != seen.modes_before
        seen.press("q")
        assert await seen.ended() == 0
        assert seen.is_as_before
        assert b"Traceback" not in seen.written


async def test_top_fills_80_by_24_and_follows_a_resize(hub: HubProcess, channel: str) -> None:
    """Keys in the last line; more columns where there is room."""
    async with subscribed(hub, channel, agent="a-program/1.0") as peer:
        async with terminal("top", *SELDOM, variables=environment(hub.url)) as seen:
            lines = await seen.sees(
                lambda lines: place(lines, peer.id) > 0 and lines[23].startswith("1-3 list"),
                "the connection, and keys in the last line",
            )
            assert lines[0].startswith(f"hub {hub.url}")
            assert "USER AGENT" not in lines[4]
            seen.resize(160, 30)
            lines = await seen.sees(
                lambda lines: "USER AGENT" in lines[4] and lines[29].startswith("1-3 list"),
                "more columns, and keys in the last line",
            )
            assert "a-program/1.0" in lines[place(lines, peer.id)]


async def test_keys_lead_to_channels_nodes_and_help(hub: HubProcess, channel: str) -> None:
    """Each list is asked for when it is wanted."""
    async with (
        subscribed(hub, channel),
        terminal("top", *SELDOM, variables=environment(hub.url)) as seen,
    ):
        await seen.sees(shows("CONNECTION"), "connections")
        seen.press("2")
        await seen.sees(shows("SUBSCRIBERS↓", channel), "channels")
        seen.press("\t")
        await seen.sees(shows("DELIV/s", "test-node"), "nodes")
        seen.press("\x1b[C")
        await seen.sees(shows("CONNS↓"), "the next column")
        seen.press("?")
        await seen.sees(shows("sort by:"), "help")
        seen.press("?")
        await seen.sees(lambda lines: place(lines, "sort by:") < 0, "nodes again")


async def test_a_row_is_opened_and_rows_are_filtered(hub: HubProcess, channel: str) -> None:
    """Arrows and Enter open a row, and text behind a slash filters the rows."""
    async with (
        subscribed(hub, channel, "other", agent="wanted/1.0") as peer,
        subscribed(hub, channel, agent="another/1.0") as another,
        terminal("top", *SELDOM, variables=environment(hub.url)) as seen,
    ):
        await seen.sees(shows(peer.id, another.id), "both connections")
        seen.press("/WANT")
        await seen.sees(
            lambda lines: (
                place(lines, peer.id) > 0 > place(lines, another.id)
                and "rows with: WANT" in lines[23]
                and "1 of 2 with WANT" in lines[3]
            ),
            "one of them, and what was typed",
        )
        seen.press("\r\x1b[B\r")
        await seen.sees(shows("2 subscriptions", channel, "user agent", "live"), "its details")
        seen.press("\x1b")
        await seen.sees(shows("1 of 2 with WANT"), "the list")
        seen.press("\x1b")
        seen.press("\x1b")
        await seen.sees(shows(peer.id, another.id), "all rows")


async def test_a_pause_lasts_until_it_is_ended(hub: HubProcess, channel: str) -> None:
    """A connection that opens during the pause is shown after it."""
    async with terminal("top", *QUICK, variables=environment(hub.url)) as seen:
        await seen.sees(shows("0 connections"), "an empty hub")
        seen.press(" ")
        await seen.sees(shows("PAUSED"), "the pause")
        async with subscribed(hub, channel) as peer:
            listed = await run("connections", **environment(hub.url))
            assert peer.id in listed.out
            assert place(seen.lines, peer.id) < 0
            seen.press(" ")
            lines = await seen.sees(shows(peer.id), "the new connection")
            assert "PAUSED" not in lines[0]


@pytest.mark.parametrize(
    ("end", "code"),
    [
        (lambda seen: seen.press("\x03"), 130),
        (lambda seen: seen.process.send_signal(signal.SIGINT), 130),
        (lambda seen: seen.process.send_signal(signal.SIGTERM), 128 + signal.SIGTERM),
        (lambda seen: seen.process.send_signal(signal.SIGHUP), 128 + signal.SIGHUP),
    ],
    ids=["ctrl-c", "sigint", "sigterm", "sighup"],
)
async def test_whatever_ends_it_the_terminal_is_given_back(
    hub: HubProcess, end: Callable[[Terminal], None], code: int
) -> None:
    """Modes, screen and cursor; the exit code says which signal."""
    async with terminal("top", variables=environment(hub.url)) as seen:
        await seen.sees(shows("1-3 list"), "the first frame")
        end(seen)
        assert await seen.ended() == code
        assert seen.is_as_before
        assert b"Traceback" not in seen.written


async def test_a_defect_gives_the_terminal_back_and_shows_its_traceback() -> None:
    """An error inside the block, as a defect of the picture would raise."""
    program = "from hub.cli.screen import Screen\nwith Screen() as s:\n s.show('hello')\n 1 / 0\n"
    async with terminal(program=("-c", program)) as seen:
        assert await seen.ended() == 1
        await eventually(lambda: b"ZeroDivisionError" in seen.written)
        assert b"hello" in seen.written
        assert seen.is_as_before


async def test_ctrl_z_gives_the_terminal_back_until_it_goes_on(hub: HubProcess) -> None:
    """A shell that is returned to can be used."""
    async with terminal("top", variables=environment(hub.url)) as seen:
        await seen.sees(shows("1-3 list"), "the first frame")
        seen.press("\x1a")
        process = psutil.Process(seen.process.pid)
        await eventually(
            lambda: process.status() == psutil.STATUS_STOPPED and seen.is_as_before,
            seconds=DEADLINE_SECONDS,
            what="a stopped command and its terminal as before",
        )
        os.kill(seen.process.pid, signal.SIGCONT)
        await eventually(lambda: seen.is_taken, seconds=DEADLINE_SECONDS)
        seen.press("q")
        assert await seen.ended() == 0
        assert seen.is_as_before


async def test_a_hub_that_goes_and_comes_back_is_seen_to(channel: str) -> None:
    """Figures stay and are said to be old; keys go on working."""
    with OperatedHub() as own:
        async with terminal("top", *QUICK, variables=environment(own.url)) as seen:
            await seen.sees(shows("0 connections"), "the hub")
            own.kill()
            await seen.sees(shows("shown is an old state: no hub at"), "its absence")
            seen.press("3")
            await seen.sees(shows(" 3 nodes ", "DELIV/s"), "another list")
            own.restart()
            async with subscribed(own, channel) as peer:
                seen.press("1")
                await seen.sees(
                    lambda lines: place(lines, peer.id) > 0 and not lines[2], "all is well"
                )
            seen.press("q")
            assert await seen.ended() == 0


async def test_without_a_terminal_it_prints_one_frame_and_ends(
    hub: HubProcess, channel: str
) -> None:
    """Nothing is cut, no escape sequence, whatever width the pipe claims."""
    async with subscribed(hub, channel, agent="a-program/1.0") as peer:
        await publish(hub, channel, 1)
        ended = await run("top", COLUMNS="20", **environment(hub.url))
    assert (ended.code, ended.err) == (0, "")
    first, figures, titles, row = (line.strip() for line in ended.out.splitlines())
    assert first.startswith(f"hub {hub.url}  1 node  1 connection  ")
    assert figures.startswith("publications ")
    assert titles.startswith("CONNECTION")
    assert (peer.id in row, "a-program/1.0" in row, "\x1b" in ended.out) == (True, True, False)


async def test_snapshots_come_as_json_lines(hub: HubProcess, channel: str) -> None:
    """Each with the cluster's sums, the nodes and the list; the second knows rates."""
    async with subscribed(hub, channel) as peer, traffic(hub, channel):
        ended = await run("top", "--json", "--count", "2", *QUICK, **environment(hub.url))
    assert (ended.code, ended.err) == (0, "")
    one, two = (json.loads(line) for line in ended.out.splitlines())
    assert one["cluster"]["connections"] == 1
    assert one["nodes"][0]["node"] == "test-node"
    (row,) = two["connections"]
    assert (row["connection"], row["sent_per_second"] > 0) == (peer.id, True)
    assert "sent_per_second" not in one["connections"][0]


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (("sessions",), 2, "sessions is no list: connections, channels, nodes"),
        (("--sort", "name"), 2, "--sort is 'name', allowed are connection, node,"),
        (("nodes", "--key", "wrong"), 1, "unauthorized: the key is not one that is set here"),
        (("--url", "http://127.0.0.1:9"), 1, "no hub at http://127.0.0.1:9: "),
    ],
)
async def test_a_fault_at_the_start_is_said_before_the_screen_is_taken(
    hub: HubProcess, arguments: tuple[str, ...], code: int, says: str
) -> None:
    """The message is printed where it stays readable."""
    async with terminal("top", *arguments, columns=120, variables=environment(hub.url)) as seen:
        assert await seen.ended() == code
        await seen.sees(shows(says), says)
        assert b"\x1b[?1049h" not in seen.written
