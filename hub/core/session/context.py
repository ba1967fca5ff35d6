"""What all sessions of a node share, and whom they tell of what happens to them."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from hub.core.commands import Command
from hub.core.counters import Counters
from hub.core.forensics.journal import Journal
from hub.core.limits import Limiter
from hub.core.options import SessionLimits
from hub.core.ports import Monotonic
from hub.core.pushes import Reply
from hub.core.session.outbox import OutboxBudget

if TYPE_CHECKING:
    from hub.core.session.session import Session

Respond = Callable[[Reply], None]
"""Where a reply goes that does not go into the session's stream."""
Job = tuple[Command, Respond | None]


@dataclass(frozen=True, slots=True)
class SessionContext:
    """What all sessions of a node share."""

    limits: SessionLimits
    limiter: Limiter
    clock: Monotonic
    counters: Counters
    outbox_budget: OutboxBudget
    journal: Journal
    close_code: Callable[[str, bool], int]
    """The wire's close code of an error: its `code`, and whether it is `retryable`."""
    on_replay: Callable[["Session"], None]
    """The session takes writes and has subscriptions that read history."""
    on_mark: Callable[["Session"], None]
    """The session's positions moved outside a broadcast."""
    on_closed: Callable[["Session", int, str], None]
    """The session has ended with this close code and reason; called once."""
    on_gone: Callable[["Session"], None]
    """The connection of an ended session is gone as well; called once, after `on_closed`."""
