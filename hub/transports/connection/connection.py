"""One connection from accept to close: who reads when, which answer is next, and by when.

The requests of a connection are answered in the order they came. Those that have nothing to
wait for are answered in the read that brings them, and all answers of one read leave in one
write (`hub.transports.connection.outgoing`). The first that waits stops the parsing; what comes
behind it is held as bytes, up to a bound, and then not read. The states and their deadlines stand
in `hub.transports.connection.states`.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any, cast

from hub.core.deadlines import Deadlines
from hub.core.ports import Monotonic
from hub.core.tally import Tally
from hub.errors import HubError, RequestTimeoutError, UnavailableError
from hub.transports.connection.application import Application, ApplicationCall
from hub.transports.connection.outgoing import Outgoing, WriteTurn
from hub.transports.connection.reader import RequestReader
from hub.transports.connection.sockets import Sockets
from hub.transports.connection.states import (
    DISCARD_BYTES,
    DISCARD_SECONDS,
    HELD_BYTES,
    MIN_TAKEN_BYTES,
    PIECE_BYTES,
    ROWS,
    ConnectionLimits,
    Incoming,
    Late,
    State,
)
from hub.transports.connection.streams import Streams
from hub.transports.connection.timer import StateTimer
from hub.transports.http.answer import Answer, encode
from hub.transports.http.bodies import BodyBudget
from hub.transports.http.dispatch import Call, Dispatcher
from hub.transports.http.routes import Access, Stream
from hub.transports.poll import ANSWER_NOW
from hub.transports.request import Request

_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


Run = Callable[[Coroutine[Any, Any, None]], "asyncio.Task[None]"]
"""Runs what waits, until the listener stops."""


@dataclass(frozen=True, slots=True)
class ConnectionContext:
    """What all connections of a node share."""

    dispatcher: Dispatcher
    streams: Streams
    budget: BodyBudget
    sockets: Sockets
    limits: ConnectionLimits
    deadlines: Deadlines
    clock: Monotonic
    tally: Tally
    turn: WriteTurn
    spawn: Run
    application: Application | None = None
    """Answers what the table of routes does not have."""


class Connection(asyncio.Protocol):
    """Owns its transport until it ends or a stream takes it over."""

    __slots__ = (
        "_answering", "_begun", "_closing", "_context", "_crowded", "_discarded", "_ends_clean",
        "_held", "_incoming", "_lost", "_mark", "_outgoing", "_peer_done",
        "_queue", "_reader", "_reading", "_reading_paused", "_state", "_stopping", "_task",
        "_timer", "_transport",
    )  # fmt: skip

    def __init__(self, context: ConnectionContext) -> None:
        self._context = context
        self._transport: asyncio.Transport
        self._reader: RequestReader
        self._outgoing: Outgoing
        self._state = State.AWAITING_HEAD
        self._incoming = Incoming.PARSE
        self._mark: tuple[object, ...] = ()
        """What the deadline of the state runs for: another mark begins another."""
        self._timer = StateTimer(context.deadlines, context.clock, self._late)
        self._crowded = False
        """More connections than the node may hold: only probes are answered."""
        self._reading: Call | None = None
        """The request whose body is on its way."""
        self._answering: Call | None = None
        """The request whose answer is waited for; nothing behind it is parsed."""
        self._task: asyncio.Task[None] | None = None
        self._queue: deque[Call] = deque()
        """Whole requests that were parsed in one piece with one that waits."""
        self._begun = 0
        """How many requests were given their turn."""
        self._held = b""
        self._closing = False
        """The last answer is decided; nothing that comes is a request any more."""
        self._ends_clean = False
        """Nothing of a request is left unread behind the last answer."""
        self._stopping = False
        """The listener stops: the next answer is the last."""
        self._peer_done = False
        self._reading_paused = False
        self._discarded = 0
        self._lost = False

    # -- asyncio.Protocol --------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        context = self._context
        self._transport = cast("asyncio.Transport", transport)
        peer = transport.get_extra_info("peername")
        self._reader = RequestReader(
            self,
            max_head_bytes=context.limits.max_head_bytes,
            address=_address(peer),
            keep_raw=context.application is not None,
        )
        self._outgoing = Outgoing(self._transport, context.turn, self._settle)
        context.sockets.http.add(self)
        if context.sockets.is_overrun():
            context.tally.refused[UnavailableError.code] += 1
            self._transport.abort()
            return
        self._crowded = context.sockets.is_crowded()
        self._enter(State.AWAITING_HEAD)

    def data_received(self, data: bytes) -> None:
        if self._incoming is Incoming.PARSE and not self._held:
            if len(data) <= PIECE_BYTES and self._answering is None:
                self._reader.feed(data)
                self._settle()
            else:
                self._work(data)
            if self._state is State.STREAMING:
                # Its parser and this connection refer to each other: now nobody needs either.
                self._reader.close()
        elif self._closing or self._incoming is Incoming.DROP:
            self._discarded += len(data)
            if self._discarded > DISCARD_BYTES and not self._reading_paused:
                # Not a reset: it would take the answer from a peer that has not read it yet.
                self._reading_paused = True
                self._transport.pause_reading()
        else:
            self._held += data
            self._choose_reading()

    def eof_received(self) -> bool:
        """Return whether the peer, which says nothing more, still waits for answers."""
        if self._outgoing.answers:
            self._outgoing.flush()
            self._settle()
        self._peer_done = True
        self._hurry()
        if self._state in {State.ANSWERING, State.WRITING, State.APPLICATION} or self._held:
            if isinstance(self._answering, ApplicationCall):
                self._answering.peer_ended()
            return True
        return False

    def pause_writing(self) -> None:
        self._outgoing.blocked = True
        self._context.sockets.hold(self, self._outgoing.unsent_bytes)

    def resume_writing(self) -> None:
        self._outgoing.blocked = False
        self._context.sockets.release(self)
        if self._answering is not None:
            if isinstance(self._answering, ApplicationCall):
                self._answering.writable()
            self._settle()
        else:
            self._go_on()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002
        self._lost = True
        self._leave()
        self._reader.close()
        for call in (self._reading, self._answering, *self._queue):
            if call is not None:
                self._drop(call)
        if self._task is not None and _ends_with_its_peer(self._answering):
            self._task.cancel()
        self._queue.clear()
        self._held = b""

    def shut_down(self) -> None:
        """The listener stops: end now where nothing is under way, else with the next answer."""
        if self._state in {State.AWAITING_HEAD, State.BETWEEN}:
            # What was answered in this turn of the loop may be written still.
            self._outgoing.abort() if self._reader.in_head else self._outgoing.close()
        else:
            self._stopping = True

    def abort(self) -> None:
        """End at once, whatever is under way."""
        self._outgoing.abort()

    # -- hub.transports.connection.reader.Sink -------------------------------------------------

    def head_read(self, request: Request) -> bool:
        context = self._context
        call = context.dispatcher.open(request)
        if self._crowded and call.answer is None and not _is_for_probes(call):
            self._turn_away(call)
        if call.foreign and context.application is not None:
            call = context.application.begin(call, self)
        self._reading = call
        if not request.upgrade or call.answer is not None or call.route is None:
            return False
        return call.route.stream is Stream.WEBSOCKET

    def _turn_away(self, call: Call) -> None:
        """There is no room; only who asks for a stream can be told so in its own way."""
        context, error = self._context, UnavailableError("the node holds no more connections")
        if call.route is not None and call.route.stream is Stream.SSE:
            call.answer = context.streams.refusal(Stream.SSE, call.request, error)
        else:
            context.tally.refused[error.code] += 1
            context.dispatcher.refuse(call, error)

    def body_read(self, data: bytes) -> None:
        call = self._reading
        if call is None:
            return
        if call.foreign and isinstance(call, ApplicationCall):
            call.feed(data)
        else:
            self._context.dispatcher.take(call, data)

    def request_read(self) -> None:
        call, self._reading = self._reading, None
        if call is None:
            return
        call.complete = True
        if not call.request.keep_alive:
            self._reader.stop()
        if call.foreign and isinstance(call, ApplicationCall):
            call.ended()
            if call is self._answering:
                return
        if self._may_begin():
            self._begin(call)
        else:
            self._queue.append(call)

    def broken(self, error: HubError) -> None:
        """What came is no request: answer what was asked before, then say so and end."""
        self._context.tally.refused[error.code] += 1
        abandoned, self._reading = self._reading, None
        if abandoned is not None:
            self._drop(abandoned)
            if abandoned is self._answering:
                # Its answer may have begun: nothing can be said in its place.
                self._transport.abort()
                return
        call = Call(Request())
        self._context.dispatcher.refuse(call, error)
        if self._may_begin():
            self._begin(call)
        else:
            self._queue.append(call)

    # -- bytes to requests to answers ------------------------------------------------------------

    def _may_begin(self) -> bool:
        """Whether the next request may have its turn."""
        return not (self._answering or self._outgoing.blocked or self._queue or self._closing)

    def _may_parse(self) -> bool:
        if self._outgoing.blocked or self._queue or self._closing or self._reader.rest is not None:
            return False
        call = self._answering
        if call is None:
            return True
        # An application gets its body as it comes, as far as it takes it.
        return isinstance(call, ApplicationCall) and call is self._reading and not call.is_full

    def _work(self, data: bytes) -> None:
        """Parse `data`, in pieces, until a request waits; hold the rest."""
        at = 0
        while at < len(data) and self._may_parse():
            self._reader.feed(data[at : at + PIECE_BYTES])
            at += PIECE_BYTES
        if self._state is State.STREAMING:
            # It has the transport, and what came behind the request is its own.
            if rest := data[at:]:
                cast("asyncio.Protocol", self._transport.get_protocol()).data_received(rest)
            return
        if not self._closing:
            self._held = data[at:]
        self._settle()

    def _go_on(self) -> None:
        """What stood in the way is gone: the next request, and what is held."""
        while self._queue and not (self._answering or self._outgoing.blocked or self._closing):
            self._begin(self._queue.popleft())
        if self._held and self._may_parse():
            held, self._held = self._held, b""
            self._work(held)
        else:
            self._settle()
        if self._state is State.STREAMING:
            self._reader.close()

    def _begin(self, call: Call) -> None:
        """Give a request its turn: the whole of it is here, or its answer is decided."""
        self._begun += 1
        if call.answer is None:
            route = call.route
            plain = route is not None and route.stream is None and call.admission is None
            if not plain and self._begin_apart(call):
                return
        answer = self._context.dispatcher.run(call)
        if isinstance(answer, Answer):
            self._respond(call, answer)
        else:
            self._wait_for(call, self._answer_later(call, answer))

    def _begin_apart(self, call: Call) -> bool:
        """Begin what is not simply the handler of a route; return whether it was that."""
        route = call.route
        if call.foreign and isinstance(call, ApplicationCall):
            self._wait_for(call, call.run())
        elif call.admission is not None:
            self._wait_for(call, self._admit(call))
        elif route is not None and route.stream is not None and call.request.method == "GET":
            self._open_stream(call, route.stream)
        else:
            return False
        return True

    def _wait_for(self, call: Call, work: Coroutine[Any, Any, None]) -> None:
        self._answering = call
        self._context.budget.hold(call)
        self._task = self._context.spawn(work)
        if self._peer_done:
            self._hurry()

    def _hurry(self) -> None:
        """Have a poll answered with what there is.

        Its peer may be gone: who has closed its socket and who has only nothing more to ask
        look the same until something is written.
        """
        if self._task is not None and _ends_with_its_peer(self._answering):
            # Not in this turn of the loop: a task that has not begun would never begin.
            asyncio.get_running_loop().call_soon(self._task.cancel, ANSWER_NOW)

    async def _answer_later(self, call: Call, work: Coroutine[Any, Any, Answer]) -> None:
        try:
            answer = await work
        except asyncio.CancelledError as cancelled:
            if self._lost:
                raise
            if call.answer is not None:
                # The deadline has decided on another answer.
                answer = call.answer
            elif cancelled.args[:1] == (ANSWER_NOW,):
                error = UnavailableError("there is nothing to answer this with yet: ask again")
                answer = self._context.dispatcher.refuse(call, error)
            else:
                raise
        self._answered(call, answer)

    def _answered(self, call: Call, answer: Answer) -> None:
        if call is not self._answering:
            return
        self._answering = self._task = None
        if not self._lost:
            self._respond(call, answer)
            self._go_on()

    def _respond(self, call: Call, answer: Answer) -> None:
        request = call.request
        if call.reserved:
            self._context.budget.release(call)
        close = self._is_last(call)
        if request.version == "1.0" and not close:
            # RFC 9112 section 9.3: HTTP/1.0 ends with the answer unless both say otherwise.
            answer.add_headers({"Connection": "keep-alive"})
        self._outgoing.add(encode(answer, close=close, head_only=request.method == "HEAD"))
        if close:
            self._ends_clean = call.complete and not (self._held or self._queue)
            self._end()

    def _end(self) -> None:
        """The last answer is decided, or a stream has the connection: no request follows."""
        self._closing = True
        self._reader.stop()
        for call in self._queue:
            self._drop(call)
        self._queue.clear()
        self._held = b""

    def _drop(self, call: Call) -> None:
        """Nobody waits for the answer any more."""
        self._context.budget.release(call)
        if call.admission is not None:
            call.admission.close()
        if isinstance(call, ApplicationCall):
            call.lost()

    def _is_last(self, call: Call) -> bool:
        """Whether nothing can follow: an unread body is no request, and neither is garbage."""
        request = call.request
        if not (request.keep_alive and call.complete) or self._crowded or self._stopping:
            return True
        route = call.route
        return route is not None and route.stream is not None and request.method == "GET"

    def _open_stream(self, call: Call, stream: Stream) -> None:
        self._outgoing.flush()
        if self._outgoing.blocked:
            # What is owed to the peer comes first: the stream writes past the transport.
            self._begun -= 1
            self._queue.appendleft(call)
            return
        context, rest = self._context, (self._reader.rest or b"") + self._held
        if self._reading_paused:
            # From here on the reading is the stream's to pause.
            self._reading_paused = False
            self._transport.resume_reading()
        try:
            context.streams.open(stream, call.request, self._transport, rest)
        except HubError as error:
            self._respond(call, context.streams.refusal(stream, call.request, error))
        else:
            self._state = State.STREAMING
            self._end()
            self._leave()

    # -- what the application's answer is written with -------------------------------------------

    def write(self, data: bytes) -> bool:
        """Write a part of an application's answer; return whether the peer takes more."""
        if not (self._lost or self._transport.is_closing()):
            self._outgoing.flush()
            self._outgoing.write(data)
            self._settle()
        return not self._outgoing.blocked

    def finished(self, call: ApplicationCall, *, close: bool) -> None:
        """The application's answer is written whole."""
        if call is not self._answering:
            return
        self._answering = self._task = None
        if self._lost:
            return
        if close or self._is_last(call):
            self._ends_clean = call.complete and not self._held
            self._end()
        self._go_on()

    def body_taken(self) -> None:
        """The application took some of the body that waited."""
        if not self._lost:
            self._go_on()

    # -- states and deadlines ----------------------------------------------------------------------

    def _settle(self) -> None:
        """Bytes have come, or an answer has: write, and see what the connection waits for now."""
        if self._lost or self._state is State.STREAMING:
            return
        outgoing = self._outgoing
        if outgoing.answers and not (
            outgoing.blocked or self._reading or self._answering or self._closing
            or self._held or self._peer_done or self._stopping or self._reading_paused
            or self._queue or self._reader.in_head
        ):  # fmt: skip
            # Nearly always: whole requests came and are answered.
            outgoing.put_off()
            self._state, self._incoming = State.BETWEEN, Incoming.PARSE
            self._mark = (State.BETWEEN, self._begun, self._reader.messages)
            self._timer.begin(self._context.limits.keep_alive_seconds)
            return
        if self._reading is not None and self._may_begin():
            self._judge(self._reading)
        self._outgoing.flush()
        if self._closing:
            self._finish()
            return
        state = self._next_state()
        if self._peer_done and state in {
            State.AWAITING_HEAD, State.BETWEEN, State.READING_BODY,
        }:  # fmt: skip
            self._end()
            self._finish()
            return
        if self._stopping and state is State.BETWEEN:
            self._ends_clean = True
            self._end()
            self._finish()
            return
        self._enter(state)
        self._choose_reading()

    def _judge(self, call: Call) -> None:
        """The read has ended in the middle of a request."""
        if not isinstance(call, ApplicationCall) and call.answer is None:
            try:
                self._context.budget.reserve(call)
            except HubError as error:
                self._context.dispatcher.refuse(call, error)
        if call.answer is not None or call.foreign or call.admission is not None:
            # Refused early: whatever the rest of the body is, it is no request (RFC 9112
            # section 9.6).
            self._begin(call)
        elif call.expects:
            call.expects = False
            if not call.size:
                self._outgoing.add(_CONTINUE)

    async def _admit(self, call: Call) -> None:
        await self._context.dispatcher.admitted(call)
        if call is not self._answering or self._lost:
            return
        self._answering = self._task = None
        if call.complete:
            self._begin(call)
        self._go_on()

    def _next_state(self) -> State:
        if self._outgoing.blocked:
            return State.WRITING
        if isinstance(self._answering, ApplicationCall):
            return State.APPLICATION
        if self._answering is not None:
            return State.ANSWERING
        if self._reading is not None:
            return State.READING_BODY
        return State.AWAITING_HEAD if self._reader.in_head or not self._begun else State.BETWEEN

    def _enter(self, state: State) -> None:
        """Be in `state`; its deadline begins anew unless it is the same wait as before."""
        mark: tuple[object, ...] = (state, self._begun, self._reader.messages)
        if state is State.APPLICATION and isinstance(self._reading, ApplicationCall):
            # The peer's silence counts, not the application's: each part begins the time anew.
            mark = (*mark, self._reading.size, self._reading.is_full)
        if mark == self._mark:
            return
        self._state, self._mark = state, mark
        self._incoming = ROWS[state].incoming
        if state in {State.WRITING, State.CLOSING}:
            self._outgoing.begin_time()
        self._timer.begin(self._seconds(state))

    def _seconds(self, state: State) -> float | None:
        """What the state may take; None where somebody else has the deadline."""
        limits = self._context.limits
        match state:
            case State.AWAITING_HEAD:
                return limits.handshake_timeout_seconds
            case State.READING_BODY:
                return limits.body_timeout_seconds
            case State.ANSWERING:
                route = None if self._answering is None else self._answering.route
                return None if route is None else route.answer_seconds
            case State.WRITING | State.CLOSING:
                return limits.write_timeout_seconds
            case State.BETWEEN:
                return limits.keep_alive_seconds
            case State.DISCARDING:
                return DISCARD_SECONDS
            case _:
                call = self._reading
                waits = isinstance(call, ApplicationCall) and not call.is_full
                return limits.body_timeout_seconds if waits else None

    def _late(self) -> None:
        """The state has taken too long."""
        limits, dispatcher = self._context.limits, self._context.dispatcher
        match ROWS[self._state].late:
            case Late.REFUSE if self._reading is not None:
                dispatcher.late(self._reading, limits.body_timeout_seconds)
                self._settle()
            case Late.REFUSE:
                seconds = limits.handshake_timeout_seconds
                self._reader.stop()
                self.broken(
                    RequestTimeoutError(f"no whole request head within {seconds:g} seconds")
                )
                self._settle()
            case Late.GIVE_UP:
                self._give_up()
            case Late.CLOSE:
                self._enter(State.CLOSING)
                self._outgoing.close()
            case Late.ABORT:
                self._abort_unless_taken()

    def _give_up(self) -> None:
        """The handler takes too long: it is cancelled, and the peer told so."""
        call, task = self._answering, self._task
        if call is None or call.route is None or task is None:
            self._transport.abort()
            return
        answer = self._context.dispatcher.gave_up(call, call.route.answer_seconds)
        self._answering = self._task = None
        call.request.keep_alive = False
        self._respond(call, answer)
        task.cancel()
        self._settle()

    def _abort_unless_taken(self) -> None:
        if self._outgoing.took(MIN_TAKEN_BYTES):
            self._timer.begin(self._context.limits.write_timeout_seconds)
        else:
            self._transport.abort()

    def _choose_reading(self) -> None:
        """Read, unless what comes could only be held and enough is held already."""
        incoming = ROWS[self._state].incoming
        holds = incoming is Incoming.HOLD or not self._may_parse()
        pause = holds and (self._state is State.WRITING or len(self._held) > HELD_BYTES)
        if self._state is State.APPLICATION and isinstance(self._reading, ApplicationCall):
            pause = pause or self._reading.is_full
        if pause and self._state is State.ANSWERING:
            # While nothing is read, the end of the peer would not be seen either.
            self._hurry()
        if pause is not self._reading_paused:
            self._reading_paused = pause
            if pause:
                self._transport.pause_reading()
            elif not self._transport.is_closing():
                self._transport.resume_reading()

    # -- the end -----------------------------------------------------------------------------

    def _finish(self) -> None:
        """End behind the last answer; read on for a while where the peer may still be sending."""
        if self._state in {State.DISCARDING, State.CLOSING}:
            return
        reading, self._reading = self._reading, None
        if reading is not None:
            self._drop(reading)
        if self._peer_done or self._ends_clean:
            self._enter(State.CLOSING)
            self._transport.close()
            return
        self._enter(State.DISCARDING)
        if self._transport.can_write_eof():
            self._transport.write_eof()
        if self._reading_paused:
            self._reading_paused = False
            self._transport.resume_reading()

    def _leave(self) -> None:
        """Nothing of this connection is waited for any more."""
        self._context.sockets.http.discard(self)
        self._context.sockets.release(self)
        self._timer.close()
        self._outgoing.drop()


def _address(peer: object) -> str:
    """The peer's address without its port; an IPv4 peer of a socket for both looks like one."""
    address = str(peer[0]) if isinstance(peer, tuple) else ""
    return address.removeprefix("::ffff:") if "." in address else address


def _is_for_probes(call: Call) -> bool:
    return call.route is not None and call.route.access is Access.ANYBODY


def _ends_with_its_peer(call: Call | None) -> bool:
    """Whether nobody but the peer wants the work done: a poll, but not a publication."""
    return call is not None and call.route is not None and call.route.ends_with_its_peer
