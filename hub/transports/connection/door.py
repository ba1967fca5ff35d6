"""Refusals by address and first bytes alone, before anything else of a peer is read.

These peers get their answer before the hub makes a parser or a timer for them:

- a connection above the node's limit, or from an address that begins too many sessions;
- a handshake of a page, or for a host, that is not allowed;
- a handshake with a token or a URL that is not valid.

The parser sees the other peers: a probe, a head that is too long or has not come whole, a client
behind a trusted proxy, whose address stands in the head, and most handshakes while none is refused.
They get the same answers, and the same counts.
"""

import re
import time
from dataclasses import dataclass

from hub.auth.proxies import TrustedProxies
from hub.core.counters import Counters
from hub.core.limits import Limiter
from hub.errors import HubError, RequestTimeoutError, SlowError, UnavailableError
from hub.transports.connection.reader import MAX_FIELDS
from hub.transports.connection.streams import Streams
from hub.transports.http.answer import Answer, cross_origin, encode, problem
from hub.transports.http.ports import AccessPolicy
from hub.transports.http.routes import RouteTable, StreamKind
from hub.transports.opening import Judged
from hub.transports.request import OnRefused, Request, fields_by_name, refuse_ambiguous
from hub.wire.websocket import SWITCHING

_LINE = re.compile(rb"(GET|POST|PUT|DELETE) ((/[^ ?\r\n]*)(?:\?[^ \r\n]*)?) HTTP/1\.1\r\n")
_VISIBLE = re.compile(rb"[!-~]++")
# Nothing follows a value here that it could be cut at: a peer's spaces would be tried one by one.
_FIELD = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]++):([^\x00-\x08\x0a-\x1f\x7f]*+)\r\n")
_FIELDS = re.compile(rb"(?:[!#$%&'*+.^_`|~0-9A-Za-z-]++:[^\x00-\x08\x0a-\x1f\x7f]*+\r\n)*+")
_END = b"\r\n\r\n"
# An answer repeats them or depends on them.
_PLAIN = ("accept", "host", "origin", "sec-fetch-site")
# A handshake with one of these is no plain one.
_NOT_PLAIN = frozenset({"content-length", "expect", "transfer-encoding"})
# To read a handshake here costs one that is refused a third of what the parser costs it, and adds
# to the cost of a good one. So each is read here while some are refused, and else one in so many.
# Guesses.
_LOOKED_AT = 16
_AFTER_REFUSED = 256
# Answers that are kept for the second that they name: a few reasons, each with a few waits.
_MAX_FIXED = 64


@dataclass(frozen=True, slots=True)
class Refusal:
    """The answer to a connection that ends with it."""

    answer: bytes
    whole: bool
    """The request is here to its last byte, so no byte that comes could take the answer away."""
    is_farewell: bool = False
    """The answer ends a WebSocket: its peer may have sent more, and answers with a close frame."""


class Door:
    """Refuses peers by their first bytes; one per node."""

    def __init__(  # noqa: PLR0913 - each decides on a refusal or counts it
        self,
        table: RouteTable,
        streams: Streams,
        *,
        limiter: Limiter,
        proxies: TrustedProxies,
        counters: Counters,
        policy: AccessPolicy,
        on_refused: OnRefused,
        max_head_bytes: int,
    ) -> None:
        self._table = table
        self._streams = streams
        self._limiter = limiter
        self._proxies = proxies
        self._counters = counters
        self._policy = policy
        self._on_refused = on_refused
        self._max_head_bytes = max_head_bytes
        self._paths = {
            f"{table.base_path}{route.path}".encode(): route.stream
            for route in table.routes
            if route.stream is not None
        }
        """The kind of stream by path."""
        self._looks_at_each = 1
        """Number of connections more of which the fields are read."""
        self._passed = 0
        self._fixed_answers: dict[tuple[str, int | None, str | None, int], bytes] = {}

    def refusal(
        self, address: str, crowded: HubError | None, data: bytes
    ) -> Refusal | Judged | None:
        """Return the answer to a peer with these first bytes; None where the parser has to look.

        The parser looks too at a handshake that is judged and not refused. Counts the refusal. A
        look takes none of the sessions that an address may begin, unless it is judged.

        Args:
            crowded: the error of a connection that is one too many; None of any other.
        """
        looks = self._looks()
        if crowded is None and not looks and not self._limiter.limits_handshakes:
            return None
        if (line := _LINE.match(data)) is None:
            return None
        if (end := data.find(_END, 0, self._max_head_bytes)) < 0:
            return None
        method, target, path = line.groups()
        stream = self._paths.get(path) if method == b"GET" else None
        if crowded is None and (stream is None or self._proxies.trusts(address)):
            return None
        if crowded is not None and stream is None and self._is_for_probes(path):
            return None
        lines = data[line.end() : end + 2]
        whole = method == b"GET" and end + len(_END) == len(data)
        if (error := crowded or self._limiter.over_handshakes(address)) is not None:
            is_crowded = crowded is not None
            answer = self._over_limit(error, stream, lines, address, is_crowded=is_crowded)
            return None if answer is None else Refusal(answer, whole)
        if not looks or stream is None or (fields := _fields(lines)) is None:
            return None
        request = Request(fields)
        request.method, request.target, request.address = "GET", target, address
        refused = self._unwelcome(stream, request, whole=whole)
        if isinstance(refused, Refusal):
            self._looks_at_each = _AFTER_REFUSED
        return refused

    def _looks(self) -> bool:
        """Whether this connection's fields are read here."""
        if self._looks_at_each:
            self._looks_at_each -= 1
            return True
        self._passed = (self._passed + 1) % _LOOKED_AT
        return not self._passed

    def _unwelcome(
        self, stream: StreamKind, request: Request, *, whole: bool
    ) -> Refusal | Judged | None:
        """Judge a handshake as the dispatcher and the opening of a session do; None for no plain
        one."""
        fields = request.headers
        if not _NOT_PLAIN.isdisjoint(fields) or not _VISIBLE.fullmatch(request.target):
            return None
        try:
            refuse_ambiguous(request)
        except HubError:
            return None
        origin, host = fields.get("origin"), fields.get("host")
        readable_by: str | None = None
        try:
            self._policy.check_host(host)
            readable_by = origin  # a refused page may read why
            self._policy.check_origin(origin, host, fields.get("sec-fetch-site"))
        except HubError as error:
            self._counters.http_errors[error.code] += 1
            self._on_refused(error, request, request.address)
            return Refusal(self._fixed(error, readable_by), whole)
        judged = self._streams.judge(stream, request)
        if isinstance(judged, bytes):
            # Else the handshake itself was refused, with a status.
            is_farewell = judged.startswith(SWITCHING)
            return Refusal(judged, whole, is_farewell)
        return judged

    def _over_limit(
        self,
        error: HubError,
        stream: StreamKind | None,
        lines: bytes,
        address: str,
        *,
        is_crowded: bool,
    ) -> bytes | None:
        fields = {} if stream is StreamKind.WEBSOCKET else _fields(lines)
        if fields is None:
            return None
        if stream is StreamKind.SSE or "origin" in fields:
            request = Request(fields)
            request.address = address
            return encode(self.turned_away(error, request, stream), close=True)
        # A peer that asks for a WebSocket reads no status of its handshake, whatever its page.
        if is_crowded:
            self._note_full(error, address)
        self._count(error, is_crowded=is_crowded)
        return self._fixed(error, None)

    def turned_away(self, error: HubError, request: Request, stream: StreamKind | None) -> Answer:
        """Count a request on a connection that is one too many; return its answer.

        Only a stream of events has an answer of its own kind for that (`Streams.refusal`).
        """
        self._note_full(error, request.address)
        if stream is StreamKind.SSE:
            return self._streams.refusal(stream, request, error)
        self._count(error, is_crowded=True)
        return problem(error, headers=cross_origin(request.headers.get("origin")))

    def cut_off(self, error: HubError, address: str) -> None:
        """Count a connection for which there is no room even for a refusal."""
        self._note_full(error, address)
        self._counters.refused[error.code] += 1

    def late_head(self, address: str, seconds: float, *, begun: bool) -> RequestTimeoutError:
        """Return the error for a peer without a whole request; note it if it has begun one."""
        error = RequestTimeoutError(f"no whole request head within {seconds:g} seconds")
        if begun:
            self._note(address, RequestTimeoutError(error.message), "slow_request")
        return error

    def let_go(self, address: str, unsent_bytes: int, *, sends: bool) -> None:
        """Note a peer that is cut because it is too slow; none that neither sends nor is owed."""
        if sends:
            self._note(
                address, RequestTimeoutError("the body did not go on in time"), "slow_request"
            )
        elif unsent_bytes:
            error = SlowError(f"{unsent_bytes:,} bytes of an answer were not taken in time")
            self._note(address, error, "slow_reader")

    def _note(self, address: str, error: HubError, refusal: str) -> None:
        error.refusal = refusal
        self._counters.refusals[refusal] += 1
        request = Request()
        request.address = address
        self._on_refused(error, request, address)

    def _note_full(self, error: HubError, address: str) -> None:
        """Note a connection that the node has no room for, unless it serves a probe: so not before
        its first bytes. The limit of an address is noted where it is judged."""
        if isinstance(error, UnavailableError):
            self._limiter.full(address, error.message)

    def _count(self, error: HubError, *, is_crowded: bool) -> None:
        self._counters.refused[error.code] += 1
        if is_crowded:
            self._counters.http_errors[error.code] += 1

    def _is_for_probes(self, path: bytes) -> bool:
        try:
            found = self._table.find(path)
        except HubError:
            return True
        return found is not None and found[0].public

    def _fixed(self, error: HubError, origin: str | None) -> bytes:
        """Return the answer that all peers refused alike within one second share: it has a date."""
        key = error.message, error.retry_after_seconds, origin, int(time.time())
        if (known := self._fixed_answers.get(key)) is None:
            if len(self._fixed_answers) >= _MAX_FIXED:
                self._fixed_answers.clear()
            answer = problem(error, headers=cross_origin(origin))
            known = self._fixed_answers[key] = encode(answer, close=True)
        return known


def _fields(lines: bytes) -> dict[str, str] | None:
    """Return the fields of a head, as the parser reads them.

    None where one is repeated, or where one that an answer repeats holds anything but printable
    characters. Also where the parser may refuse the head.
    """
    if _FIELDS.fullmatch(lines) is None:
        return None
    found = _FIELD.findall(lines)
    fields, _ = fields_by_name(found)
    if not len(fields) == len(found) <= MAX_FIELDS:
        return None
    for name in _PLAIN:
        text = fields.get(name)
        if text is not None and not (text.isascii() and text.isprintable()):
            return None
    return fields
