"""One channel as this client sees it: its position, and which pushes are new.

Offsets order publications within an epoch, and a push that is not newer than the last one is a
repetition and is dropped. So two connections may bring the same channel while the client moves from
one to the other: the first to bring a message counts. A gap of the newer connection is held back,
with all behind it, while the older connection may still bring the missing part. No I/O, no clock.

Example: at offset 4 the client moves. The newer connection says `gap 5..6 expired`, then 7, and
both are held. The older one still brings 5 and 6: they are handed over, the gap is dropped because
it lacks nothing any more, and 7 is handed over. Where the older one ends after 5, `gap 6..6` is
handed over instead, then 7.
"""

from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from hub_client.frames import Frame, decode, encode, position, rows
from hub_client.messages import Gap, Item, Message, Position, Presence, State

# What another connection may have: it asked earlier, or is at another node (PROTOCOL.md, gaps).
_LACKING = frozenset({"expired", "broker"})
# The bytes that are held back. Guess: a second of a busy client.
_MAX_HELD_BYTES = 8 * 1024 * 1024

Epochs = dict[str, str]
"""The epochs of the channels that one connection is subscribed to."""


@dataclass(frozen=True, slots=True)
class PushSource:
    """The connection that brought a push, as one channel sees it."""

    epochs: Epochs
    first: bool = True
    """Whether this connection counts for pushes that have no offset to compare."""
    newer: bool = False
    """Whether a former connection still brings the channel too."""
    shared: bool = False
    """Whether this connection brought the channel before, for another subscription: earlier pushes
    do not come again."""


class SubscribedChannel:
    """One subscription's place in its channel; it survives every connection."""

    kind = "channel"
    """The wire's name for this kind of subscription."""

    __slots__ = (
        "_asked",
        "_held",
        "_held_bytes",
        "_table",
        "duplicates",
        "every_ms",
        "fill",
        "filter",
        "key",
        "last",
        "name",
        "position",
        "presence_data",
        "since",
        "start",
        "state",
    )

    def __init__(  # noqa: PLR0913 - what a subscription may ask for
        self,
        name: str,
        *,
        since: Position | None,
        last: int | None,
        fill: bool,
        filter: Mapping[str, Any] | None = None,  # noqa: A002 - as the wire calls it
        presence_data: object = None,
        every_ms: int | None = None,
        state: bool = False,
        key: str = "",
    ) -> None:
        self.name = name
        self.key = key or name
        """The key by which connections know that they bring the channel."""
        self.since = since
        self.last = last
        self.fill = fill
        self.filter = filter
        self.every_ms = every_ms
        self.presence_data = presence_data
        """The member's own data; None for none."""
        self.position: Position | None = since
        """The position behind the last item handed to the application, which the next resume names.
        """
        self.start: Position | None = since
        """The position at which the first subscription began."""
        self.state = state
        """Whether rows come first, and again where history cannot make a resume whole."""
        self._table: Position | None = None
        """The position of the rows that come now; None where the next ones begin anew."""
        self.duplicates = 0
        self._asked = ""
        """The epoch in which the newest connection was asked to resume."""
        self._held: deque[tuple[Frame, bytes, PushSource]] = deque()
        self._held_bytes = 0

    def request(self) -> dict[str, object]:
        """Return the fields of a subscribe command that asks for all that is still missing."""
        self._asked = self._epoch
        fields: dict[str, object] = {"channel": self.name, "fill": self.fill or None}
        if self.filter is not None:
            fields["filter"] = self.filter
        if self.every_ms is not None:
            fields["every_ms"] = self.every_ms
        if self.presence_data is not None:
            fields["presence"] = {"data": self.presence_data}
        if self.state:
            fields["state"] = True
            self._table = None
        if self.position is not None:
            fields["since"] = str(self.position)
        else:
            fields["last"] = self.last
        return fields

    def subscribed(self, start: Position, source: PushSource) -> tuple[Item, ...]:
        """Note that the connection starts here. A known position stays: a start in another epoch is
        followed by a `reset`, and a move now would hide that if the connection ended first."""
        source.epochs[self.key] = start.epoch
        if self.position is None:
            if self.state:
                # Until the last of its rows has come there is nothing to resume from.
                return self.release()
            self.position = self.start = start
        ahead = start.epoch == self._epoch and start.offset > self.position.offset
        if self.state:
            ahead = False  # what lies between is in the rows that follow
        if source.newer and ahead:
            self._hold(*self._lacking_before(start), source, front=True)
        elif source.shared and ahead:
            return (*self._take(*self._lacking_before(start), source), *self.release())
        return self.release()

    def follows(self, start: Position) -> bool:
        """Return whether a connection that begins there misses nothing of this place, so that one
        subscription's start serves another."""
        place = self.position
        if place is None or self.state:
            return False
        return place.epoch != start.epoch or place.offset >= start.offset

    def push(self, frame: Frame, raw: bytes, source: PushSource) -> tuple[Item, ...]:
        """Return the items for the application that one push of this channel makes, in order."""
        if not source.newer or not (self._held or self._is_lacking(frame, source)):
            return (*self._take(frame, raw, source), *self.release())
        self._hold(frame, raw, source)
        return self.release(everything=self._held_bytes > _MAX_HELD_BYTES)

    def release(self, *, everything: bool = False) -> tuple[Item, ...]:
        """Return the held items that lack nothing any more; all of them where the older connection
        is over."""
        items: list[Item] = []
        while self._held:
            frame, raw, source = self._held[0]
            if not everything and self._is_lacking(frame, source):
                break
            self._held.popleft()
            self._held_bytes -= len(raw)
            items += self._take(frame, raw, source)
        return tuple(items)

    def keys(self) -> Iterator[str]:
        """The keys by which a connection knows the places; a channel has one place."""
        yield self.key

    def all_places(self) -> "Iterator[SubscribedChannel]":
        yield self

    @property
    def _epoch(self) -> str:
        return self.position.epoch if self.position is not None else ""

    def _hold(self, frame: Frame, raw: bytes, source: PushSource, *, front: bool = False) -> None:
        held = (frame, raw, source)
        self._held.appendleft(held) if front else self._held.append(held)
        self._held_bytes += len(raw)

    def _is_lacking(self, frame: Frame, source: PushSource) -> bool:
        """Return whether an older connection may still bring the missing part."""
        if frame.op != "gap" or frame.reason not in _LACKING or frame.to is None:
            return False
        place = self.position
        epoch = source.epochs.get(self.key)
        return place is not None and epoch == place.epoch and frame.to > place.offset

    def _lacking_before(self, start: Position) -> tuple[Frame, bytes]:
        """Return the gap of a newer connection that starts behind this client's position."""
        first = 1 if self.position is None else self.position.offset + 1
        fields = {"op": "gap", "channel": self.name, "epoch": start.epoch, "reason": "expired"}
        raw = encode({**fields, "from": first, "to": start.offset})
        return decode(raw), raw

    def _take(self, frame: Frame, raw: bytes, source: PushSource) -> tuple[Item, ...]:
        epoch = source.epochs.get(self.key)
        if epoch is None:
            # Still under way from a subscription that was given up on this connection.
            return ()
        if frame.op == "state":
            return self._state(frame, raw, source)
        if frame.op == "gap" and frame.reason == "reset":
            return self._reset(position(frame.position), raw, source)
        if frame.op == "message" and frame.offset is not None:
            return self._message(frame, raw, epoch, source)
        if frame.op == "gap" and frame.to is not None:
            return self._range(frame, frame.to, raw)
        if not source.first:
            return ()
        if frame.op == "message":
            return (self._message_of(frame, raw, epoch),)
        if frame.op == "gap":
            return (self._gap_of(frame, 0, 0, raw, epoch),)
        member = frame.member.public() if frame.member else None
        return (Presence(self.name, frame.op, member, raw),)

    def _state(self, frame: Frame, raw: bytes, source: PushSource) -> tuple[Item, ...]:
        """Return the rows; with the last of them the next resume goes on from their position."""
        place = position(frame.position)
        if self.key != self.name:
            return self._passed_over(place, source, more=frame.more)
        begins = place != self._table
        self._table = place if frame.more else None
        source.epochs[self.key] = place.epoch
        if not frame.more:
            self.position = place
        found = rows(frame, place.epoch)
        return (State(self.name, place, found, frame.more, begins, frame.dropped, raw),)

    def _passed_over(self, place: Position, source: PushSource, *, more: bool) -> tuple[Item, ...]:
        """Return a gap for rows that stand in place of messages: a subscription by name asked for
        them, and a pattern cannot."""
        if more or self.position is None:
            return ()
        if place.epoch != self._epoch:
            source.epochs[self.key] = place.epoch
            self.position = place
            return self._unannounced_reset(place)
        if place.offset <= self.position.offset:
            return ()
        return self._take(*self._lacking_before(place), source)

    def _message(
        self, frame: Frame, raw: bytes, epoch: str, source: PushSource
    ) -> tuple[Item, ...]:
        offset = frame.offset or 0
        unannounced: tuple[Item, ...] = ()
        if epoch != self._epoch:
            if source.newer or not source.first:
                return ()  # of an epoch that the other connection has left, or will tell of
            unannounced = self._unannounced_reset(Position(epoch, offset - 1))
        elif self.position is not None and offset <= self.position.offset:
            self.duplicates += 1
            return ()
        self.position = Position(epoch, offset)
        return (*unannounced, self._message_of(frame, raw, epoch))

    def _message_of(self, frame: Frame, raw: bytes, epoch: str) -> Message:
        return Message(
            channel=self.name,
            epoch=epoch,
            offset=frame.offset,
            raw_data=bytes(frame.data),
            key=frame.key,
            time_ms=frame.time,
            sender=frame.origin if isinstance(frame.origin, str) else None,
            tags=frame.tags,
            remove=frame.remove,
            end=frame.end,
            frame=raw,
        )

    def _unannounced_reset(self, place: Position) -> tuple[Item, ...]:
        """Return the reset that the hub did not send before a message of a new epoch."""
        fields = {"op": "gap", "channel": self.name, "epoch": place.epoch}
        frame = encode({**fields, "reason": "reset", "position": str(place)})
        return (Gap(self.name, place.epoch, 0, place.offset, "reset", frame=frame),)

    def _reset(self, start: Position, raw: bytes, source: PushSource) -> tuple[Item, ...]:
        source.epochs[self.key] = start.epoch
        if start.epoch == self._epoch and self._asked != start.epoch:
            return ()  # the other connection said it
        self.position = start
        return (Gap(self.name, start.epoch, 0, start.offset, "reset", frame=raw),)

    def _range(self, frame: Frame, last: int, raw: bytes) -> tuple[Item, ...]:
        first = frame.origin if isinstance(frame.origin, int) else last
        if self.position is None or self.position.epoch != frame.epoch:
            return ()
        if last <= self.position.offset:
            self.duplicates += 1
            return ()
        first = max(first, self.position.offset + 1)
        self.position = Position(frame.epoch, last)
        return (self._gap_of(frame, first, last, raw, frame.epoch),)

    def _gap_of(self, frame: Frame, first: int, last: int, raw: bytes, epoch: str) -> Gap:
        return Gap(
            self.name, frame.epoch or epoch, first, last, frame.reason, frame.unsequenced, raw
        )
