"""Requests out of bytes: llhttp's callbacks with the rules that it leaves to its caller.

The parser alone decides where a message ends. An `Upgrade` that nobody takes is the one place where
llhttp stops before the body: a second parser then gets the framing fields of that head alone, and
reads the body and all bytes that follow.

No I/O and no clock. Requests go to a `RequestSink` as they are read; nothing is raised.
"""

from typing import Protocol

import httptools

from hub.errors import BadRequestError, HeadersTooLargeError, HubError
from hub.transports.http.known import KnownHead, KnownHeads, again, cut
from hub.transports.request import (
    FIELD_BYTES,
    Cut,
    Request,
    fields_by_name,
    has_body,
    refuse_ambiguous,
)

# Chunks of one byte are six times their payload. More than this is no publisher's framing.
_WIRE_TIMES_PAYLOAD = 8
_WIRE_ALLOWANCE_BYTES = 64 * 1024
# Each field is an object or two, however few bytes it has. Apache takes 100.
MAX_FIELDS = 128
_SECRET = frozenset({"authorization", "cookie", "x-api-key"})
_NO_HEAD: tuple[list[tuple[bytes, bytes]], dict[str, str], int] = ([], {}, 0)
_NO_REQUEST = Request()
# Bounds of a head and a host that are kept while their connection is idle: guesses, not measured.
_REMEMBERED_FIELDS = 32
_REMEMBERED_BYTES = 2 * 1024
_REMEMBERED_HOST = 256
# Heads that may be known begin so. After this many unknown heads in a row the reader looks no more:
# their publisher sends another field each time. Guess, not measured.
_POST = b"POST "
_MAX_STRANGE = 16


class RequestSink(Protocol):
    """Receives the parts of requests, in the order of the bytes."""

    def head_read(self, request: Request) -> bool:
        """Take a whole head; return whether the upgrade that it asks for would be taken."""
        ...

    def body_read(self, data: bytes) -> None: ...

    def request_read(self) -> None:
        """Note that the request is whole."""
        ...

    def known_read(self, known: KnownHead, key: str | None, body: bytes) -> None:
        """Take a whole request with a known head, in place of the three calls above."""
        ...

    def broken(self, error: HubError) -> None:
        """Note that bytes are no request; the reader reads nothing more."""
        ...


class RequestReader:
    """Reads one connection's requests.

    Args:
        sink: receives the requests.
        max_head_bytes: of a request line and its header fields together, and of bytes of a body
            without payload: trailers, or the framing of a chunk.
        address: the client's, for each request.
        keep_raw: whether requests also hold their header fields as they came.
        heads: heads that are known; None where each head is to be read.
    """

    __slots__ = (
        "_address", "_bare_bytes", "_cut", "_edition", "_fed_head_bytes", "_fields",
        "_has_payload", "_head_bytes", "_heads", "_host", "_keep_raw", "_known", "_last",
        "_max_head_bytes", "_measured",
        "_overhead", "_parser", "_request", "_silent", "_sink", "_stopped", "_strange", "_takes",
        "_target", "in_head", "in_message", "messages", "rest",
    )  # fmt: skip

    def __init__(
        self,
        sink: RequestSink,
        *,
        max_head_bytes: int,
        address: str,
        keep_raw: bool = False,
        heads: KnownHeads | None = None,
    ) -> None:
        self._sink = sink
        self._max_head_bytes = max_head_bytes
        self._address = address
        self._keep_raw = keep_raw
        self._parser = httptools.HttpRequestParser(self)
        self._heads = None if keep_raw else heads
        self._cut: Cut | None = None
        """The head that is fed next, without the values that may differ."""
        self._known: KnownHead | None = None
        """The head that was known last: the next is nearly always the same."""
        self._edition = 0
        """The edition of the known heads then."""
        self._strange = 0
        """Number of heads in a row that were not known."""
        self._host: str | None = None
        """The host of the connection's last requests, which was checked."""
        self._request = _NO_REQUEST
        """The request that is read now."""
        self._target = b""
        self._fields: list[tuple[bytes, bytes]] = []
        """Fields of the head that is read now, as they came."""
        self._last = _NO_HEAD
        """Fields that were read last, where they are few: most publishers send the same again and
        again."""
        self._measured = 0
        """Number of the fields that `_head_bytes` counts."""
        self._head_bytes = 0
        self._fed_head_bytes = 0
        self._overhead = 0
        """Bytes of a body's framing so far, less the allowance for its payload."""
        self._has_payload = False
        """Whether the bytes that are fed now had payload."""
        self._bare_bytes = 0
        """Bytes of a body since its last payload, or since its head."""
        self._silent = False
        """Whether the head that is fed now repeats one that was read."""
        self._takes = False
        """Whether the upgrade of the request that is read now would be taken."""
        self._stopped = False
        self.in_head = False
        self.in_message = False
        self.messages = 0
        """Number of messages that have begun."""
        self.rest: bytes | None = None
        """Bytes behind the head of an upgrade that would be taken; None without one."""

    def feed(self, data: bytes) -> None:
        """Read `data`, unless the reader was stopped or stands behind an upgrade."""
        if self._heads is not None and not self.in_message and data.startswith(_POST):
            data = self._pass_known(data, self._heads)
        while data and not self._stopped:
            if self.rest is not None:
                self.rest += data
                return
            began, was_in_message, was_in_head = self.messages, self.in_message, self.in_head
            try:
                self._parser.feed_data(data)
            except httptools.HttpParserUpgrade as upgrade:
                data = self._behind_upgrade(data[upgrade.args[0] :])
                continue
            except httptools.HttpParserCallbackError as error:
                # A fault of the hub in a callback: the peer has spoken HTTP.
                raise error.__context__ or error from None
            except httptools.HttpParserError as error:
                self._break(BadRequestError(f"not an HTTP request: {error}"))
                return
            if self.in_message:
                begins = self.messages - began
                self._count(len(data), begins, was_in_message=was_in_message, in_head=was_in_head)
            return

    def _pass_known(self, data: bytes, heads: KnownHeads) -> bytes:
        """Hand on the requests at the front of `data` whose heads are known; return the rest.

        Call it only between two messages, where the parser has no memory of earlier bytes.
        """
        at, size, sink = 0, len(data), self._sink
        while at < size and self.rest is None and not self._stopped:
            known = self._known if self._edition == heads.edition else None
            found = None if known is None else again(known, data, at)
            if (
                known is None
                or found is None
                or found[0] > self._max_head_bytes
                or found[1] > known.route.body_limit
            ):
                if (known := self._look_up(data, at, heads)) is None:
                    break
                self._known, self._edition = known, heads.edition
                continue
            head_bytes, body_bytes, key = found
            begins = at + head_bytes
            if (ends := begins + body_bytes) > size:
                break
            self.messages += 1
            sink.known_read(known, key, data[begins:ends])
            at = ends
        return data[at:] if at else data

    def _look_up(self, data: bytes, at: int, heads: KnownHeads) -> KnownHead | None:
        """Return the meaning of the head that begins in `data` at `at`, where it is known."""
        if not data.startswith(_POST, at) or (head := cut(data, at)) is None:
            return None
        if head[1] > self._max_head_bytes:
            return None
        known = heads.find(head)
        if known is not None:
            self._strange = 0
            return known
        self._strange += 1
        self._cut = head
        if self._strange > _MAX_STRANGE:
            self._heads = None
        return None

    def unfinished(self) -> HubError | None:
        """Return the error of a request that its peer has broken off; None between two requests."""
        if not self.in_message:
            return None
        where = "head" if self.in_head else "body"
        return BadRequestError(f"the connection ended inside the {where} of a request")

    def stop(self) -> None:
        """Read nothing more: bytes that follow belong to no request."""
        self._stopped = True

    def close(self) -> None:
        """Let go of the parser and the sink, which refer to the reader; not while it is fed."""
        self._stopped = True
        try:
            del self._parser, self._sink
        except AttributeError:
            """The reader was closed before."""

    def _count(self, size: int, begins: int, *, was_in_message: bool, in_head: bool) -> None:
        """Check the limits of a message that is not whole, after `size` bytes were fed.

        Args:
            begins: the number of messages that have begun in these bytes.
            was_in_message: whether a message was not whole before them.
            in_head: whether its head was not whole either.
        """
        if self.in_head:
            if in_head and not begins:
                self._fed_head_bytes += size
            else:
                # Behind another message the head's own part of the bytes is not known: count none.
                alone = not was_in_message and begins == 1
                self._fed_head_bytes = size if alone else 0
            for name, value in self._fields[self._measured :]:
                self._head_bytes += len(name) + len(value) + FIELD_BYTES
            self._measured = len(self._fields)
            self._check_head(max(self._head_bytes, self._fed_head_bytes), self._measured)
        elif was_in_message and not begins:
            self._overhead += size
            self._bare_bytes = 0 if self._has_payload else self._bare_bytes + size
            self._has_payload = False
            if self._bare_bytes > self._max_head_bytes:
                # httptools copies a trailer anew with each part of it that comes.
                limit = f"{self._max_head_bytes:,}"
                error = f"the body has over {limit} bytes of trailers or framing in one place"
                self._break(BadRequestError(error))
            elif self._overhead > _WIRE_ALLOWANCE_BYTES:
                self._break(BadRequestError("the body is nearly all framing"))

    def _behind_upgrade(self, rest: bytes) -> bytes:
        """Go on where the parser stopped; return the bytes that it is to be fed next."""
        request = self._request
        if self._stopped:
            return b""
        if self._takes:
            self.rest = rest
            self._end_message()
            return b""
        if not has_body(request):
            self._end_message()
            return rest
        # RFC 9110 section 7.8: a server may ignore the field; the body is read as ever.
        self._parser = httptools.HttpRequestParser(self)
        self._silent = True
        name = "transfer-encoding" if "transfer-encoding" in request.headers else "content-length"
        framing = f"{name}: {request.headers[name]}"
        self._parser.feed_data(f"POST / HTTP/1.1\r\n{framing}\r\n\r\n".encode("latin-1"))
        return rest

    # -- callbacks of httptools --------------------------------------------------------------

    def on_message_begin(self) -> None:
        if self._silent or self._stopped:
            return
        self.messages += 1
        self.in_head = self.in_message = True
        self._takes = self._has_payload = False
        self._target = b""
        self._fields = []
        self._measured = self._head_bytes = self._fed_head_bytes = 0
        self._overhead = self._bare_bytes = 0

    def on_url(self, url: bytes) -> None:
        if not self._silent:
            self._target += url

    def on_header(self, name: bytes, value: bytes) -> None:
        # Else a trailer, which nothing here asks for (RFC 9110 section 6.5.1), or a repetition.
        if self.in_head:
            self._fields.append((name, value))

    def on_headers_complete(self) -> None:
        if self._silent or self._stopped:
            return
        self.in_head = False
        parser = self._parser
        headers, size = self._read_fields()
        count = len(self._fields)
        request = self._request = Request(headers)
        request.address = self._address
        if self._cut is not None:
            request.cut, self._cut = self._cut, None
        if self._keep_raw:
            raw = self._fields
            request.raw_headers = [(name.lower(), value.strip(b" \t")) for name, value in raw]
        self._fields = []
        method = request.method = str(parser.get_method(), "latin-1")
        target = request.target = self._target
        self._target = b""
        if (version := parser.get_http_version()) != "1.1":
            request.version = version
        if not parser.should_keep_alive():
            request.keep_alive = False
        if parser.should_upgrade():
            request.upgrade = True
        if not self._check_head(size + len(method) + len(target) + 14, count):
            return
        host = headers.get("host")
        if (
            host is None
            or host != self._host
            or target[:1] != b"/"
            or version != "1.1"
            or "transfer-encoding" in headers
            or method == "CONNECT"
        ):
            try:
                refuse_ambiguous(request)
            except HubError as error:
                self._break(error)
                return
            self._host = host if host and len(host) <= _REMEMBERED_HOST else None
        self._takes = self._sink.head_read(request)

    def _read_fields(self) -> tuple[dict[str, str], int]:
        """Return the head's fields by name, and the number of bytes that they took."""
        fields = self._fields
        if fields == self._last[0]:
            _, headers, size = self._last
            return headers.copy(), size
        headers, size = fields_by_name(fields)
        # Heads with secrets are not compared: the time of that would disclose them.
        # Most connections bring one request; of those with more, the second is the first to repeat.
        small = (
            self.messages > 1 and len(fields) <= _REMEMBERED_FIELDS and size <= _REMEMBERED_BYTES
        )
        if small and not self._keep_raw and _SECRET.isdisjoint(headers):
            self._last = fields, headers.copy(), size
        else:
            self._last = _NO_HEAD
        return headers, size

    def on_body(self, body: bytes) -> None:
        if not self._stopped:
            self._has_payload = True
            self._overhead -= len(body) * _WIRE_TIMES_PAYLOAD
            self._sink.body_read(body)

    def on_message_complete(self) -> None:
        if self._silent or not (self._stopped or self._request.upgrade):
            self._end_message()

    def _end_message(self) -> None:
        keep_alive = self._request.keep_alive
        self.in_message = self.in_head = self._silent = False
        self._request = _NO_REQUEST
        if not self._stopped:
            # Bytes behind a request that is its peer's last are no request.
            self._stopped = not keep_alive
            self._sink.request_read()

    # -- refusing ------------------------------------------------------------------------------

    def _check_head(self, size: int, fields: int) -> bool:
        if size > self._max_head_bytes:
            error = f"request head is over {self._max_head_bytes:,} bytes"
        elif fields > MAX_FIELDS:
            error = f"request head has {fields:,} fields, limit is {MAX_FIELDS:,}"
        else:
            return True
        self._break(HeadersTooLargeError(error))
        return False

    def _break(self, error: HubError) -> None:
        if not self._stopped:
            self._stopped = True
            self._fields = []
            self._sink.broken(error)
