"""The files that browsers load: the demo page, the client's modules, the dashboard.

They are few and small, so they are read once at the start and looked up by exact name
afterwards: no path made from a request ever reaches the file system.
"""

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

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
_SAFE = {
    # Always asked for again, answered 304 by ETag: a new version is seen at once.
    "Cache-Control": "no-cache",
    "Referrer-Policy": "no-referrer",
}
# What may stand in a policy: anything else in a Host field gets no WebSocket of its own.
_HOST = re.compile(r"[A-Za-z0-9._:\[\]-]{1,255}")
# The client's modules are public and meant for pages of other origins.
_SHARED = {"Access-Control-Allow-Origin": "*", "Cross-Origin-Resource-Policy": "cross-origin"}
INDEX = "index.html"
CLIENT_ENTRY = "served.js"


@dataclass(frozen=True, slots=True)
class File:
    """A file as it is served."""

    body: bytes
    content_type: str
    etag: str


def read_directory(directory: Path) -> Mapping[str, File]:
    """Every servable file below `directory` by its relative name, such as `app/main.js`.

    Hidden files and those of unknown type are left out; a missing directory is empty.
    """
    found = sorted(path for path in directory.rglob("*") if path.suffix in _TYPES)
    names = {path.relative_to(directory).as_posix(): path for path in found if path.is_file()}
    return {name: _read(path) for name, path in names.items() if not _is_hidden(name)}


def _is_hidden(name: str) -> bool:
    return any(part.startswith(".") for part in name.split("/"))


def _read(path: Path) -> File:
    body = path.read_bytes()
    return File(body, _TYPES[path.suffix], f'"{hashlib.sha256(body).hexdigest()[:32]}"')


class Pages:
    """Answers with files, which everybody may read."""

    def __init__(self, deps: HttpDeps) -> None:
        self._page = read_directory(deps.pages)
        self._client = read_directory(deps.client)
        self._dashboard = read_directory(deps.dashboard)
        self._entry = _entry_module()
        self._is_alone = deps.fallback is None
        """`/` and the demo page are the application's where there is one."""

    def routes(self) -> tuple[Route, ...]:
        shared = (
            _route("/client.js", self._client_entry),
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
        return _file_answer(request, self._client, request.params["file"], shared=True)

    def _client_entry(self, request: Request) -> Answer:
        """`/client.js` is one line, so that the modules' relative imports hold."""
        return _answer(request, self._entry, _SHARED)

    def _dashboard_file(self, request: Request) -> Answer:
        """The page without any figures: it asks for a key itself, and the API checks that."""
        return _file_answer(request, self._dashboard, request.params.get("file", INDEX))


def _route(path: str, handler: Handler) -> Route:
    return Route(
        method="GET", path=path, access=Access.ANYBODY, handler=handler, summary="A page's file"
    )


def _page_file(file: File) -> Handler:
    return lambda request: _answer(request, file, {})


def _entry_module() -> File:
    body = f'export * from "./client/{CLIENT_ENTRY}";\n'.encode()
    return File(body, _TYPES[".js"], f'"{hashlib.sha256(body).hexdigest()[:32]}"')


def _file_answer(
    request: Request, files: Mapping[str, File], name: str, *, shared: bool = False
) -> Answer:
    file = files.get(name)
    if file is None:
        raise NotFoundError(f"no file {name[:80]!r} here")
    return _answer(request, file, _SHARED if shared else {})


@lru_cache(maxsize=64)
def _policy(host: str) -> str:
    """What the pages may load (CSP level 3): their own hub, by HTTP and WebSocket, and no more.

    `'self'` alone covers a WebSocket only in newer browsers.
    """
    own = f"'self' ws://{host} wss://{host}" if _HOST.fullmatch(host) else "'self'"
    return (
        f"default-src 'self'; connect-src {own}; frame-ancestors 'none'; "
        "base-uri 'none'; form-action 'none'; object-src 'none'"
    )


def _answer(request: Request, file: File, headers: Mapping[str, str]) -> Answer:
    policy = {"Content-Security-Policy": _policy(request.headers.get("host", ""))}
    headers = _SAFE | policy | {"ETag": file.etag} | dict(headers)
    if file.etag in request.headers.get("if-none-match", ""):
        return Answer(status=304, headers=headers)
    return Answer(file.body, content_type=file.content_type, headers=headers)
