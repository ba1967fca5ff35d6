"""`sqlite:///path`: which file."""

from pathlib import PurePosixPath
from urllib.parse import unquote, urlsplit

SCHEME = "sqlite:"


def is_sqlite(url: str) -> bool:
    """Whether it names a file, well formed."""
    try:
        path_of(url)
    except ValueError:
        return False
    return True


def path_of(url: str) -> str:
    """The absolute path; raise `ValueError` for anything but `sqlite:///path`.

    A fourth slash, which some libraries ask for, says the same: `sqlite:////data/hub.db` is
    `/data/hub.db`.
    """
    parts = urlsplit(url)
    if f"{parts.scheme}:" != SCHEME or parts.netloc or parts.query or parts.fragment:
        raise ValueError("not of the form sqlite:///path")
    path = unquote(parts.path)
    name = PurePosixPath(path).name
    if not path.startswith("/") or path.endswith("/") or name in {"", ".", ".."} or "\0" in path:
        raise ValueError("no path of a file")
    return "/" + path.lstrip("/")
