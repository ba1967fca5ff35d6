"""The state of a connection, and its deadline, as the table of states has them.

The functions below decide on the state by the connection's requests and by the parts of them that
were read. The connection acts on it.
"""

from collections.abc import Callable

from hub.core.ports import Monotonic
from hub.core.time.deadlines import Deadline, Deadlines
from hub.transports.connection.application import ApplicationCall
from hub.transports.connection.arrivals import Arrivals
from hub.transports.connection.reader import RequestReader
from hub.transports.connection.requests import Requests
from hub.transports.connection.states import (
    DISCARD_SECONDS,
    ROWS,
    ConnectionLimits,
    HttpState,
    Incoming,
    Late,
)
from hub.transports.turns import Lane

# A look-up of a member in its enumeration takes 0.06 us, and each request needs these.
BETWEEN = HttpState.BETWEEN
STREAMING = HttpState.STREAMING
PARSE = Incoming.PARSE
LOOK = Incoming.LOOK
# The mark of a connection that has sent nothing: no request begun, no message.
_ARRIVED: tuple[object, ...] = (HttpState.AWAITING_HEAD, 0, 0)


class StateTimer:
    """Calls back when a state has taken too long.

    Requests that follow each other move the deadline many thousand times a second, nearly always
    away. The entry that waits therefore stays where it is, and checks its time when it fires; only
    a deadline that is nearer than the entry needs a new one.
    """

    __slots__ = ("_clock", "_deadlines", "_due", "_entry", "_entry_due", "_late")

    def __init__(self, deadlines: Deadlines, clock: Monotonic, late: Callable[[], None]) -> None:
        self._deadlines = deadlines
        self._clock = clock
        self._late = late
        self._due = 0.0
        self._entry: Deadline | None = None
        self._entry_due = 0.0

    def begin(self, seconds: float | None) -> None:
        """Call back in `seconds`; None never does."""
        if seconds is None:
            self.cancel()
            return
        self._due = self._clock() + seconds
        if self._entry is None or self._entry_due > self._due:
            self._arm()

    def close(self) -> None:
        """Cancel, and let go of the callback."""
        self.cancel()
        self._late = _nobody

    def cancel(self) -> None:
        if self._entry is not None:
            self._entry.cancel()
            self._entry = None

    def _arm(self) -> None:
        self.cancel()
        self._entry_due = self._due
        self._entry = self._deadlines.at(self._due, self._fire)

    def _fire(self) -> None:
        self._entry = None
        if self._clock() < self._due:
            self._arm()
        else:
            self._late()


class Phase:
    """The state of one connection.

    Args:
        arrivals: has the deadline of a connection that has sent nothing yet.
        late: called when a state has taken too long.
    """

    __slots__ = (
        "_arrivals",
        "_clock",
        "_deadlines",
        "_late",
        "_mark",
        "_timer",
        "incoming",
        "state",
    )

    def __init__(
        self,
        arrivals: Arrivals,
        deadlines: Deadlines,
        clock: Monotonic,
        late: Callable[[], None],
    ) -> None:
        self._arrivals = arrivals
        self._deadlines = deadlines
        self._clock = clock
        self._late = late
        self.state = HttpState.AWAITING_HEAD
        self.incoming = Incoming.LOOK
        """The treatment of bytes that come."""
        self._mark: tuple[object, ...] = ()
        """The wait that the deadline is for: another mark begins another deadline."""
        self._timer: StateTimer | None = None
        """None until the first request has begun: a connection for a stream needs none."""

    @property
    def when_late(self) -> Late:
        """The measure that the table has for a state that has taken too long."""
        return ROWS[self.state].late

    @property
    def reads_request(self) -> bool:
        """Whether a request is on its way from the peer, or the first one has not begun."""
        return self.state in {HttpState.AWAITING_HEAD, HttpState.READING_BODY}

    @property
    def awaits_head(self) -> bool:
        """Whether the first request has not begun, or the head of a request is not whole."""
        return self.state is HttpState.AWAITING_HEAD

    @property
    def awaits_request(self) -> bool:
        """Whether the connection waits for a request, or for the rest of its head."""
        return self.state in {HttpState.AWAITING_HEAD, HttpState.BETWEEN}

    @property
    def runs_application(self) -> bool:
        """Whether the application beside the hub answers."""
        return self.state is HttpState.APPLICATION

    def arrive(self) -> None:
        """Begin the deadline of a connection that has sent nothing yet."""
        self._mark = _ARRIVED
        self._arrivals.add(self._late)

    def enter(self, state: HttpState, mark: tuple[object, ...], seconds: float | None) -> bool:
        """Be in `state` for `seconds` at most; None where the connection has no deadline.

        The time begins anew unless `mark` is that of the wait before. Returns whether it did.
        """
        mark = (state, *mark)
        if mark == self._mark:
            return False
        self.state, self._mark = state, mark
        self.incoming = ROWS[state].incoming
        self._begin(seconds)
        return True

    def follow(
        self, state: HttpState, requests: Requests, reader: RequestReader, limits: ConnectionLimits
    ) -> bool:
        """Be in `state`, with the deadline that requests and reader give it; as `enter`."""
        mark = mark_of(state, requests, reader)
        return self.enter(state, mark, seconds_in(state, requests, limits))

    def between(self, begun: int, messages: int, seconds: float) -> None:
        """Be between two requests; does what `enter` does with these as its mark, faster."""
        self.state, self.incoming = BETWEEN, PARSE
        self._mark = (BETWEEN, begun, messages)
        if self._timer is None:
            self._begin(seconds)
        else:
            self._timer.begin(seconds)

    def begin_again(self, seconds: float) -> None:
        """Give the same wait another time of `seconds`."""
        self._begin(seconds)

    def _begin(self, seconds: float | None) -> None:
        if (timer := self._timer) is None:
            self._arrivals.discard(self._late)
            timer = self._timer = StateTimer(self._deadlines, self._clock, self._late)
        timer.begin(seconds)

    def in_turn(self, lane: Lane, end: Callable[[], None], address: str) -> None:
        """Call `end` in a turn of `address`, unless the wait that holds now has ended by then."""
        wait = self._mark

        def unless_over() -> None:
            if self._mark is wait:
                end()

        if self.when_late is Late.GIVE_UP:
            # The request may wait for a turn itself.
            end()
        else:
            lane.do(unless_over, address)

    def leave(self) -> None:
        """Leave the connection to a stream, which has deadlines of its own."""
        self.state = HttpState.STREAMING

    def close(self) -> None:
        """Cancel the deadline, and let go of the callback."""
        if self._timer is None:
            self._arrivals.discard(self._late)
        else:
            self._timer.close()
        self._late = _nobody
        self._mark = ()


def _nobody() -> None:
    """The callback of a connection that is gone."""


def awaited_state(requests: Requests, reader: RequestReader, *, blocked: bool) -> HttpState:
    """Return the state of a connection whose last answer is not decided.

    Args:
        blocked: whether the peer has to take the written bytes first.
    """
    if blocked:
        return HttpState.WRITING
    if isinstance(requests.answering, ApplicationCall):
        return HttpState.APPLICATION
    if requests.answering is not None:
        return HttpState.ANSWERING
    if requests.reading is not None:
        return HttpState.READING_BODY
    begins = reader.in_head or not requests.begun
    return HttpState.AWAITING_HEAD if begins else HttpState.BETWEEN


def is_last(state: HttpState, requests: Requests) -> bool:
    """Return whether nothing is left to wait for: the peer has ended, or the listener stops."""
    if requests.peer_done:
        return state in {HttpState.AWAITING_HEAD, HttpState.BETWEEN, HttpState.READING_BODY}
    return requests.stopping and state is HttpState.BETWEEN


def mark_of(state: HttpState, requests: Requests, reader: RequestReader) -> tuple[object, ...]:
    """Return the mark that tells a wait from another in the same state: each has a deadline."""
    mark = (requests.begun, reader.messages)
    if state is HttpState.APPLICATION and isinstance(requests.reading, ApplicationCall):
        # The peer's silence counts, not the application's: each part begins the time anew.
        return (*mark, requests.reading.size, requests.reading.is_full)
    return mark


def seconds_in(state: HttpState, requests: Requests, limits: ConnectionLimits) -> float | None:
    """Return the time of a state; None where the connection has no deadline."""
    match state:
        case HttpState.AWAITING_HEAD:
            return limits.handshake_timeout_seconds
        case HttpState.READING_BODY:
            return limits.body_timeout_seconds
        case HttpState.ANSWERING:
            route = None if requests.answering is None else requests.answering.route
            return None if route is None else route.answer_seconds
        case HttpState.WRITING | HttpState.CLOSING:
            return limits.write_timeout_seconds
        case HttpState.BETWEEN:
            return limits.keep_alive_seconds
        case HttpState.DISCARDING:
            return DISCARD_SECONDS
        case _:
            call = requests.reading
            waits = isinstance(call, ApplicationCall) and not call.is_full
            return limits.body_timeout_seconds if waits else None
