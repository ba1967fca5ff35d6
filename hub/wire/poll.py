"""Native pushes as items of a long poll's answer.

An answer holds what belongs to channels. Welcome and positions stand beside the pushes, and
a heartbeat has no meaning in an answer. Where a subscription starts is told only to who keeps
to one session: to anybody else it would be the reason to answer each poll at once.
"""

from collections.abc import Mapping, Sequence

import orjson

from hub.core.publication import Position
from hub.core.pushes import Heartbeat, PatternSubscribed, Push, Subscribed, Welcome
from hub.wire import native_pushes
from hub.wire.query import MAX_CHANNELS

_SEPARATOR = b","


class PollDialect:
    """Each frame is an object and a separator, so that frames can be joined anywhere."""

    name: str = "poll"
    _unsaid: tuple[type, ...] = (Heartbeat, Welcome, Subscribed, PatternSubscribed)
    max_channels = MAX_CHANNELS
    # They stand beside the pushes of an answer, which asks the session for them.
    marks_positions = True
    several = None

    def encode(self, push: Push, epoch: str) -> bytes:  # noqa: ARG002 - the port's shape
        if isinstance(push, self._unsaid):
            return b""
        return native_pushes.encode(push) + _SEPARATOR

    def encode_positions(self, positions: Sequence[tuple[str, Position]]) -> bytes:  # noqa: ARG002
        return b""


class SessionPollDialect(PollDialect):
    """For who asked for a session: answers tell where each subscription starts."""

    name = "poll+session"
    _unsaid = (Heartbeat, Welcome)


def answer(
    frames: bytes,
    positions: Mapping[str, str],
    welcome: Welcome,
    of_channels: Mapping[str, bytes] | None = None,
) -> bytes:
    """The JSON body of one poll, from the frames its session was given.

    `of_channels` is what the application gives for subscriptions of whose start nothing is said.
    """
    said: dict[str, object] = {
        "pushes": orjson.Fragment(b"[%b]" % frames.removesuffix(_SEPARATOR)),
        "positions": dict(positions),
        "welcome": orjson.Fragment(native_pushes.encode(welcome)),
    }
    if of_channels:
        said["data"] = {name: orjson.Fragment(data) for name, data in of_channels.items()}
    return orjson.dumps(said)
