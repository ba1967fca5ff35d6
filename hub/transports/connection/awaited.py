"""What a connection waits for, as its requests and what is read of them stand, and how long.

Pure: who acts on it is `hub.transports.connection.connection`.
"""

from hub.transports.connection.application import ApplicationCall
from hub.transports.connection.reader import RequestReader
from hub.transports.connection.requests import Requests
from hub.transports.connection.states import DISCARD_SECONDS, ConnectionLimits, State


def awaited_state(requests: Requests, reader: RequestReader, *, blocked: bool) -> State:
    """The state of a connection whose last answer is not decided.

    Args:
        blocked: whether the peer has to take what is written first.
    """
    if blocked:
        return State.WRITING
    if isinstance(requests.answering, ApplicationCall):
        return State.APPLICATION
    if requests.answering is not None:
        return State.ANSWERING
    if requests.reading is not None:
        return State.READING_BODY
    begins = reader.in_head or not requests.begun
    return State.AWAITING_HEAD if begins else State.BETWEEN


def is_last(state: State, requests: Requests) -> bool:
    """Whether nothing is left to wait for: the peer says no more, or the listener stops."""
    if requests.peer_done:
        return state in {State.AWAITING_HEAD, State.BETWEEN, State.READING_BODY}
    return requests.stopping and state is State.BETWEEN


def mark_of(state: State, requests: Requests, reader: RequestReader) -> tuple[object, ...]:
    """Tells a wait from another in the same state: each has its own deadline."""
    mark = (requests.begun, reader.messages)
    if state is State.APPLICATION and isinstance(requests.reading, ApplicationCall):
        # The peer's silence counts, not the application's: each part begins the time anew.
        return (*mark, requests.reading.size, requests.reading.is_full)
    return mark


def seconds_in(state: State, requests: Requests, limits: ConnectionLimits) -> float | None:
    """What the state may take; None where somebody else has the deadline."""
    match state:
        case State.AWAITING_HEAD:
            return limits.handshake_timeout_seconds
        case State.READING_BODY:
            return limits.body_timeout_seconds
        case State.ANSWERING:
            route = None if requests.answering is None else requests.answering.route
            return None if route is None else route.answer_seconds
        case State.WRITING | State.CLOSING:
            return limits.write_timeout_seconds
        case State.BETWEEN:
            return limits.keep_alive_seconds
        case State.DISCARDING:
            return DISCARD_SECONDS
        case _:
            call = requests.reading
            waits = isinstance(call, ApplicationCall) and not call.is_full
            return limits.body_timeout_seconds if waits else None
