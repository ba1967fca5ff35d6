"""The client's side of the protocol: frames in, decisions out. No I/O, no clock, no task.

One `Session` lives as long as the client, over many connections. It owns the sequences and
the command ids; what its events ask for is done by `hub_client.client`.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from hub_client import frames
from hub_client.errors import CommandError
from hub_client.messages import Item, Position
from hub_client.sequence import Sequence

_OF_A_CHANNEL = frozenset({"message", "gap", "join", "leave", "presence_reset"})


@dataclass(frozen=True, slots=True)
class Welcomed:
    """The connection works; `secret` lets POST /command speak for it."""

    connection: str
    secret: str
    heartbeat_seconds: float


@dataclass(frozen=True, slots=True)
class Delivered:
    """For the application, in this order."""

    channel: str
    items: tuple[Item, ...]


@dataclass(frozen=True, slots=True)
class Started:
    """The hub carries this subscription from here on."""

    channel: str
    position: Position


@dataclass(frozen=True, slots=True)
class Refused:
    """The hub does not carry this subscription."""

    channel: str
    error: CommandError


@dataclass(frozen=True, slots=True)
class Answered:
    """A command other than subscribe and unsubscribe has its reply."""

    command_id: int
    frame: frames.Frame


@dataclass(frozen=True, slots=True)
class Leaving:
    """The hub is about to close; with a window it asks us to move at a moment of our choice."""

    code: int
    reason: str
    window_ms: int | None


@dataclass(frozen=True, slots=True)
class TokenEnding:
    in_seconds: float


Event = Welcomed | Delivered | Started | Refused | Answered | Leaving | TokenEnding


class Session:
    """Which subscriptions there are, and what each frame means for them."""

    def __init__(self) -> None:
        self.sequences: dict[str, Sequence] = {}
        self._next_id = 0
        self._subscribing: dict[int, str] = {}
        self._unanswered: set[int] = set()
        self._starts_in_reply = True

    def connected(self, *, starts_in_reply: bool) -> None:
        """A new connection begins.

        Args:
            starts_in_reply: whether the reply to a subscribe stands in the stream and so
                marks where the subscription starts (WebSocket); with SSE it travels beside
                the stream, and a `subscribed` push marks the place.
        """
        self._starts_in_reply = starts_in_reply
        self._subscribing.clear()
        self._unanswered.clear()
        for sequence in self.sequences.values():
            sequence.disconnected()

    def moved(
        self, starts: Mapping[str, Position], unsent: Iterable[int], *, starts_in_reply: bool
    ) -> None:
        """Another connection goes on without a break.

        Args:
            starts: where its subscriptions began, at or before what the former one brought.
            unsent: commands that it is to send in place of the former one.
            starts_in_reply: as for `connected`.
        """
        self.connected(starts_in_reply=starts_in_reply)
        self._unanswered.update(unsent)
        for channel, start in starts.items():
            self.sequences[channel].subscribed(start)

    @property
    def unanswered(self) -> int:
        """How many commands have no reply yet, sent or not."""
        return len(self._unanswered)

    def command(self, op: str, **fields: object) -> tuple[int, bytes]:
        """A new command's id and bytes."""
        self._next_id += 1
        self._unanswered.add(self._next_id)
        return self._next_id, frames.command(op, self._next_id, **fields)

    def subscribe(self, channel: str) -> tuple[int, bytes]:
        """The command that asks for what is missing of `channel`."""
        command_id, raw = self.command("subscribe", **self.sequences[channel].options())
        self._subscribing[command_id] = channel
        return command_id, raw

    def receive(self, raw: bytes) -> Event | None:
        """What a frame asks for; None when it only shows that the hub lives.

        Raises:
            ProtocolError: the frame cannot be read. Going on would hide what it said.
        """
        if not raw:
            return None
        frame = frames.decode(raw)
        if frame.op in _OF_A_CHANNEL:
            return self._deliver(frame, raw)
        match frame.op:
            case "subscribed":
                return self._started(frame.channel, frames.position(frame.position))
            case "unsubscribed":
                return self._expelled(frame)
            case "reply":
                return self._reply(frame)
            case "welcome":
                return Welcomed(frame.connection, frame.secret, frame.heartbeat_seconds)
            case "goodbye":
                return Leaving(frame.code, frame.reason, frame.reconnect_within_ms)
            case "expiring":
                return TokenEnding(frame.in_seconds)
            case _:
                return None

    def _deliver(self, frame: frames.Frame, raw: bytes) -> Event | None:
        sequence = self.sequences.get(frame.channel)
        if sequence is None:
            return None
        items = sequence.push(frame, raw)
        return Delivered(frame.channel, items) if items else None

    def _expelled(self, frame: frames.Frame) -> Event | None:
        """An operator ended a subscription: to ask for it again by ourselves would undo that."""
        if frame.channel not in self.sequences:
            return None
        return Refused(frame.channel, CommandError("unsubscribed", frame.reason))

    def _started(self, channel: str, position: Position) -> Event | None:
        sequence = self.sequences.get(channel)
        if sequence is None:
            return None
        sequence.subscribed(position)
        return Started(channel, position)

    def _reply(self, frame: frames.Frame) -> Event | None:
        if not isinstance(frame.id, int):
            return None
        self._unanswered.discard(frame.id)
        channel = self._subscribing.pop(frame.id, None)
        if channel is None:
            return Answered(frame.id, frame)
        if frame.error is not None:
            return Refused(channel, frame.error.public())
        if self._starts_in_reply:
            return self._started(channel, frames.subscribed_position(frame.ok))
        return None
