"""One connection from accept to close: the reading, the order of the answers, and the deadlines.

The requests of a connection are answered in the order in which they came (`requests.py`). Requests
that have nothing to wait for are answered in the read that brings them, and all answers of one read
leave in one write (`outgoing.py`). The first request that waits stops the parsing. So does a
pipeline that takes too long, until it has another turn (`hub.transports.turns`). Bytes behind them
are held (`receive_buffer.py`). The states and their deadlines are a table (`states.py`).
"""

import asyncio
from functools import partial
from typing import cast

from hub.errors import HubError
from hub.transports.connection.application import ApplicationCall
from hub.transports.connection.context import ConnectionContext
from hub.transports.connection.first_read import FirstRead
from hub.transports.connection.outgoing import AnswerWriter, bound_buffer
from hub.transports.connection.parting import Parting
from hub.transports.connection.phase import LOOK, PARSE, STREAMING, Phase, awaited_state, is_last
from hub.transports.connection.proxied import plain_address
from hub.transports.connection.reader import RequestReader
from hub.transports.connection.receive_buffer import ReceiveBuffer
from hub.transports.connection.requests import Requests
from hub.transports.connection.states import MIN_TAKEN_BYTES, PIECE_BYTES, HttpState, Incoming, Late
from hub.transports.http.dispatch import Call
from hub.transports.http.routes import StreamKind
from hub.transports.opening import Judged


class Connection(asyncio.Protocol):
    """Owns its transport until it ends or a stream takes it over."""

    __slots__ = (
        "_address", "_buffer", "_context", "_crowded", "_ends_clean", "_first", "_has_turn",
        "_outgoing", "_reader", "_requests", "_transport", "phase",
    )  # fmt: skip

    def __init__(self, context: ConnectionContext, address: str | None = None) -> None:
        """`address` is the client's where the socket does not have it."""
        self._context = context
        self._address = address or ""
        self._transport: asyncio.Transport
        self._crowded: HubError | None = None
        """The error for all requests but probes: the node or the peer has too many connections."""
        self._first: FirstRead
        self._outgoing: AnswerWriter
        self._requests: Requests
        self._reader: RequestReader
        self._buffer: ReceiveBuffer  # these four are made for bytes that the door does not refuse
        self.phase = Phase(context.arrivals, context.deadlines, context.clock, self._late)
        self._has_turn = False
        """Whether a stream may be opened now, however many others are opened."""
        self._ends_clean = False
        """Whether the last answer has left nothing of its request unread."""

    # -- asyncio.Protocol --------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        context, self._transport = self._context, cast("asyncio.Transport", transport)
        self._address = self._address or plain_address(transport.get_extra_info("peername"))
        context.sockets.enter(self, self._address)
        self._crowded = crowded = context.sockets.refusal(self._address)
        self._first = FirstRead(context, self._transport, self.phase, self._address, crowded)
        if crowded is not None and context.sockets.is_overrun(self._address):
            context.door.cut_off(crowded, self._address)
            self._transport.abort()
            return
        self.phase.arrive()
        bound_buffer(self._transport)  # one of TLS may pause now, which makes the other parts

    def begin(self) -> None:
        """Make the parts that read requests, unless they are made."""
        if self.phase.incoming is not LOOK:
            return
        context, self.phase.incoming = self._context, PARSE
        self._outgoing = AnswerWriter(self._transport, context.turn, self.settle)
        self._requests = Requests(context, self, self._outgoing, self._address, self._crowded)
        self._reader = context.new_reader(self._requests, self._address)
        self._buffer = ReceiveBuffer(
            context, self._transport, self._reader, self._requests, self._outgoing, self.phase
        )
        if waiting := self._first.give_up_turn():
            self._buffer.hold(waiting)
            self._buffer.awaits_turn = True

    def read_first(self, data: bytes, judged: Judged | None) -> None:
        """Parse the first bytes; `judged` is the door's judgement of their request."""
        self.begin()
        self._requests.judged = judged
        self._parse(data)

    def data_received(self, data: bytes) -> None:
        phase = self.phase
        if phase.incoming is LOOK:
            if not self._first.take(self, data):
                self._context.turns.wait(self._take_turn, self._first.place)
            return
        requests, buffer = self._requests, self._buffer
        if phase.incoming is PARSE and not buffer.held:
            if requests.answering is None and self._context.turns.has_read_enough():
                buffer.hold(data)
                self._wait_for_turn()
            else:
                self._parse(data)
        elif requests.closing or phase.incoming is Incoming.DROP:
            buffer.discard(data)
        else:
            buffer.hold(buffer.held + data)
            buffer.choose_reading()

    def eof_received(self) -> bool:
        """Return whether the peer, which sends nothing more, still waits for answers."""
        if self.phase.incoming is LOOK and not self._first.waiting:
            return False
        self.begin()
        if self._outgoing.answers:
            self._outgoing.flush()
            self.settle()
        requests = self._requests
        requests.peer_done = True
        requests.hurry()
        if self.phase.reads_request and not self._buffer.held:
            # A request that is not whole is answered; without one the connection ends.
            begun = self._reader.in_message
            self.settle()
            return begun and self._transport.can_write_eof()
        if isinstance(requests.answering, ApplicationCall):
            requests.answering.peer_ended()
        answers = {HttpState.ANSWERING, HttpState.WRITING, HttpState.APPLICATION}
        waits = self.phase.state in answers or bool(self._buffer.held)
        # Behind TLS the transport closes by itself, and asyncio warns where a protocol would stay.
        return waits and self._transport.can_write_eof()

    def pause_writing(self) -> None:
        self.begin()
        self._outgoing.blocked = True
        self._context.sockets.hold(self, self._outgoing.unsent_bytes)

    def resume_writing(self) -> None:
        self.begin()
        if not self._outgoing.resume():
            return
        self._context.sockets.release(self)
        if isinstance(answering := self._requests.answering, ApplicationCall):
            answering.writable()
        self.go_on()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002
        if self.phase.incoming is LOOK:
            self._first.waiting = b""
            self._context.sockets.leave(self)
            self.phase.close()
            return
        self._requests.connection_lost()
        self._leave()
        self._reader.close()
        self._buffer.hold(b"")

    def leave_after_next(self) -> None:
        """Make the next answer the last: a peer that connects again finds another process."""
        self.begin()
        self._requests.stopping = True

    def shut_down(self) -> None:
        """End now where nothing is under way, else with the next answer: the listener stops."""
        self.begin()
        if self.phase.awaits_request and not self._buffer.held:
            # Answers of this turn of the loop may wait to be written.
            self._outgoing.abort() if self._reader.in_head else self._outgoing.close()
        else:
            self._requests.stopping = True

    # -- bytes to requests -----------------------------------------------------------------------

    def _parse(self, data: bytes) -> None:
        if len(data) <= PIECE_BYTES and self._requests.answering is None:
            self._reader.feed(data)
            self.settle()
        else:
            self._work(data)
        if self.phase.state is STREAMING:
            # Parser and requests refer to each other, and neither is needed any more.
            self._reader.close()

    def _work(self, data: bytes) -> None:
        """Parse `data`; bytes behind a request that waits, or behind a long piece, are held."""
        self._buffer.parse(data)
        if self._buffer.awaits_turn:
            self._wait_for_turn()
        self.settle()

    def _wait_for_turn(self) -> None:
        """Have held bytes parsed when the loop has done its other work."""
        self._buffer.awaits_turn = True
        self._context.turns.wait(self._take_turn, self._requests.client or self._first.place)

    def _take_turn(self) -> None:
        """Parse held bytes: the loop has done its other work."""
        if self.phase.incoming is LOOK:
            self._first.take_turn(self)
        else:
            self._buffer.awaits_turn = False
            self.go_on()

    # -- hub.transports.connection.context.Owner ---------------------------------------------

    def go_on(self) -> None:
        """Begin the next request, and parse held bytes: nothing is in the way now."""
        self._requests.begin_those_that_wait()
        if self._buffer.held and self._buffer.may_parse():
            self._work(self._buffer.take())
        else:
            self.settle()
        if self.phase.state is HttpState.STREAMING:
            self._reader.close()

    def end(self, *, clean: bool) -> None:
        """Take no more requests: the last answer is decided, or a stream has the connection."""
        self._ends_clean = clean and not self._buffer.held
        self._reader.stop()
        self._requests.end()
        self._buffer.hold(b"")

    def open_stream(self, call: Call, stream: StreamKind) -> None:
        """Have a stream take the connection over, behind all answers before it."""
        if self._requests.peer_done:
            # The peer's end would have ended the stream, had the stream been open then.
            self.end(clean=True)
            self.settle()
            return
        self._outgoing.flush()
        if self._outgoing.blocked:
            # The stream writes past the transport.
            self._requests.put_back(call)
            return
        crowd = self._context.turns.crowd
        if self._has_turn:
            self._open_stream(call, stream)
        elif not crowd.try_now(partial(self._open_stream, call, stream)):
            self._requests.wait_for_turn(call)
            crowd.wait(self._take_stream_turn, self._requests.client or self._first.place)

    def _take_stream_turn(self) -> None:
        """Open the stream that waits: the streams before it were opened, or have gone."""
        self._has_turn = True
        try:
            self._requests.turn_came()
        finally:
            self._has_turn = False
        if self.phase.state is HttpState.STREAMING:
            self._reader.close()
        else:
            self.settle()

    def _open_stream(self, call: Call, stream: StreamKind) -> None:
        rest = (self._reader.rest or b"") + self._buffer.held
        # From here on the stream pauses the reading.
        self._buffer.resume()
        refusal = self._context.streams.begin(stream, call, self._transport, rest)
        if call.admission is not None:
            self._requests.begin(call)
        elif refusal is None:
            self.phase.leave()
            self.end(clean=True)
            self._leave()
        else:
            if isinstance(refusal, bytes):
                Parting(self._transport, self.connection_lost)
                self._outgoing.add(refusal)
                self.end(clean=False)
            else:
                self._requests.respond(call, refusal)
            if call.request.has_waited:
                # No read has brought the request here, so no read writes its answer.
                self.settle()

    # -- hub.transports.connection.application.ApplicationTransport -------------------------------

    def write(self, data: bytes) -> bool:
        """Write a part of an application's answer; return whether the peer takes more."""
        if not (self._requests.lost or self._transport.is_closing()):
            self._outgoing.flush()
            self._outgoing.write(data)
            self.settle()
        return not self._outgoing.blocked

    def finished(self, call: ApplicationCall, *, close: bool) -> None:
        """Go on behind the application's answer, which is written whole."""
        self._requests.finished(call, close=close)

    def body_taken(self) -> None:
        """Parse more of a body: the application took some of the bytes that waited."""
        if not self._requests.lost:
            self.go_on()

    def abort(self) -> None:
        """End at once, whatever is under way."""
        self.begin()
        self._outgoing.abort()

    # -- states, deadlines and the end ---------------------------------------------------------

    def settle(self) -> None:
        """Write the answers that are decided, and choose the state that holds now."""
        requests, phase, outgoing = self._requests, self.phase, self._outgoing
        if requests.lost or phase.state is STREAMING:
            return
        buffer = self._buffer
        if outgoing.answers and not (
            outgoing.blocked or requests.reading or requests.answering or requests.closing
            or buffer.held or requests.peer_done or requests.stopping or buffer.paused
            or requests.queue or self._reader.in_head
        ):  # fmt: skip
            # The usual case: whole requests came and are answered.
            seconds = self._context.limits.keep_alive_seconds
            phase.between(requests.begun, self._reader.messages, seconds)
            # Last: where this writes at once and the peer does not take it, the state is another.
            outgoing.put_off()
            return
        if requests.reading is not None and not self._buffer.awaits_turn and requests.may_begin():
            requests.judge(requests.reading)
        outgoing.flush()
        if requests.closing:
            self._finish()
            return
        state = awaited_state(requests, self._reader, blocked=outgoing.blocked)
        if not self._buffer.awaits_turn and is_last(state, requests):
            if (error := self._reader.unfinished()) is not None:
                requests.broken(error)
                outgoing.flush()
            self.end(clean=True)
            self._finish()
            return
        self._enter(state)
        buffer.choose_reading()

    def _enter(self, state: HttpState) -> None:
        """Be in `state`; its deadline begins anew unless it is the same wait as before."""
        began = self.phase.follow(state, self._requests, self._reader, self._context.limits)
        if began and state in {HttpState.WRITING, HttpState.CLOSING}:
            self._outgoing.begin_time()

    def _late(self) -> None:
        """Have a turn to end a wait that has taken too long: many may be late at once."""
        self.phase.in_turn(self._context.turns.crowd, self._end_wait, self._first.place)

    def _end_wait(self) -> None:
        """Do what the table says of a state that has taken too long."""
        if self._first.waiting or (self.phase.incoming is not LOOK and self._buffer.awaits_turn):
            # The hub has not looked at what its peer has sent.
            self.phase.begin_again(self._context.limits.handshake_timeout_seconds)
            return
        if self.phase.state is HttpState.AWAITING_HEAD and self._transport.is_closing():
            # The peer was refused at the door and does not take the answer.
            self._transport.abort()
            return
        self.begin()
        limits, requests = self._context.limits, self._requests
        match self.phase.when_late:
            case Late.REFUSE if requests.reading is not None:
                self._context.dispatcher.late(requests.reading, limits.body_timeout_seconds)
                self.settle()
            case Late.REFUSE:
                seconds, begun = limits.handshake_timeout_seconds, self._reader.in_head
                self._reader.stop()
                requests.broken(self._context.door.late_head(self._address, seconds, begun=begun))
                self.settle()
            case Late.GIVE_UP:
                requests.give_up()
            case Late.CLOSE:
                self._enter(HttpState.CLOSING)
                self._outgoing.close()
            case Late.ABORT if self._outgoing.took(MIN_TAKEN_BYTES):
                self.phase.begin_again(limits.write_timeout_seconds)
            case Late.ABORT:
                sends, unsent = self.phase.runs_application, self._outgoing.unsent_bytes
                self._context.door.let_go(self._address, unsent, sends=sends)
                self._transport.abort()

    def _finish(self) -> None:
        """End behind the last answer; read on for a while where the peer may still be sending."""
        if self.phase.state in {HttpState.DISCARDING, HttpState.CLOSING}:
            return
        self._requests.drop_unread()
        if self._requests.peer_done or self._ends_clean:
            self._enter(HttpState.CLOSING)
            self._outgoing.close()
            return
        self._enter(HttpState.DISCARDING)
        self._outgoing.end_sending()
        self._buffer.resume()

    def _leave(self) -> None:
        """Leave the node's counts, and let go of deadlines and answers."""
        self._context.sockets.leave(self)
        self._context.sockets.release(self)
        self.phase.close()
        self._outgoing.drop()
        self._requests.close()
