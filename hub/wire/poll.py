"""Native pushes as items of a long poll's answer.

An answer has the pushes of channels. The welcome and the positions stand beside them, and a
heartbeat has no meaning in an answer. Only peers that keep to one session get the starts of
subscriptions, because otherwise each poll would be answered at once with a start.
"""

from collections.abc import Mapping, Sequence

import orjson

from hub.core.publication import Position
from hub.core.pushes import Heartbeat, PatternSubscribed, Push, Subscribed, Welcome
from hub.wire import native_pushes
from hub.wire.query import MAX_CHANNELS

_SEPARATOR = b","


class PollDialect:
    """The dialect of polls. A frame is an object and a separator, so that frames can be joined."""

    name: str = "poll"
    _unsaid: tuple[type, ...] = (Heartbeat, Welcome, Subscribed, PatternSubscribed)
    max_channels = MAX_CHANNELS
    # Positions stand beside the pushes of an answer, which asks the session for them.
    marks_positions = True
    several = None

    def encode(self, push: Push, epoch: str) -> bytes:  # noqa: ARG002 - the port's shape
        if isinstance(push, self._unsaid):
            return b""
        return native_pushes.encode(push) + _SEPARATOR

    def encode_positions(self, positions: Sequence[tuple[str, Position]]) -> bytes:  # noqa: ARG002
        return b""


class SessionPollDialect(PollDialect):
    """The dialect of peers that keep to one session. It has the starts of subscriptions."""

    name = "poll+session"
    _unsaid = (Heartbeat, Welcome)


def answer(
    frames: bytes,
    positions: Mapping[str, str],
    welcome: Welcome,
    of_channels: Mapping[str, bytes] | None = None,
) -> bytes:
    """Return the JSON body of one poll, made of the frames of its session.

    `of_channels` is the application's data for subscriptions without a `subscribed` push.
    """
    body: dict[str, object] = {
        "pushes": orjson.Fragment(b"[%b]" % frames.removesuffix(_SEPARATOR)),
        "positions": dict(positions),
        "welcome": orjson.Fragment(native_pushes.encode(welcome)),
    }
    if of_channels:
        body["data"] = {name: orjson.Fragment(data) for name, data in of_channels.items()}
    return orjson.dumps(body)
