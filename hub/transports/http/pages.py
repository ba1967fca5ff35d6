"""The files that browsers load: the demo page, the client's modules, the dashboard.

They are few and small, so they are read once at the start and looked up by exact name
afterwards: no path made from a request ever reaches the file system.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from starlette.requests import Request
from starlette.responses import Response

from hub.errors import NotFoundError
from hub.transports.http.endpoint import Handler
from hub.transports.http.ports import HttpDeps

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
    "Content-Security-Policy": (
        "default-src 'self'; connect-src 'self' ws: wss:; frame-ancestors 'none'; "
        "base-uri 'none'; form-action 'none'; object-src 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}
# The client's modules are public and meant for pages of other origins.
_SHARED = {"Access-Control-Allow-Origin": "*", "Cross-Origin-Resource-Policy": "cross-origin"}
INDEX = "index.html"
CLIENT_ENTRY = "hub.js"


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
        self.page = read_directory(deps.pages)
        self.client = read_directory(deps.client)
        self.dashboard = read_directory(deps.dashboard)
        self._entry = _entry_module()

    def page_file(self, name: str) -> Handler:
        """The handler of one of the page's files: each has a path of its own."""
        file = self.page[name]

        async def answer(request: Request) -> Response:
            return _answer(request, file, {})

        return answer

    async def client_file(self, request: Request) -> Response:
        return _file_answer(request, self.client, request.path_params["file"], shared=True)

    async def client_entry(self, request: Request) -> Response:
        """`/client.js` is one line, so that the modules' relative imports hold."""
        return _answer(request, self._entry, _SHARED)

    async def dashboard_file(self, request: Request) -> Response:
        """The page without any figures: it asks for a key itself, and the API checks that."""
        return _file_answer(request, self.dashboard, request.path_params.get("file", INDEX))


def _entry_module() -> File:
    body = f'export * from "./client/{CLIENT_ENTRY}";\n'.encode()
    return File(body, _TYPES[".js"], f'"{hashlib.sha256(body).hexdigest()[:32]}"')


def _file_answer(
    request: Request, files: Mapping[str, File], name: str, *, shared: bool = False
) -> Response:
    file = files.get(name)
    if file is None:
        raise NotFoundError(f"no file {name[:80]!r} here")
    return _answer(request, file, _SHARED if shared else {})


def _answer(request: Request, file: File, headers: Mapping[str, str]) -> Response:
    headers = _SAFE | {"ETag": file.etag} | dict(headers)
    if file.etag in request.headers.get("if-none-match", ""):
        return Response(status_code=304, headers=headers)
    return Response(file.body, headers=headers | {"Content-Type": file.content_type})
