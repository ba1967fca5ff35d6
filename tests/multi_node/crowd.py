"""Many subscribers that move when they are told to, each noting what it got and when it came.

Sockets and the shape of frames only: two thousand of a library's clients would measure the
library. Each goes to a random node of those a load balancer would send it to.
"""

import asyncio
import contextlib
import json
import random
import re
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from tests.support.frames import PING, PONG, TEXT, FrameParser, masked
from tests.support.raw_connection import END_OF_HEAD, get

_TRY_SECONDS = 10.0
_RETRY_SECONDS = (0.2, 0.6)
_OFFSET = re.compile(rb'"op":"message"[^{]*?"offset":(\d+)')
_NOT_MESSAGES = (b'"op":"gap"', b'"op":"goodbye"', b'"op":"subscribed"')


@dataclass
class Crowd:
    """The clients: the ports that they may go to, and the times at which they came back."""

    ports: set[int]
    """Of nodes that are ready."""
    returns: list[float] = field(default_factory=list)
    """Monotonic time of every connection after a member's first."""
    refused: Counter[str] = field(default_factory=Counter)
    """Attempts that failed, by what each met."""
    sent_away: list[dict[str, Any]] = field(default_factory=list)
    """Goodbyes that named no time to come back, such as to a member that answered no ping."""


@dataclass
class Member:
    """One subscriber of one channel."""

    crowd: Crowd
    channel: str
    offsets: list[int] = field(default_factory=list)
    gaps: list[str] = field(default_factory=list)
    epoch: str = ""
    connects: int = 0
    is_here: bool = False
    """Whether it is connected to a node now."""
    wait_seconds: float = 0.0
    """Before the next attempt, as the last goodbye said."""

    def has(self, offset: int) -> bool:
        return bool(self.offsets) and self.offsets[-1] >= offset

    async def run(self) -> None:
        """Stay subscribed until cancelled."""
        while True:
            try:
                await self._stay(random.choice(sorted(self.crowd.ports)))
            except (OSError, asyncio.IncompleteReadError) as error:
                self.crowd.refused[repr(error)] += 1
                self.wait_seconds = random.uniform(*_RETRY_SECONDS)
            await asyncio.sleep(self.wait_seconds)
            self.wait_seconds = random.uniform(*_RETRY_SECONDS)

    def _target(self) -> str:
        if not self.epoch:
            return f"/ws?channel={self.channel}"
        last = self.offsets[-1] if self.offsets else 0
        return f"/ws?channel={self.channel}&since={self.channel}%3D{self.epoch}%3A{last}"

    async def _stay(self, port: int) -> None:
        async with asyncio.timeout(_TRY_SECONDS):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(get(self._target(), upgrade=True))
            head = await reader.readuntil(END_OF_HEAD)
        if b" 101 " not in head:
            writer.close()
            raise ConnectionRefusedError(head + await reader.read(300))
        if self.connects:
            self.crowd.returns.append(time.monotonic())
        self.connects += 1
        self.is_here = True
        try:
            await self._read(reader, writer)
        finally:
            self.is_here = False
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    async def _read(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Until the goodbye or the end."""
        frames = FrameParser()
        while data := await reader.read(65_536):
            for frame in frames.feed(data):
                if frame.opcode == PING:
                    writer.write(masked(frame.payload, PONG))
                elif frame.opcode == TEXT and self._take(frame.payload):
                    return

    def _take(self, payload: bytes) -> bool:
        """Note one push; True for a goodbye."""
        if not any(mark in payload for mark in _NOT_MESSAGES):
            if found := _OFFSET.search(payload):
                self.offsets.append(int(found[1]))
            return False
        push = json.loads(payload)
        if push["op"] == "subscribed":
            self.epoch = self.epoch or push["position"].rpartition(":")[0]
        elif push["op"] == "gap":
            self.gaps.append(payload.decode())
        else:
            self._leave(push)
            return True
        return False

    def _leave(self, goodbye: dict[str, Any]) -> None:
        """Come back when the goodbye says; note one that says nothing."""
        within_ms = goodbye.get("reconnect_within_ms")
        if within_ms is None:
            self.crowd.sent_away.append(goodbye)
            self.wait_seconds = random.uniform(*_RETRY_SECONDS)
        else:
            self.wait_seconds = random.uniform(0, within_ms / 1000)


def per_second(times: list[float]) -> list[int]:
    """How many came in each second since the first."""
    first = min(times)
    counts = [0] * (int(max(times) - first) + 1)
    for at in times:
        counts[int(at - first)] += 1
    return counts
