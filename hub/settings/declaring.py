"""The parts of a setting's declaration: its group, the bounds that several share, the field.

The declarations are in `hub.settings.fields`.
"""

import re
import secrets
import socket
from typing import Any

from pydantic import Field
from pydantic.config import JsonDict

from hub.core.options import MIB

# The groups, as `--help`, `hub config` and the documents' table show them.
ADDRESS = "Address"
ACCESS = "Access"
HOOKS = "The application behind the hub"
CHANNELS = "Channels"
SESSIONS = "Sessions"
HEARTBEATS = "Heartbeats and time-outs"
INPUT = "Limits of input"
NODE = "Node"

# Bounds.
DAY_SECONDS = 24 * 3600
GIB = 1024 * MIB
# A TiB: more than any machine this runs on; it only catches slips of the keyboard.
MAX_BYTES = 1024 * GIB


def setting(group: str, default: object, meaning: str, **more: Any) -> Any:
    """Return a field in `group`; `more` are its bounds (`ge`, `le`), `alias` or `default_factory`.

    With a `default_factory`, `default` is the text that describes its result.
    """
    if "default_factory" in more:
        extra: JsonDict = {"group": group, "default": str(default)}
        return Field(description=meaning, json_schema_extra=extra, **more)
    return Field(default, description=meaning, json_schema_extra={"group": group}, **more)


def node_name() -> str:
    """Return the host's name and four random digits, so that two nodes of one host differ."""
    host = re.sub(r"[^A-Za-z0-9_.-]", "-", socket.gethostname())[:50] or "node"
    return f"{host}-{secrets.token_hex(2)}"
