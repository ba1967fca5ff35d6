"""Requests that readers of HTTP disagree on, whole and cut at every byte, on a real socket.

`tests/golden/smuggling.json` says of each: the statuses that the hub answers, in order; whether
the last answer says that the connection ends (null: either way is right); how many
publications it makes in the channel `meant`. Nothing may ever arrive in `smuggled`, which only
bodies and what follows garbage name.
"""

import asyncio
import contextlib
import re
import socket
from collections.abc import AsyncIterator, Sequence
from urllib.parse import urlsplit

import pytest
import pytest_asyncio

from hub import Hub, Settings
from tests.support.golden import Case, golden, name_of
from tests.support.raw_connection import raw_connection

CORPUS: list[Case] = golden("smuggling")
HANDSHAKE_SECONDS = 60
# Only a failing test takes so many; a loop's turn is some milliseconds.
_MOST_STEPS = 5000
_STATUS = re.compile(rb"HTTP/1\.1 (\d{3}) ")

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def hub() -> AsyncIterator[Hub]:
    """In this process, so that a cut is a read of its own."""
    settings = Settings(port=0, drain_seconds=0, handshake_timeout_seconds=HANDSHAKE_SECONDS)
    async with Hub(settings) as hub:
        yield hub


async def conversation(hub: Hub, data: bytes) -> bytes:
    """Everything that is answered to `data` and a half-close."""
    async with raw_connection(hub.url) as peer:
        peer.send(data)
        with contextlib.suppress(OSError):
            # The hub may have ended the connection behind its last answer.
            peer.end_sending()
        return await peer.rest()


class CutPeer:
    """A socket without a stream around it: there are tens of thousands of them."""

    def __init__(self, hub: Hub, parts: Sequence[bytes]) -> None:
        place = urlsplit(hub.url)
        self._socket = socket.create_connection((place.hostname, place.port))
        self._socket.setblocking(False)
        self._parts = list(parts)
        self._answers = b""
        self.is_done = False

    def send_part(self) -> None:
        with contextlib.suppress(OSError):
            self._socket.send(self._parts.pop(0))

    def end_sending(self) -> None:
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_WR)

    def take(self) -> None:
        """Takes the bytes that have come."""
        try:
            while part := self._socket.recv(1 << 16):
                self._answers += part
        except BlockingIOError:
            return
        except ConnectionError:
            pass
        self.is_done = True

    def close(self) -> bytes:
        self._socket.close()
        return self._answers


async def _turns(count: int) -> None:
    """The hub accepts and reads in this loop: it has what was sent when they are over."""
    for _ in range(count):
        await asyncio.sleep(0)


async def cut_conversations(hub: Hub, data: bytes, cuts: Sequence[int]) -> list[bytes]:
    """Returns the answers to `data` in two reads that meet at each of `cuts`."""
    peers = [CutPeer(hub, (data[:cut], data[cut:])) for cut in cuts]
    try:
        for _ in range(2):
            for peer in peers:
                peer.send_part()
            await _turns(4)
        # Streams are opened one after another, at least one in each turn of the loop; a peer that
        # says before that it is done wants none.
        await _turns(len(peers))
        for peer in peers:
            peer.end_sending()
        for _ in range(_MOST_STEPS):
            for peer in peers:
                if not peer.is_done:
                    peer.take()
            if all(peer.is_done for peer in peers):
                break
            await _turns(4)
    finally:
        answers = [peer.close() for peer in peers]
    return answers


def heads(answers: bytes) -> list[bytes]:
    """The heads of several answers in a row, by the length that each says."""
    found = []
    while answers:
        head, _, rest = answers.partition(b"\r\n\r\n")
        found.append(head)
        length = re.search(rb"(?i)\r\ncontent-length: (\d+)", head)
        is_head_only = not rest or rest.startswith(b"HTTP/1.1 ")
        answers = rest if length is None or is_head_only else rest[int(length[1]) :]
    return found


def check(case: Case, answers: bytes) -> None:
    found = heads(answers)
    assert [int(_STATUS.match(head)[1]) for head in found] == case["answers"], answers  # type: ignore[index]
    if case["closes"] is not None and found:
        said = re.search(rb"(?i)\r\nconnection: ([^\r]*)", found[-1])
        closes = said is not None and b"close" in said[1].lower()
        assert closes is case["closes"], answers


async def published(hub: Hub, channel: str) -> int:
    """How many publications a channel has seen."""
    async with raw_connection(hub.url) as peer:
        peer.request("GET", f"/api/channels/{channel}/history")
        answer = await peer.answer()
    found = re.search(rb'"position":"[^"]*:(\d+)"', answer.body)
    return 0 if found is None else int(found[1])


@pytest.mark.parametrize("case", CORPUS, ids=name_of)
async def test_a_request_is_answered_as_written_and_nothing_else_is(hub: Hub, case: Case) -> None:
    before = await published(hub, "meant")
    check(case, await conversation(hub, case["bytes"].encode("latin-1")))
    assert await published(hub, "meant") - before == case["published"]
    assert await published(hub, "smuggled") == 0


@pytest.mark.timeout(180)
async def test_cut_at_any_byte_it_is_answered_the_same(hub: Hub) -> None:
    """Each case, in two reads that meet at every byte of it."""
    for case in CORPUS:
        data, before = case["bytes"].encode("latin-1"), await published(hub, "meant")
        cuts = range(1, len(data))
        everything = await cut_conversations(hub, data, cuts)
        for cut, answers in zip(cuts, everything, strict=True):
            try:
                check(case, answers)
            except AssertionError as error:
                raise AssertionError(f"{case['name']}, cut at {cut}: {data[:cut]!r}") from error
        assert await published(hub, "meant") - before == case["published"] * len(cuts), case
    assert await published(hub, "smuggled") == 0
