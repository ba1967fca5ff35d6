"""The head of a request, read whole by a strict parser (llhttp, RFC 9112)."""

from dataclasses import dataclass, field

import httptools

from hub.errors import BadRequestError


@dataclass(slots=True)
class RequestHead:
    """What a GET asks for."""

    method: str = ""
    version: str = ""
    target: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)
    """By lower-case name; repeated ones joined by commas (RFC 9110 section 5.2)."""

    @property
    def path(self) -> bytes:
        return self.target.partition(b"?")[0]

    @property
    def query(self) -> bytes:
        return self.target.partition(b"?")[2]

    # -- callbacks of httptools --

    def on_url(self, url: bytes) -> None:
        self.target += url

    def on_header(self, name: bytes, value: bytes) -> None:
        key, text = name.decode("latin-1").lower(), value.decode("latin-1")
        before = self.headers.get(key)
        self.headers[key] = text if before is None else f"{before}, {text}"


def parse_head(raw: bytes) -> RequestHead:
    """Read a head that ends with an empty line.

    Raises:
        BadRequestError: it is not an HTTP request.
    """
    head = RequestHead()
    parser = httptools.HttpRequestParser(head)
    try:
        parser.feed_data(raw)
    except httptools.HttpParserUpgrade:
        pass
    except httptools.HttpParserError as error:
        raise BadRequestError(f"not an HTTP request: {error}") from None
    head.method = parser.get_method().decode("latin-1")
    head.version = parser.get_http_version()
    if int(head.headers.get("content-length", "0") or 0) or "transfer-encoding" in head.headers:
        raise BadRequestError("this request takes no body")
    return head
