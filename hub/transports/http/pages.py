"""The files that browsers load: the demo page, the client, the dashboard, the documents.

Pages, client and dashboard are few and small, so they are read and compressed once at the start.
A document is made from Markdown at the first request for it, in a thread, one at a time, and kept:
so a start costs nothing, and the event loop does not wait. All are looked up by exact name: no path
made from a request ever reaches the file system.

The browser client has two addresses. Browsers ask for `/client.js` again on each visit and get 304
while it is the same. `/client/hub-HASH.js` names its own content, and browsers keep it for a year:
the hub's own pages import that one, and `/client.js` names it in `Content-Location`.
"""

import asyncio
import gzip
import hashlib
import re
from collections.abc import Coroutine, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import orjson

from hub.auth.origins import LOOPBACK
from hub.docs import DIRECTORY
from hub.docs.site import INDEX as CONTENTS
from hub.docs.site import TEMPLATE, Site
from hub.errors import NotFoundError
from hub.transports.http.answer import JSON, Answer
from hub.transports.http.ports import HttpDeps
from hub.transports.http.routes import Handler, Route, public
from hub.transports.request import Request

# Files of other types are not served. Browsers refuse modules without a JavaScript type, and
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
# A host that may stand in a policy: any other gets no WebSocket of its own.
_HOST = re.compile(r"[A-Za-z0-9._:\[\]-]{1,255}")
_LOOPBACK_HOST = re.compile(
    rf"({'|'.join(map(re.escape, sorted(LOOPBACK)))})(?P<port>(:\d{{1,5}})?)"
)
# A policy knows no addresses of IPv6 (CSP level 3, section 2.3.1: host-source).
_NAMED_LOOPBACK = sorted(name for name in LOOPBACK if not name.startswith("["))
# The client is public and meant for pages of other origins.
_SHARED = {"Access-Control-Allow-Origin": "*", "Cross-Origin-Resource-Policy": "cross-origin"}
_A_FILE = "A page's file"
_HTML = "text/html; charset=utf-8"
_MARKDOWN = "text/markdown; charset=utf-8"
_CONTENTS = "/"
"""Stands for the contents at an address without a slash at its end; no file has this name."""
SEARCH = "search.json"
INDEX = "index.html"
BUILT_CLIENT = "client.min.js"


@dataclass(frozen=True, slots=True)
class File:
    """A file as it is served."""

    body: bytes
    content_type: str
    compressed: bytes
    """The body by gzip; empty where that would not help."""
    digest: str
    """32 hexadecimal digits of the body's SHA-256."""


def read_directory(directory: Path) -> Mapping[str, File]:
    """Return every servable file below `directory` by its relative name, such as `app/main.js`.

    Hidden files and those of unknown type are left out; a missing directory is empty.
    """
    return {name: read_file(directory / name) for name in sorted(asset_names(directory))}


def asset_names(directory: Path) -> frozenset[str]:
    """Return the relative names of the servable files below `directory`."""
    found = (path for path in directory.rglob("*") if path.suffix in _TYPES and path.is_file())
    names = (path.relative_to(directory).as_posix() for path in found)
    return frozenset(name for name in names if not _is_hidden(name))


def _is_hidden(name: str) -> bool:
    return any(part.startswith(".") for part in name.split("/"))


def read_file(path: Path) -> File:
    """Read a file of one of the types that are served."""
    return file_of(path.read_bytes(), _TYPES[path.suffix])


@lru_cache(maxsize=512)
def file_of(body: bytes, content_type: str) -> File:
    """Return the file with this body, compressed where that helps.

    Several hubs in one process share a file: 116 files take 20 ms of CPU to compress.
    """
    compressible = len(body) >= _MIN_COMPRESSED_BYTES and not content_type.startswith(
        ("image/png", "font/")
    )
    compressed = gzip.compress(body, mtime=0) if compressible else b""
    return File(body, content_type, compressed, hashlib.sha256(body).hexdigest()[:32])


def takes_gzip(accepted: str) -> bool:
    """Return whether `Accept-Encoding` names gzip and does not refuse it (RFC 9110 12.5.3)."""
    for part in accepted.lower().split(","):
        coding, *parameters = [piece.strip() for piece in part.split(";")]
        if coding in {"gzip", "x-gzip"}:
            return not any(re.fullmatch(r"q=0(\.0{0,3})?", piece) for piece in parameters)
    return False


def _is_named(etag: str, field: str) -> bool:
    """Return whether `If-None-Match` names this tag, compared as weak ones (RFC 9110 13.1.2)."""
    if field.strip(" \t") == "*":
        return True
    return _TAGS.fullmatch(field) is not None and etag in re.findall(_TAG, field)


@lru_cache(maxsize=64)
def _policy(host: str) -> str:
    """Return the policy (CSP level 3) that lets pages reach their own hub, and nothing else.

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
    """Answer with the file, or with 304 where the client has it; `headers` are the file's own."""
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


# -- the page, the client and the dashboard --------------------------------------------------------


def _importing(files: Mapping[str, File], client: str) -> Mapping[str, File]:
    """Return `files` with imports of `client.js` replaced by `client`, which browsers may keep."""

    def rewritten(file: File) -> File:
        body = file.body.replace(b'client.js"', f'{client}"'.encode())
        return file if body == file.body else file_of(body, file.content_type)

    return {name: rewritten(file) if name.endswith(".js") else file for name, file in files.items()}


class PageRoutes:
    """Answers with files that every peer may read."""

    def __init__(self, deps: HttpDeps) -> None:
        pages = dict(read_directory(deps.pages))
        self._client = pages.pop(BUILT_CLIENT)
        self._kept_name = f"client/hub-{self._client.digest[:12]}.js"
        self._page = _importing(pages, self._kept_name)
        self._modules = read_directory(deps.client)
        self._dashboard = _importing(read_directory(deps.dashboard), self._kept_name)
        self._is_alone = deps.fallback is None
        """No application stands beside the hub: it would have `/` and the demo page."""

    def routes(self) -> tuple[Route, ...]:
        shared = (
            public("/client.js", self._newest_client, _A_FILE),
            public("/client/{file:path}", self._client_file, _A_FILE),
            public("/dashboard", self._dashboard_file, _A_FILE),
            public("/dashboard/{file:path}", self._dashboard_file, _A_FILE),
        )
        if not self._is_alone:
            return shared
        # The page's own `client.js` is there for the type checker: pages of other origins load
        # the one above, whose headers allow that.
        named = {f"/{name}": file for name, file in self._page.items()}
        named.pop("/client.js", None)
        if INDEX in self._page:
            named["/"] = self._page[INDEX]
        return shared + tuple(
            public(path, _page_file(file), _A_FILE) for path, file in named.items()
        )

    def _client_file(self, request: Request) -> Answer:
        """Answer with the client under the name that may be kept, or with one of its modules."""
        name = request.params["file"]
        if f"client/{name}" == self._kept_name:
            return answer_file(request, self._client, _SHARED | _KEPT)
        return answer_file(request, _named(self._modules, name), _SHARED | FRESH)

    def _newest_client(self, request: Request) -> Answer:
        location = {"Content-Location": self._kept_name}
        return answer_file(request, self._client, _SHARED | FRESH | location)

    def _dashboard_file(self, request: Request) -> Answer:
        """Answer with a file without figures: the page asks for a key, and the API checks that."""
        return answer_file(
            request, _named(self._dashboard, request.params.get("file", INDEX)), FRESH
        )


def _page_file(file: File) -> Handler:
    return lambda request: answer_file(request, file, FRESH)


def _named(files: Mapping[str, File], name: str) -> File:
    file = files.get(name)
    if file is None:
        raise NotFoundError(f"no file {name[:80]!r} here")
    return file


# -- the documents ---------------------------------------------------------------------------------


class DocumentRoutes:
    """Answers `/docs` with documents that every peer may read."""

    def __init__(self) -> None:
        pages = [path.stem for path in DIRECTORY.glob("*.md")]
        self._pages = frozenset(pages) - {CONTENTS}
        self._texts = {f"{name}.md": name for name in pages}
        self._assets = asset_names(DIRECTORY) - {TEMPLATE}
        self._site: Site | None = None
        self._made: dict[str, File] = {}
        self._making = asyncio.Lock()

    def routes(self) -> tuple[Route, ...]:
        return (
            public("/docs", lambda request: self._answer(request, _CONTENTS), "A document"),
            public("/docs/{file:path}", self._named, "A document"),
        )

    def _named(self, request: Request) -> Answer | Coroutine[Any, Any, Answer]:
        return self._answer(request, request.params["file"])

    def _answer(self, request: Request, name: str) -> Answer | Coroutine[Any, Any, Answer]:
        file = self._made.get(name)
        if file is not None:
            return answer_file(request, file, FRESH)
        known = name in self._pages or name in self._texts or name in self._assets
        if not known and name not in {_CONTENTS, "", SEARCH}:
            raise NotFoundError(f"no document {name[:80]!r} here")
        return self._made_now(request, name)

    async def _made_now(self, request: Request, name: str) -> Answer:
        async with self._making:
            if name not in self._made:
                self._made[name] = await asyncio.to_thread(self._make, name)
        return answer_file(request, self._made[name], FRESH)

    def _make(self, name: str) -> File:
        """Make a document, in a thread; one at a time."""
        if name in self._assets:
            return read_file(DIRECTORY / name)
        if self._site is None:
            self._site = Site(DIRECTORY)
        site = self._site
        if name in self._texts:
            return file_of(site.text(self._texts[name]).encode(), _MARKDOWN)
        if name == SEARCH:
            found = [section for entry in site.order for section in site.sections(entry.name)]
            return file_of(orjson.dumps(found), JSON)
        below = "docs/" if name == _CONTENTS else ""
        page = site.page(name if name in self._pages else CONTENTS, below=below)
        return file_of(page.encode(), _HTML)
