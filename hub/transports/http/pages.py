"""The files that browsers load: the demo page, the client, the dashboard.

They are few and small, so they are read and compressed once at the start and looked up by exact
name afterwards: no path made from a request ever reaches the file system.

The browser client has two addresses. `/client.js` is asked for again on each visit and answered
304 while it is the same. `/client/hub-HASH.js` names its own content and is kept by browsers for a
year: the hub's own pages import that one, and `/client.js` names it in `Content-Location`.
"""

import gzip
import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from hub.auth.origins import LOOPBACK
from hub.errors import NotFoundError
from hub.transports.http.answer import Answer
from hub.transports.http.ports import HttpDeps
from hub.transports.http.routes import Access, Handler, Route
from hub.transports.request import Request

# What is not listed is not served. Browsers refuse modules without a JavaScript type, and
# `nosniff` forbids them to guess.
_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".json": "application/json",
    ".svg": "image/svg+xml",
    ".png": "image/png",
    ".ico": "image/x-icon",
    ".woff2": "font/woff2",
}
_SAFE = {"Referrer-Policy": "no-referrer"}
# Always asked for again, answered 304 by ETag: a new version is seen at once.
FRESH = {"Cache-Control": "no-cache"}
# RFC 8246: not even a reload asks again. A year is RFC 9111's usual "for ever".
_KEPT = {"Cache-Control": "public, max-age=31536000, immutable"}
# Below this size a compressed body saves no packet.
_MIN_COMPRESSED_BYTES = 1024
# RFC 9110 8.8.3 and 5.6.1: tags with commas between them, where members may be empty.
_TAG = r'(?:W/)?("[\x21\x23-\x7e\x80-\xff]*+")'
_TAGS = re.compile(rf"[ \t,]*+(?:{_TAG}[ \t]*+(?:,[ \t,]*+|\Z))*+")
# What may stand in a policy: anything else in a Host field gets no WebSocket of its own.
_HOST = re.compile(r"[A-Za-z0-9._:\[\]-]{1,255}")
_LOOPBACK_HOST = re.compile(
    rf"({'|'.join(map(re.escape, sorted(LOOPBACK)))})(?P<port>(:\d{{1,5}})?)"
)
# A policy knows no addresses of IPv6 (CSP level 3, section 2.3.1: host-source).
_NAMED_LOOPBACK = sorted(name for name in LOOPBACK if not name.startswith("["))
# The client is public and meant for pages of other origins.
_SHARED = {"Access-Control-Allow-Origin": "*", "Cross-Origin-Resource-Policy": "cross-origin"}
INDEX = "index.html"
BUILT_CLIENT = "client.min.js"


@dataclass(frozen=True, slots=True)
class File:
    """A file as it is served."""

    body: bytes
    content_type: str
    compressed: bytes
    """By gzip; empty where that would not help."""
    digest: str
    """Of its content: 32 hexadecimal digits."""


def read_directory(directory: Path) -> Mapping[str, File]:
    """Every servable file below `directory` by its relative name, such as `app/main.js`.

    Hidden files and those of unknown type are left out; a missing directory is empty.
    """
    return {name: read_file(directory / name) for name in sorted(asset_names(directory))}


def asset_names(directory: Path) -> frozenset[str]:
    """Of the servable files below `directory`."""
    found = (path for path in directory.rglob("*") if path.suffix in _TYPES and path.is_file())
    names = (path.relative_to(directory).as_posix() for path in found)
    return frozenset(name for name in names if not _is_hidden(name))


def _is_hidden(name: str) -> bool:
    return any(part.startswith(".") for part in name.split("/"))


def read_file(path: Path) -> File:
    """A file of one of the types that are served."""
    return file_of(path.read_bytes(), _TYPES[path.suffix])


def file_of(body: bytes, content_type: str) -> File:
    """What is served as `body`."""
    compressible = len(body) >= _MIN_COMPRESSED_BYTES and not content_type.startswith(
        ("image/png", "font/")
    )
    compressed = gzip.compress(body, mtime=0) if compressible else b""
    return File(body, content_type, compressed, hashlib.sha256(body).hexdigest()[:32])


def _importing(files: Mapping[str, File], client: str) -> Mapping[str, File]:
    """`files` with their imports of `client.js` naming the file that browsers may keep."""

    def rewritten(file: File) -> File:
        body = file.body.replace(b'client.js"', f'{client}"'.encode())
        return file if body == file.body else file_of(body, file.content_type)

    return {name: rewritten(file) if name.endswith(".js") else file for name, file in files.items()}


class Pages:
    """Answers with files, which everybody may read."""

    def __init__(self, deps: HttpDeps) -> None:
        pages = dict(read_directory(deps.pages))
        self._client = pages.pop(BUILT_CLIENT)
        self._kept_name = f"client/hub-{self._client.digest[:12]}.js"
        self._page = _importing(pages, self._kept_name)
        self._modules = read_directory(deps.client)
        self._dashboard = _importing(read_directory(deps.dashboard), self._kept_name)
        self._is_alone = deps.fallback is None
        """`/` and the demo page are the application's where there is one."""

    def routes(self) -> tuple[Route, ...]:
        shared = (
            _route("/client.js", self._newest_client),
            _route("/client/{file:path}", self._client_file),
            _route("/dashboard", self._dashboard_file),
            _route("/dashboard/{file:path}", self._dashboard_file),
        )
        if not self._is_alone:
            return shared
        # The page's own `client.js` is there for the type checker: pages of other origins load
        # the one above, which says that they may.
        named = {f"/{name}": file for name, file in self._page.items()}
        named.pop("/client.js", None)
        if INDEX in self._page:
            named["/"] = self._page[INDEX]
        return shared + tuple(_route(path, _page_file(file)) for path, file in named.items())

    def _client_file(self, request: Request) -> Answer:
        """The client under the name that may be kept, or a module that it is built of."""
        name = request.params["file"]
        if f"client/{name}" == self._kept_name:
            return answer_file(request, self._client, _SHARED | _KEPT)
        return answer_file(request, _named(self._modules, name), _SHARED | FRESH)

    def _newest_client(self, request: Request) -> Answer:
        location = {"Content-Location": self._kept_name}
        return answer_file(request, self._client, _SHARED | FRESH | location)

    def _dashboard_file(self, request: Request) -> Answer:
        """The page without any figures: it asks for a key itself, and the API checks that."""
        return answer_file(
            request, _named(self._dashboard, request.params.get("file", INDEX)), FRESH
        )


def _route(path: str, handler: Handler) -> Route:
    return Route(
        method="GET", path=path, access=Access.ANYBODY, handler=handler, summary="A page's file"
    )


def _page_file(file: File) -> Handler:
    return lambda request: answer_file(request, file, FRESH)


def _named(files: Mapping[str, File], name: str) -> File:
    file = files.get(name)
    if file is None:
        raise NotFoundError(f"no file {name[:80]!r} here")
    return file


def takes_gzip(accepted: str) -> bool:
    """Whether an `Accept-Encoding` field names gzip and does not refuse it (RFC 9110 12.5.3)."""
    for part in accepted.lower().split(","):
        coding, *parameters = [piece.strip() for piece in part.split(";")]
        if coding in {"gzip", "x-gzip"}:
            return not any(re.fullmatch(r"q=0(\.0{0,3})?", piece) for piece in parameters)
    return False


def _is_named(etag: str, field: str) -> bool:
    """Whether an `If-None-Match` field names this tag, compared as weak ones (RFC 9110 13.1.2)."""
    if field.strip(" \t") == "*":
        return True
    return _TAGS.fullmatch(field) is not None and etag in re.findall(_TAG, field)


@lru_cache(maxsize=64)
def _policy(host: str) -> str:
    """What the pages may load (CSP level 3): their own hub, by HTTP and WebSocket, and no more.

    `'self'` alone covers a WebSocket only in newer browsers. A hub on loopback has several names.
    """
    own = f"'self' ws://{host} wss://{host}" if _HOST.fullmatch(host) else "'self'"
    local = _LOOPBACK_HOST.fullmatch(host)
    if local is not None:
        port = local["port"]
        own += "".join(f" http://{name}{port} ws://{name}{port}" for name in _NAMED_LOOPBACK)
    return (
        f"default-src 'self'; connect-src {own}; frame-ancestors 'none'; "
        "base-uri 'none'; form-action 'none'; object-src 'none'"
    )


def answer_file(request: Request, file: File, headers: Mapping[str, str]) -> Answer:
    """The file, or 304 for whoever has it; with `headers` of its own."""
    policy = {"Content-Security-Policy": _policy(request.headers.get("host", ""))}
    compressed = bool(file.compressed) and takes_gzip(request.headers.get("accept-encoding", ""))
    etag = f'"{file.digest}{"-gzip" if compressed else ""}"'
    headers = _SAFE | policy | {"ETag": etag, "Vary": "Accept-Encoding"} | dict(headers)
    if _is_named(etag, request.headers.get("if-none-match", "")):
        return Answer(status=304, headers=headers)
    if not compressed:
        return Answer(file.body, content_type=file.content_type, headers=headers)
    headers["Content-Encoding"] = "gzip"
    return Answer(file.compressed, content_type=file.content_type, headers=headers)
