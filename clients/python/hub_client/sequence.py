"""Where one channel is: what of what arrives is new, and what the application must be told.

Rules of the wire contract, "Channels and positions": messages are ordered and told apart by
(epoch, offset); a gap moves the position; a reset forgets it. No I/O. The hub repeats after
a resume at most what it cannot know we have, so what is not newer is dropped here.
"""

from hub_client.frames import Frame, encode, position
from hub_client.messages import Gap, Item, Message, Position, Presence


class Sequence:
    """One subscription's place in its channel; survives every connection."""

    __slots__ = ("_stream_epoch", "channel", "duplicates", "fill", "last", "position", "since")

    def __init__(
        self, channel: str, *, since: Position | None, last: int | None, fill: bool
    ) -> None:
        self.channel = channel
        self.since = since
        self.last = last
        self.fill = fill
        self.position: Position | None = since
        """After the last thing handed to the application; what the next resume asks for."""
        self.duplicates = 0
        self._stream_epoch = ""

    @property
    def awaiting(self) -> bool:
        """Whether this connection has not said yet where the subscription starts."""
        return not self._stream_epoch

    def disconnected(self) -> None:
        """Nothing of a former connection counts until the next one's `subscribed`."""
        self._stream_epoch = ""

    def options(self) -> dict[str, object]:
        """The fields of a subscribe command that asks for what is still missing."""
        fields: dict[str, object] = {"channel": self.channel, "fill": self.fill or None}
        if self.position is not None:
            fields["since"] = str(self.position)
        else:
            fields["last"] = self.last
        return fields

    def subscribed(self, start: Position) -> None:
        """The hub starts here. A start in another epoch is followed by a reset gap: until
        that came, a resume must ask from the old position, or the reset would be lost."""
        self._stream_epoch = start.epoch
        if self.position is None:
            self.position = start

    def push(self, frame: Frame, raw: bytes) -> tuple[Item, ...]:
        """What the application gets for one push of this channel, in order."""
        if frame.op == "gap":
            return self._gap(frame, raw)
        if self.awaiting:
            # Still under way from a subscription that was given up on this connection.
            return ()
        if frame.op == "message":
            return self._message(frame, raw)
        member = frame.member.public() if frame.member else None
        return (Presence(self.channel, frame.op, member, raw),)

    def _message(self, frame: Frame, raw: bytes) -> tuple[Item, ...]:
        message = Message(
            channel=self.channel,
            epoch=self._stream_epoch,
            offset=frame.offset,
            raw_data=bytes(frame.data),
            key=frame.key,
            time_ms=frame.time,
            sender=frame.origin if isinstance(frame.origin, str) else None,
            frame=raw,
        )
        if frame.offset is None:
            return (message,)
        unannounced = self._unannounced_reset(frame.offset - 1)
        if self.position is not None and frame.offset <= self.position.offset:
            self.duplicates += 1
            return unannounced
        self.position = Position(self._stream_epoch, frame.offset)
        return (*unannounced, message)

    def _unannounced_reset(self, offset: int) -> tuple[Item, ...]:
        """A message of a new epoch without its reset: say ourselves what the hub did not."""
        if self.position is None or self.position.epoch == self._stream_epoch:
            return ()
        self.position = Position(self._stream_epoch, offset)
        fields = {"op": "gap", "channel": self.channel, "epoch": self._stream_epoch}
        frame = encode({**fields, "reason": "reset", "position": str(self.position)})
        return (Gap(self.channel, self._stream_epoch, 0, offset, "reset", frame=frame),)

    def _gap(self, frame: Frame, raw: bytes) -> tuple[Item, ...]:
        if frame.reason == "reset":
            return self._reset(position(frame.position), raw)
        if self.awaiting:
            return ()
        if frame.to is None:
            return (self._gap_of(frame, 0, 0, raw),)
        return self._range(frame, frame.to, raw)

    def _reset(self, start: Position, raw: bytes) -> tuple[Item, ...]:
        self.position = start
        self._stream_epoch = start.epoch
        return (Gap(self.channel, start.epoch, 0, start.offset, "reset", frame=raw),)

    def _range(self, frame: Frame, last: int, raw: bytes) -> tuple[Item, ...]:
        first = frame.origin if isinstance(frame.origin, int) else last
        if self.position is not None and self.position.epoch == frame.epoch:
            if last <= self.position.offset:
                self.duplicates += 1
                return ()
            first = max(first, self.position.offset + 1)
        self.position = Position(frame.epoch, last)
        self._stream_epoch = frame.epoch
        return (self._gap_of(frame, first, last, raw),)

    def _gap_of(self, frame: Frame, first: int, last: int, raw: bytes) -> Gap:
        epoch = frame.epoch or self._stream_epoch
        return Gap(self.channel, epoch, first, last, frame.reason, frame.unsequenced, raw)
