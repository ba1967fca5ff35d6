"""One call to Redis and the ways in which it can end; errors here never leave the package.

Whether a call that failed may have been carried out decides what a publisher is told:

    what happened                                   error                a publisher is told
    no connection, or the connection was lost       RedisNotSentError    not_published
      before the call was written to the socket
    written, and the connection was lost            RedisNoAnswerError   outcome_unknown
      before the answer came
    Redis refused before it began (`_NOT_BEGUN`),   RefusedError         not_published
      as in "OOM command not allowed ..."           (nothing_done)
    Redis answered with any other error             RefusedError         outcome_unknown

For example: publications 1 to 5 are asked for in one iteration of the event loop and written at
once; 6 waits for the next write. Redis answers 1 and 2 and is killed. 1 and 2 are published, 3, 4
and 5 are `outcome_unknown` (Redis may have stored 3 and died before it answered), 6 is
`not_published`.
"""

import asyncio
import re
from dataclasses import dataclass

from redis.exceptions import AskError, RedisError, ResponseError

from hub.brokers.redis.link.urls import address

# Errors of redis-py and of the event loop for a connection that does not work (any more). uvloop
# raises RuntimeError on a write to a closed transport.
CONNECTION_ERRORS = (RedisError, OSError, EOFError, RuntimeError)

# Redis answers with these before it begins with a call, so nothing was done.
_NOT_BEGUN = frozenset(
    [
        "ASK",
        "BUSY",
        "CLUSTERDOWN",
        "CROSSSLOT",
        "LEFT",
        "LOADING",
        "MASTERDOWN",
        "MISCONF",
        "MOVED",
        "NOAUTH",
        "NOPERM",
        "NOREPLICAS",
        "NOSCRIPT",
        "OOM",
        "READONLY",
        "STRAY",
        "TRYAGAIN",
    ]
)
# With these, Redis answers a call that does not write all the same.
REFUSE_WRITING = frozenset({"MISCONF", "NOREPLICAS", "OOM"})
# After these, another try needs another connection, or the library loaded again.
_RECONNECT = frozenset({"LEFT", "LOADING", "MASTERDOWN", "NOAUTH", "NOSCRIPT", "READONLY"})
# With these, the slot of a cluster is, or goes, elsewhere.
_ELSEWHERE = frozenset({"ASK", "CLUSTERDOWN", "MOVED", "TRYAGAIN"})
# With these, the same call may be taken in a moment, or at the place that they name.
_FOLLOWED = frozenset({"ASK", "MOVED", "STRAY", "TRYAGAIN"})
_NO_FUNCTION = "Function not found"
# Before 7.0 what a script ran into stands within an ERR: here the first thing that it would have
# changed. READONLY, MISCONF and NOREPLICAS are the same from a script's begin to its end.
_IN_SCRIPT = re.compile(r"rror running script .*: -(READONLY|MISCONF|NOREPLICAS) ")


class RedisCallError(Exception):
    """A call to Redis that has no answer to give."""


class RedisNotSentError(RedisCallError):
    """Redis has not seen the call."""


class RedisNoAnswerError(RedisCallError):
    """The call was sent, and the connection ended before the answer came."""


class LostError(Exception):
    """The connection is given up; the message says why. Ends a connection, not a call."""


class RefusedError(RedisCallError):
    """Redis answered with an error."""

    def __init__(self, error: ResponseError) -> None:
        # Where redis-py knows the code it cuts it off the text.
        text = str(error)
        self.code = str(getattr(error, "status_code", None) or text.partition(" ")[0])
        if (within := _IN_SCRIPT.search(text)) is not None:
            self.code = within[1]
        super().__init__(text if text.startswith(self.code) else f"{self.code} {text}")
        self.points_to = ""
        """The place that ASK and MOVED point to, as host:port; without a host for the same one."""
        if isinstance(error, AskError):
            self.points_to = address(error.host, error.port)

    @property
    def nothing_done(self) -> bool:
        """Return whether Redis refused before it changed anything."""
        return self.code in _NOT_BEGUN or _NO_FUNCTION in str(self)

    @property
    def needs_reconnect(self) -> bool:
        return self.code in _RECONNECT or _NO_FUNCTION in str(self)

    @property
    def points_elsewhere(self) -> bool:
        return self.code in _ELSEWHERE

    @property
    def can_be_followed(self) -> bool:
        return self.code in _FOLLOWED

    @property
    def counted_by(self) -> tuple[str, str] | None:
        """Return history and run of the server that counted a channel which came from elsewhere."""
        words = str(self).split(" ")
        return (words[1], words[2]) if self.code == "STRAY" and len(words) == 3 else None

    @property
    def some_keys_are_elsewhere(self) -> bool:
        """Return whether a call with other keys may be taken where this one was refused."""
        return self.code == "TRYAGAIN"


def public_reason(error: RedisCallError) -> str:
    """Return the text of a failed call for peers, without Redis' address and its socket's error."""
    match error:
        case RedisNotSentError():
            return "Redis cannot be asked now"
        case RedisNoAnswerError():
            return "Redis gave no answer"
        case RefusedError():
            return f"Redis refused ({error.code})"
        case _:
            return "Redis failed"


Answer = asyncio.Future[object]


@dataclass(slots=True)
class RedisCall:
    """A call on its way to Redis."""

    packed: bytes
    answer: Answer
    deadline_seconds: float
    about: str = ""
    """The first key of a function's call: calls with the same one stay in their order."""
    keys: int = 0
    """The number of keys that it needs."""
    followed: bool = False
    """Made for another call, which a server refused because its slot is on its way elsewhere."""

    def fail(self, error: RedisCallError) -> None:
        """End the call with `error`, unless it has ended."""
        if not self.answer.done():
            self.answer.set_exception(error)

    def succeed(self, answer: object) -> None:
        """End the call with Redis' answer, unless it has ended."""
        if not self.answer.done():
            self.answer.set_result(answer)
