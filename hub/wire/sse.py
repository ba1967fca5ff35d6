"""Native pushes as server-sent events (WHATWG HTML section 9.2), LF line ends only.

`data:` is the native object, and `event:` names every push except a message. With one channel each
event that moves the position carries it as `id:`. With several channels the shared bytes carry no
id, and an event `positions` follows at the end of the tick, whose `id:` names all channels.

That event has data, although its id has the whole content. By the standard a block with only `id:`
is enough: it dispatches nothing and sets the last event id. But npm's eventsource 3 and 4, OkHttp
and others forget such an id, and a program that reads event by event never sees it. The event's
type keeps `onmessage` from being called.
"""

from collections.abc import Sequence

from hub.core.publication import Position, Publication
from hub.core.pushes import Gap, Goodbye, Heartbeat, Push, State, Subscribed
from hub.wire import native_pushes
from hub.wire.query import MAX_CHANNELS

_HEARTBEAT = b": heartbeat\n\n"
_POSITIONS = b'data: {"op":"positions"}\n\n'
"""Does not repeat the positions: an id of 32 channels has kilobytes, and comes with each tick."""
_OP_AT = len(b'{"op":"')


def retry(milliseconds: int) -> bytes:
    """Return the field that sets an EventSource's reconnection time, in any block."""
    return b"retry: %d\n" % milliseconds


def _block(push: Push) -> bytes:
    native = native_pushes.encode(push)
    data = b"data: %b\n\n" % native
    if isinstance(push, Publication):
        return data
    # Every object begins with its `op`.
    event = b"event: %b\n" % native[_OP_AT : native.index(b'"', _OP_AT)]
    if isinstance(push, Goodbye) and push.reconnect_within_ms is not None:
        # A plain EventSource ignores a goodbye, and waits for the time of `retry`.
        event += retry(push.reconnect_within_ms)
    return event + data


class SseDialect:
    """The dialect of sessions with one channel; `SeveralSseDialect` follows with the second."""

    name = "sse"
    max_channels = MAX_CHANNELS
    marks_positions = False

    def __init__(self, several: "SeveralSseDialect") -> None:
        self.several = several

    def encode(self, push: Push, epoch: str) -> bytes:
        match push:
            case Heartbeat():
                return _HEARTBEAT
            case Publication(offset=offset) if offset:
                return b"id: %b:%d\n%b" % (epoch.encode(), offset, _block(push))
            case Gap(unsequenced=0):
                return b"id: %b:%d\n%b" % (epoch.encode(), push.last, _block(push))
            # Only the last page: a peer that is cut between two pages gets all rows again.
            case State(more=False):
                return b"id: %b\n%b" % (str(push.position).encode(), _block(push))
            # Where something is missing, the next push announces that and carries the id. A peer
            # that is cut in between must resume from before it.
            case Subscribed(recovered=True, state=False):
                return b"id: %b\n%b" % (str(push.position).encode(), _block(push))
            case _:
                return _block(push)

    def encode_positions(self, positions: Sequence[tuple[str, Position]]) -> bytes:
        """Return the event for the position of one channel, which no other event carries."""
        [(_, position)] = positions
        return b"id: %b\nevent: positions\n%b" % (str(position).encode(), _POSITIONS)


class SeveralSseDialect:
    """The dialect of sessions with several channels."""

    name = "sse+several"
    max_channels = MAX_CHANNELS
    marks_positions = True
    several = None

    def encode(self, push: Push, epoch: str) -> bytes:  # noqa: ARG002 - the port's shape
        return _HEARTBEAT if isinstance(push, Heartbeat) else _block(push)

    def encode_positions(self, positions: Sequence[tuple[str, Position]]) -> bytes:
        pairs = ",".join(f"{channel}={position}" for channel, position in positions)
        return b"id: %b\nevent: positions\n%b" % (pairs.encode(), _POSITIONS)
