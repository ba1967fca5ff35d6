"""A better connection beside the one that works, until it can go on for it without a break.

It subscribes to the same channels from now on, and what it brings is held back until the
present connection has brought everything before that. So nothing is lost by the change,
history or not, and what both brought is told by its offset. Until then nothing depends on the
better one: where it fails, the present connection has not noticed.
"""

import asyncio
from collections.abc import Callable

from hub_client import frames
from hub_client.life import Life
from hub_client.messages import Position
from hub_client.sequence import Sequence
from hub_client.session import Session
from hub_client.transport import ABNORMAL_CLOSE, DisconnectedError

# How often it is looked whether the present connection has come far enough. Guess.
_LOOK_SECONDS = 0.05
# Commands wait at most so long for the replies to those before them. Guess: a slow round trip.
_PAUSE_SECONDS = 2.0
# Of what is held back. Guess: a second of a busy client; more is a reason to try again later.
_MAX_HELD_BYTES = 8 * 1024 * 1024


class Takeover:
    """What `life` needs before it can go on for another connection of the same session."""

    def __init__(self, life: Life, session: Session) -> None:
        self.life = life
        self._session = session
        self._subscribed: set[str] = set()
        self._asked: dict[int, str] = {}
        self._starts: dict[str, Position] = {}
        self._held: list[bytes] = []
        self._held_bytes = 0

    async def prepare(self, present: Life) -> None:
        """Return when `life` may go on; `present` sends nothing from then on.

        Raises:
            DisconnectedError, ProtocolError, TimeoutError: it cannot, or not soon.
        """
        await self._until(lambda: self._has_caught_up)
        present.may_send = False
        try:
            # A reply comes over the connection that the command was sent on.
            async with asyncio.timeout(_PAUSE_SECONDS):
                await self._until(
                    lambda: self._has_caught_up and self._session.unanswered <= len(present.unsent)
                )
        except BaseException:
            present.may_send = True
            raise
        self.life.hold(self._held)

    @property
    def subscribed(self) -> frozenset[str]:
        """Channels that the hub was asked for."""
        return frozenset(self._subscribed)

    @property
    def starts(self) -> dict[str, Position]:
        """Where its subscriptions began that can go on, by channel."""
        return {
            channel: self._starts[channel]
            for channel, sequence in self._session.sequences.items()
            if self._is_reached(sequence)
        }

    @property
    def _has_caught_up(self) -> bool:
        return all(map(self._is_reached, self._session.sequences.values()))

    def _is_reached(self, sequence: Sequence) -> bool:
        start, place = self._starts.get(sequence.channel), sequence.position
        if start is None or place is None or sequence.awaiting:
            return False
        return place.epoch == start.epoch and place.offset >= start.offset

    async def _until(self, holds: Callable[[], bool]) -> None:
        while not holds():
            await self._subscribe()
            if frame := await self.life.look(_LOOK_SECONDS):
                self._take(frame)

    async def _subscribe(self) -> None:
        """Without `since`: what comes before is the present connection's."""
        for channel in self._session.sequences.keys() - self._subscribed:
            self._subscribed.add(channel)
            # Below zero, so that the ids are none of the session's.
            command_id = -len(self._subscribed)
            self._asked[command_id] = channel
            fill = self._session.sequences[channel].fill or None
            command = frames.command("subscribe", command_id, channel=channel, fill=fill)
            if reply := await self.life.connection.send(command_id, command):
                self._take(reply)

    def _take(self, raw: bytes) -> None:
        frame = frames.decode(raw)
        match frame.op:
            case "reply":
                self._replied(frame)
            case "subscribed":
                self._starts[frame.channel] = frames.position(frame.position)
            case "goodbye" | "unsubscribed":
                raise DisconnectedError(ABNORMAL_CLOSE, f"{frame.op}: {frame.reason}")
            case _:
                if not _is_told_by_both(frame):
                    self._hold(raw)

    def _replied(self, frame: frames.Frame) -> None:
        channel = self._asked.pop(frame.id, None) if isinstance(frame.id, int) else None
        if channel is None:
            return
        if frame.error is not None:
            raise DisconnectedError(ABNORMAL_CLOSE, f"{channel}: {frame.error.public()}")
        if self.life.connection.starts_in_reply:
            self._starts[channel] = frames.subscribed_position(frame.ok)

    def _hold(self, raw: bytes) -> None:
        self._held.append(raw)
        self._held_bytes += len(raw)
        if self._held_bytes > _MAX_HELD_BYTES:
            raise DisconnectedError(ABNORMAL_CLOSE, "too much waits for the present connection")


def _is_told_by_both(frame: frames.Frame) -> bool:
    """Whether it has no offset by which a repetition could be known: the present one's word."""
    if frame.op == "message":
        return frame.offset is None
    return frame.op in {"heartbeat", "join", "leave"} or frame.unsequenced > 0
