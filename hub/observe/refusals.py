"""Refusals and their reasons: one log line each, and of a flood some of them; all in a table.

A peer that may not come in cannot ask anybody but the operator, who has to find the reason in the
log; and a peer that tries keys shows there. Counters (`hub_handshake_failures_total`,
`hub_http_errors_total`) have the number, these lines the addresses.

A line costs disk and attention, and a stranger can cause thousands a second. So within a window
of 10 s an address gets 10 lines per code and all together get 50; the rest is counted, and one
line at the window's end says how many of which code were left out. An attacker with one address
hides nobody else that way. Example: 1,000 wrong keys from one address in 4 s are 10 lines, and 10 s
after the first of them `refusals_not_logged` with `unauthorized: 990`.

A page of an origin that is not allowed tries again and again, from as many addresses as it has
readers: the same reason for the same origin is one line a minute.

No credential ever reaches this module: `reason` is the message of a `hub.errors.HubError`, which
holds none. What a stranger wrote (origin, host) is cut.
"""

from collections import Counter
from collections.abc import Callable, Mapping

from structlog.typing import FilteringBoundLogger

from hub.core.limits import LimitRefusal
from hub.core.refused import MAX_ADDRESS_CHARACTERS, MAX_HOST_CHARACTERS, RefusedTable
from hub.errors import (
    ForbiddenError,
    MisdirectedRequestError,
    UnauthorizedError,
)
from hub.observe.log_levels import HTTP

# All three are guesses, not measured.
WINDOW_SECONDS = 10.0
LINES_PER_ADDRESS = 10
LINES = 50
ORIGIN_WINDOWS = 6  # a minute
_REASON_CHARACTERS = 500
_LOGGED = frozenset({UnauthorizedError.code, ForbiddenError.code, MisdirectedRequestError.code})


class Refusals:
    """Logs and remembers the refusals of a node; one event loop calls it.

    Args:
        table: remembers them for operators.
        in_seconds: calls back after a number of seconds.
    """

    def __init__(
        self,
        *,
        log: FilteringBoundLogger,
        table: RefusedTable,
        in_seconds: Callable[[float, Callable[[], None]], object],
    ) -> None:
        self._log = log.bind(subsystem=HTTP)
        self.table = table
        self._in_seconds = in_seconds
        self._is_open = False
        """Whether a window is under way: its first refusal opened it."""
        self._lines: Counter[tuple[str, str]] = Counter()
        """Logged in this window by code and address: at most `LINES`."""
        self._left_out: Counter[str] = Counter()
        """By code."""
        self._origins: dict[tuple[str, str], int] = {}
        """Origins and reasons that were logged, and for how many windows they are silent: at most
        `LINES` of each window."""

    def refused(
        self,
        code: str,
        *,
        address: str,
        reason: str,
        origin: str | None = None,
        host: str | None = None,
        refusal: str = "",
    ) -> None:
        """Log a refusal, and remember it in the table; codes that concern no credential are left
        out.

        Args:
            code: of the error, such as `unauthorized`.
            address: the peer's, as far as it is known.
            reason: the error's message.
            origin: the request's `Origin` header.
            host: its `Host` header.
            refusal: the exact refusal, as `HubError.refusal`.
        """
        if code not in _LOGGED and not refusal:
            return
        self.table.refused(
            refusal or code, address=address, detail=reason, origin=origin, host=host
        )
        self._say(code, address, reason, origin, {"origin": origin, "host": host})

    def held(self, held: LimitRefusal) -> None:
        """Log that a limit holds a peer back, and remember it in the table."""
        self.table.limited(held.limit, by=held.by, name=held.name, address=held.address)
        # A field `key` would be masked.
        named = {"limit": held.limit, "by": held.by, "name": held.name}
        self._say(held.code, held.address, held.why, None, named)

    def _say(
        self,
        code: str,
        address: str,
        reason: str,
        origin: str | None,
        named: Mapping[str, str | None],
    ) -> None:
        """Log a line, unless there were too many."""
        if not self._is_open:
            self._is_open = True
            self._in_seconds(WINDOW_SECONDS, self._end_window)
        who = code, address[:MAX_ADDRESS_CHARACTERS]
        page = None if origin is None else (origin[:MAX_HOST_CHARACTERS], reason)
        is_full = self._lines[who] >= LINES_PER_ADDRESS or self._lines.total() >= LINES
        if is_full or page in self._origins:
            self._left_out[code] += 1
            return
        if page is not None:
            self._origins[page] = ORIGIN_WINDOWS
        self._lines[who] += 1
        self._log.info(
            "refused",
            code=code,
            address=who[1],
            reason=reason[:_REASON_CHARACTERS],
            **{
                name: value[:MAX_HOST_CHARACTERS]
                for name, value in named.items()
                if value is not None
            },
        )

    def flush(self) -> None:
        """Log the lines that were left out: the node stops before the window's end."""
        if self._is_open:
            self._end_window(stops=True)

    def _end_window(self, *, stops: bool = False) -> None:
        left_out, self._left_out = self._left_out, Counter()
        self._lines.clear()
        self._origins = {page: left - 1 for page, left in self._origins.items() if left > 1}
        self._is_open = bool(self._origins) and not stops
        if self._is_open:
            self._in_seconds(WINDOW_SECONDS, self._end_window)
        if left_out:
            self._log.info("refusals_not_logged", **left_out, within_seconds=WINDOW_SECONDS)
