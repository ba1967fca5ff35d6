"""Who was refused, and why: one log line each, and of a flood some of them.

Whoever may not come in cannot ask anybody but the operator, who has to find the reason in the
log; and whoever tries keys shows there. Counters (`hub_handshake_failures_total`,
`hub_http_errors_total`) say how many, these lines say who.

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
from collections.abc import Callable

from structlog.typing import FilteringBoundLogger

from hub.errors import ForbiddenError, MisdirectedRequestError, UnauthorizedError
from hub.observe.log_levels import HTTP

# All three are guesses, not measured.
WINDOW_SECONDS = 10.0
LINES_PER_ADDRESS = 10
LINES = 50
ORIGIN_WINDOWS = 6  # a minute
# An IPv6 address with its zone is 50; whatever is longer is no address.
_ADDRESS_CHARACTERS = 64
# Enough to recognise a host; its greatest length is 253 (RFC 1035 section 2.3.4).
_NAME_CHARACTERS = 100
_REASON_CHARACTERS = 500
_LOGGED = frozenset({UnauthorizedError.code, ForbiddenError.code, MisdirectedRequestError.code})


class Refusals:
    """One per node, called by one event loop.

    Args:
        in_seconds: calls back after a number of seconds.
    """

    def __init__(
        self,
        *,
        log: FilteringBoundLogger,
        in_seconds: Callable[[float, Callable[[], None]], object],
    ) -> None:
        self._log = log.bind(subsystem=HTTP)
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
    ) -> None:
        """Say that somebody was refused; nothing for codes that do not ask who somebody is.

        Args:
            code: of the error, such as `unauthorized`.
            address: the peer's, as far as it is known.
            reason: the error's message.
            origin: the request's `Origin` header.
            host: its `Host` header.
        """
        if code not in _LOGGED:
            return
        if not self._is_open:
            self._is_open = True
            self._in_seconds(WINDOW_SECONDS, self._end_window)
        who = code, address[:_ADDRESS_CHARACTERS]
        page = None if origin is None else (origin[:_NAME_CHARACTERS], reason)
        is_full = self._lines[who] >= LINES_PER_ADDRESS or self._lines.total() >= LINES
        if is_full or page in self._origins:
            self._left_out[code] += 1
            return
        if page is not None:
            self._origins[page] = ORIGIN_WINDOWS
        self._lines[who] += 1
        named = {"origin": origin, "host": host}
        self._log.info(
            "refused",
            code=code,
            address=who[1],
            reason=reason[:_REASON_CHARACTERS],
            **{
                name: value[:_NAME_CHARACTERS] for name, value in named.items() if value is not None
            },
        )

    def flush(self) -> None:
        """The node stops: say now what was left out, because no window's end comes."""
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
