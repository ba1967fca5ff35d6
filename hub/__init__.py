"""A real-time broadcast hub that never loses a message silently.

`Hub` is one node in the running event loop, `serve` runs one until a signal ends it. Both are
loaded at their first use, so that `hub --help` does not wait for the server.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hub.app import Hub
    from hub.main import serve
    from hub.settings import Settings, load_settings

__all__ = ["Hub", "Settings", "load_settings", "serve"]

_HOMES = {"Hub": "app", "serve": "main", "Settings": "settings", "load_settings": "settings"}


def __getattr__(name: str) -> Any:
    if (home := _HOMES.get(name)) is None:
        raise AttributeError(f"module 'hub' has no attribute {name!r}")
    from importlib import import_module  # noqa: PLC0415 - only when something is asked for

    return getattr(import_module(f"hub.{home}"), name)
