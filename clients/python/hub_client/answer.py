"""Write the bytes of one POST and read its answer with httptools. No I/O, no clock.

Publishing is one small POST after another, and a general HTTP client costs three to ten times as
much as the exchange itself (clients/python/README.md has the figures). So a publisher that goes
straight to its hub writes the request itself, and reads with the parser that the hub uses. Requests
by way of a proxy use httpx2 (`proxied_post`).
"""

import base64
import re
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import quote, unquote, urlsplit

import httptools

# An answer of 1,000 results is some 200 KiB; a longer one is not the hub's.
MAX_ANSWER_BYTES = 4 * 1024 * 1024
_DEFAULT_PORTS = {"http": 80, "https": 443}
_FRAMING = frozenset({b"content-length", b"transfer-encoding"})


@dataclass(frozen=True, slots=True)
class HttpResponse:
    """A server's answer, of a hub or of anything else."""

    status: int
    retry_after: str
    body: bytes
    """The body, at most `MAX_ANSWER_BYTES` and a chunk."""


class PostFailedError(Exception):
    """No answer came; the error stays within the package."""

    def __init__(
        self, why: str, *, reached: bool, ours: bool = False, untrusted: bool = False
    ) -> None:
        """Args:
        why: for the error's message.
        reached: whether the hub may have read the request.
        ours: whether it is no fault of the hub (no connection was free).
        untrusted: whether the hub's certificate is not trusted, so that another attempt is vain.
        """
        super().__init__(why)
        self.reached = reached
        self.ours = ours
        self.untrusted = untrusted


def not_reached(error: Exception) -> PostFailedError:
    """Return the error for a connection that could not be made."""
    text = str(error) or "no connection in time"
    if (said := untrusted(text)) is not None:
        return PostFailedError(said, reached=False, untrusted=True)
    return PostFailedError(f"ConnectError: {text}; {first_check(text)}", reached=False)


def first_check(text: str) -> str:
    """Return the first thing to check where no connection could be made, by the error's text.

    The words are OpenSSL's, for an answer that is no TLS.
    """
    if "WRONG_VERSION_NUMBER" in text:
        return "does the URL begin with http:// there?"
    return "is a hub running there?"


UNTRUSTED = "untrusted_certificate"
"""The code of an error about a certificate that is not trusted."""


def untrusted(text: str) -> str | None:
    """Return what is wrong with a certificate, and the cure; None where the error `text` has
    another subject. The words are OpenSSL's, as Python passes them on."""
    if "CERTIFICATE_VERIFY_FAILED" not in text:
        return None
    found = re.search(r"certificate verify failed: (.+?)\.?(?: \(_ssl.*)?$", text)
    why = found[1] if found else text
    if "expired" in why:
        cure = "the hub needs a new one"
    elif "not valid for" in why:
        cure = "use a name that stands in it"
    else:
        cure = "SSL_CERT_FILE names a file with the certificates to trust"
    return f"the hub's certificate is not trusted ({why}): {cure}"


def cut(error: Exception | None) -> PostFailedError:
    """Return the error for a connection that ended before the answer did."""
    if isinstance(error, TimeoutError):
        return PostFailedError("TimeoutError: no answer in time", reached=True)
    text = str(error or "") or "the connection ended before the answer"
    return PostFailedError(f"ReadError: {text}", reached=True)


def none_free() -> PostFailedError:
    return PostFailedError("PoolTimeout: no connection was free in time", reached=False, ours=True)


@dataclass(frozen=True, slots=True)
class PostTarget:
    """The server's address, and the head of each request."""

    host: str
    port: int
    secure: bool
    head: bytes
    """The head up to the length of the body."""

    @classmethod
    def of(cls, url: str, headers: Mapping[str, str]) -> "PostTarget":
        """Args:
        url: of the endpoint; a user's name and password in it are sent as HTTP knows them.
        headers: of every request; they hold no line end.
        """
        parts = urlsplit(url)
        host = (parts.hostname or "").encode("idna").decode() if parts.hostname else ""
        named = f"[{host}]" if ":" in host else host
        port = parts.port or _DEFAULT_PORTS[parts.scheme]
        if port != _DEFAULT_PORTS[parts.scheme]:
            named = f"{named}:{port}"
        given = {"Host": named, **headers}
        if parts.username is not None:
            user = f"{unquote(parts.username)}:{unquote(parts.password or '')}".encode()
            given["Authorization"] = f"Basic {base64.b64encode(user).decode()}"
        lines = "".join(f"{name}: {value}\r\n" for name, value in given.items())
        path = quote(parts.path, safe="/%:@!$&'()*+,;=-._~")
        head = f"POST {path} HTTP/1.1\r\n{lines}Content-Length: ".encode()
        return cls(host, port, parts.scheme == "https", head)

    def request(self, body: bytes) -> bytes:
        return b"%b%d\r\n\r\n%b" % (self.head, len(body), body)


class AnswerReader:
    """Read the answers of one connection, one after another."""

    def __init__(self) -> None:
        self._parser = httptools.HttpResponseParser(self)
        self._forget()

    def begin(self) -> None:
        """Note that another request goes out; the answer before was whole, and `may_reuse`."""
        self._forget()

    def _forget(self) -> None:
        self._retry_after = ""
        self._framed = False
        self._body: list[bytes] = []
        self._size = 0
        self._begun = False
        self.answer: HttpResponse | None = None
        self.may_reuse = False
        """Whether the connection can carry another request."""

    def feed(self, data: bytes) -> None:
        """Read on; `answer` is set once it is whole, or too long for a hub's.

        Raises:
            PostFailedError: The bytes are no HTTP.
        """
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as error:
            self.may_reuse = False
            if self.answer is None:
                text = f"RemoteProtocolError: {error}"
                raise PostFailedError(text, reached=True) from None
        if self.answer is None and self._size > MAX_ANSWER_BYTES:
            self._finish()

    def end(self) -> None:
        """Take the end of the connection. It ends an answer that names no length (RFC 9112 section
        6.3); raise `PostFailedError` in the middle of any other."""
        if self.answer is None and self._begun and not self._framed:
            self._finish()
        if self.answer is None:
            raise cut(None)

    def _finish(self) -> None:
        status = self._parser.get_status_code()
        self.answer = HttpResponse(status, self._retry_after, b"".join(self._body))

    # -- called by the parser --------------------------------------------------------------

    def on_message_begin(self) -> None:
        if self.answer is not None:
            self.may_reuse = False  # an answer that nobody has asked for

    def on_header(self, name: bytes, value: bytes) -> None:
        lowered = name.lower()
        if lowered == b"retry-after":
            self._retry_after = value.decode("latin-1")
        elif lowered in _FRAMING:
            self._framed = True

    def on_headers_complete(self) -> None:
        # RFC 9110 section 15.2: before the answer others may come that only inform.
        self._begun = self._parser.get_status_code() >= 200

    def on_body(self, data: bytes) -> None:
        self._body.append(data)
        self._size += len(data)

    def on_message_complete(self) -> None:
        if not self._begun:
            self._retry_after, self._framed = "", False
        elif self.answer is None:
            self.may_reuse = self._parser.should_keep_alive()
            self._finish()
