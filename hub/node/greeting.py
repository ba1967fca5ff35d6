"""The lines that a hub prints in a terminal: its addresses, and commands to try."""

import contextlib
import sys

from hub.settings import Settings


def say_where(url: str, settings: Settings, *, demo: bool, beside: bool) -> None:
    """Print the addresses on stderr; `beside` is whether an application answers there too."""
    page = "live demo" if demo else "try it"
    keyed = settings.has_credentials
    key = '-H "Authorization: Bearer $KEY" ' if keyed else ""
    token = '-H "Authorization: Bearer $TOKEN" ' if settings.takes_tokens else ""
    lines = [
        f"\n  {page:10} {url}/",
        f"  {'publish':10} curl {key}-d '{{\"hello\":1}}' {url}/api/publish/news",
        f"  {'subscribe':10} curl {token}-N '{url}/sse?channel=news'",
    ]
    if settings.operator_keys or not keyed:
        lines.append(f"  {'operate':10} {url}/dashboard")
    if settings.base_path or not beside:  # else `/docs` is the application's
        lines.append(f"  {'read on':10} {url}/docs")
    with contextlib.suppress(OSError, ValueError):
        print("\n".join(lines), end="\n\n", file=sys.stderr, flush=True)  # noqa: T201 - for whoever started it
