"""Hints for paths that no route answers.

Clients and commands take the hub's address and add their own paths to it. If the address holds a
path of the hub already, such as that of the dashboard, which its owner has copied from a browser,
the request asks for `/dashboard/api/publish`. The answer then says where the address ends. Other
hints are for a forgotten `/api`, a channel in the path of a stream, and a misspelt part of a path.
"""

from hub.errors import BadRequestError
from hub.transports.http.routes import Access, RouteTable
from hub.wire.parameter_names import ParameterNames

# An answer repeats so much of a path.
_SHOWN_CHARACTERS = 200


class WrongPaths:
    """Finds the mistake in a path that no route answers; one per node."""

    def __init__(self, table: RouteTable) -> None:
        self._table = table
        self._base_path = table.base_path
        self._begins = {_first(route.path) for route in table.routes} - {""}
        """The first segments of all paths."""
        self._added = {
            _first(route.path) for route in table.routes if route.access is not Access.ANYBODY
        }
        """Those of the paths that clients and commands add to an address."""
        self._firsts = ParameterNames(sorted(self._begins))
        parts = (route.path.split("/")[2:3] for route in table.routes)
        self._seconds = ParameterNames(sorted({part for found in parts for part in found}))
        # A poll is no stream here, but takes its channels in the same way.
        self._streams = self._added & {"ws", "sse", "poll"}

    def nothing_at(self, raw_path: bytes) -> str:
        """Return the message for a path that no route has."""
        path, base = _shown(raw_path), self._base_path
        if base and not path.startswith(f"{base}/"):
            hint = f": every path of this hub begins with {base}"
        else:
            hint = "" if self.hint(raw_path) else self._likely(path.removeprefix(base))
        return f"nothing is at {path!r}{hint}"

    def _likely(self, path: str) -> str:
        """Return the end of a message about a path that is almost one of the hub; else empty."""
        base = self._base_path
        first, *rest = path.split("/")[1:] or [""]
        if path.startswith("/api/publish/"):
            return ": a channel's name has no slash" if rest[2:] else ""
        if first in self._streams and len(rest) == 1:
            return f": the channel is a parameter, as in {base}/{first}?channel=<channel>"
        if first != "api" and self._is_route(["api", first, *rest]):
            return f"; did you mean {base}/api{path}?"
        for at, names in enumerate((self._firsts, self._seconds)[: 1 + len(rest)]):
            segments = [first, *rest]
            meant = names.meant_by(segments[at])
            if meant is not None and self._is_route([*segments[:at], meant, *segments[at + 1 :]]):
                segments[at] = meant
                return f"; did you mean {base}/{'/'.join(segments)}?"
        return ""

    def hint(self, raw_path: bytes) -> str:
        """Return the end of a message about an address that holds a path of the hub; else empty."""
        segments = _shown(raw_path).removeprefix(self._base_path).split("/")[1:]
        if not segments or segments[0] not in self._begins:
            return ""
        for at, name in enumerate(segments):
            if at and name in self._added and self._is_route(segments[at:]):
                return f": the hub's address ends before /{'/'.join(segments[:at])}"
        return ""

    def _is_route(self, segments: list[str]) -> bool:
        path = f"{self._base_path}/{'/'.join(segments)}"
        try:
            return self._table.find(path.encode("latin-1")) is not None
        except BadRequestError:
            return False


def _first(path: str) -> str:
    return path.removeprefix("/").partition("/")[0]


def _shown(raw_path: bytes) -> str:
    return raw_path[:_SHOWN_CHARACTERS].decode("latin-1")
