"""Heads of publishers that were read, judged and passed, and come again byte for byte.

A publisher sends the same head with each publication but for the body's length and the idempotency
key. Read, routed and judged once, it is found again by all its other bytes, and a request that is
whole in one read is then handed on without the parser. That is safe: between two messages a parser
has no memory, so equal bytes have the meaning that they had before. The two values that may differ
are taken only where their characters have one reading: digits alone, and printable ASCII without a
space.

Most publishers send the same head on a connection again and again, so a connection tries the last
head before any is looked up: `again` compares where `cut` searches and joins.

Example: `POST /api/publish/a HTTP/1.1`, `Host: x`, `Content-Length: 17` has passed. The same with
`Content-Length: 18` is known; with one more space, or the fields in another order, it is not.
"""

from collections.abc import Mapping

from msgspec import Struct

from hub.core.identity import Identity
from hub.transports.http.routes import Prepared, Route
from hub.transports.request import Cut, Request

_END = b"\r\n\r\n"
_LENGTH = b"\r\nContent-Length: "
_KEY = b"\r\nIdempotency-Key: "
_KEY_NAME = "idempotency-key"
# 9 digits are more than any body's limit.
_MAX_LENGTH_DIGITS = 9
# Heads that are remembered, and how long one may be.
_MAX_HEADS = 1024
_MAX_HEAD_BYTES = 1024
# Characters that distinguish a head once it is read, at most.
_MAX_READ_CHARACTERS = 512

Found = tuple[int, int, str | None]
"""The size of a head, and the values of `Content-Length` and `Idempotency-Key`."""


_Read = tuple[str, bytes, str | None, str | None, str | None]
"""Method, target, host, `Authorization` and `X-API-Key`."""
Passed = tuple[Route, Mapping[str, str], Identity]
"""The meaning of a head that was read and judged."""


class KnownHead(Struct, frozen=True):
    """A head that has passed, with its meaning."""

    route: Route
    method: str
    target: bytes
    headers: dict[str, str]
    """The fields without the values that may differ. Requests share them: none changes a field."""
    params: Mapping[str, str]
    identity: Identity
    parts: tuple[bytes, ...]
    """The head without the two values: the bytes before, between and behind them."""
    has_key: bool
    """Whether there is an idempotency key, and so a part between."""
    key_first: bool
    """Whether the key stands before the length."""
    prepared: Prepared | None
    """Answers such a request without a look at its head; None where the route cannot."""


def cut(data: bytes, at: int) -> Cut | None:
    """Return the head that begins in `data` at `at`; None where it may not be known."""
    if (end := data.find(_END, at)) < 0 or end - at > _MAX_HEAD_BYTES:
        return None
    if (before := data.find(_LENGTH, at, end)) < 0:
        return None
    before += len(_LENGTH)
    behind = data.find(b"\r", before)
    digits = data[before:behind]
    if not digits.isdigit() or len(digits) > _MAX_LENGTH_DIGITS:
        return None
    end += len(_END)
    rest = data[at:before] + data[behind:end]
    if (start := rest.find(_KEY)) < 0:
        return rest, end - at, int(digits), None
    start += len(_KEY)
    stop = rest.find(b"\r", start)
    if (key := _key(rest[start:stop])) is None:
        return None
    return rest[:start] + rest[stop:], end - at, int(digits), key


def again(known: KnownHead, data: bytes, at: int) -> Found | None:
    """Return the values of the head that begins in `data` at `at`, where it is `known`; else None.

    Where it returns values, `cut` would have found the same.
    """
    parts = known.parts
    if not data.startswith(parts[0], at):
        return None
    begins = at + len(parts[0])
    if not known.has_key:
        ends = data.find(b"\r", begins, begins + _MAX_LENGTH_DIGITS + 1)
        digits, key = data[begins:ends], None
    else:
        middle = data.find(b"\r", begins, begins + _MAX_HEAD_BYTES)
        if middle < 0 or not data.startswith(parts[1], middle):
            return None
        second = middle + len(parts[1])
        ends = data.find(b"\r", second, second + _MAX_HEAD_BYTES)
        if known.key_first:
            digits, text = data[second:ends], data[begins:middle]
        else:
            digits, text = data[begins:middle], data[second:ends]
        if len(digits) > _MAX_LENGTH_DIGITS or (key := _key(text)) is None:
            return None
    if ends < 0 or not data.startswith(parts[-1], ends) or not digits.isdigit():
        return None
    ends += len(parts[-1])
    return None if ends - at > _MAX_HEAD_BYTES else (ends - at, int(digits), key)


def _key(data: bytes) -> str | None:
    """Return an idempotency key; None where its bytes may be read in several ways."""
    key = str(data, "latin-1")
    return key if key.isascii() and key.isprintable() and " " not in key and key else None


class KnownHeads:
    """The known heads; one per node. A look-up by a hash of all bytes discloses no key by its time.

    Only heads are known that hold until keys change.
    """

    __slots__ = ("_heads", "_read", "edition")

    def __init__(self) -> None:
        self._heads: dict[bytes, KnownHead] = {}
        self._read: dict[_Read, Passed] = {}
        """Heads by their fields, which are known once the fields are read."""
        self.edition = 0
        """Changes whenever known heads are forgotten."""

    def find(self, head: Cut) -> KnownHead | None:
        """Return the known head; None where it is not known, or its body would be refused."""
        known = self._heads.get(head[0])
        return None if known is None or head[2] > known.route.body_limit else known

    def forget(self) -> None:
        """Forget all heads: access has changed."""
        self._heads.clear()
        self._read.clear()
        self.edition += 1

    def passed(self, request: Request) -> Passed | None:
        """Return the meaning of a head with these fields; None where none such has passed."""
        return self._read.get(_fields(request))

    def remember_read(self, request: Request, route: Route) -> None:
        """Know a head by its fields from now on, unless they are too long."""
        read = _fields(request)
        if sum(len(part) for part in read if part is not None) <= _MAX_READ_CHARACTERS:
            if len(self._read) >= _MAX_HEADS:
                self._read.clear()
            self._read[read] = route, request.params, request.identity

    def remember(self, head: Cut, request: Request, route: Route) -> None:
        """Know `head`, which was read as `request`, from now on.

        A head is not remembered where a line of it may be anything but one of the fields: only the
        parser finds the end of such a head.
        """
        rest, _, length, key = head
        headers, lines = dict(request.headers), rest.count(b"\r\n")
        values = headers.pop("content-length", ""), headers.pop(_KEY_NAME, None)
        # Besides the fields there are a request line, an empty one, and those of the two values.
        plain = lines == len(headers) + 3 + (key is not None)
        if rest.count(b"\r") != lines or rest.count(b"\n") != lines:
            return
        if not plain or values != (f"{length}", key):
            return
        if len(self._heads) >= _MAX_HEADS:
            self._heads.clear()
        parts, key_first = _parts(rest, has_key=key is not None)
        self._heads[rest] = KnownHead(
            route,
            request.method,
            request.target,
            headers,
            request.params,
            request.identity,
            parts,
            key is not None,
            key_first,
            None if route.prepare is None else route.prepare(request),
        )


def _fields(request: Request) -> _Read:
    get = request.headers.get
    return request.method, request.target, get("host"), get("authorization"), get("x-api-key")


def _parts(rest: bytes, *, has_key: bool) -> tuple[tuple[bytes, ...], bool]:
    """Cut a head at the places of its two values; return the parts, and if the key is first."""
    length = rest.index(_LENGTH) + len(_LENGTH)
    if not has_key:
        return (rest[:length], rest[length:]), False
    key = rest.index(_KEY) + len(_KEY)
    first, second = sorted((length, key))
    return (rest[:first], rest[first:second], rest[second:]), key < length


def fields_of(known: KnownHead, key: str | None) -> dict[str, str]:
    """Return the header fields of a request with a known head and this idempotency key."""
    return known.headers if key is None else {**known.headers, _KEY_NAME: key}
