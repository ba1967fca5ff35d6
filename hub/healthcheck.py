"""`python -m hub.healthcheck` tells whether the hub of this container is alive, for its image.

It asks for alive, not ready: a node that drains must not be restarted. It runs every few seconds,
so it imports only the standard library (50 ms of a processor, where settings take 500). The address
is that of `HUB_HOST`, `HUB_PORT`, `HUB_BASE_PATH` and the file that `HUB_CONFIG` names, in the
forms that the hub itself takes. It uses no proxy of the environment: http.client knows none.
"""

import http.client
import os
import ssl
import sys
import tomllib
from collections.abc import Mapping
from pathlib import Path

_TIMEOUT_SECONDS = 2.0
_DEFAULTS = {"host": "127.0.0.1", "port": "8000", "base_path": "", "tls_cert": ""}
# A hub that listens on every address is asked on this machine's own, of either family.
_OF_THIS_MACHINE = {"0.0.0.0": "127.0.0.1", "::": "localhost"}


def is_alive(environment: Mapping[str, str]) -> bool:
    """Return whether `/healthz` answers with 200."""
    asked = _settings(environment)
    host = _OF_THIS_MACHINE.get(asked["host"], asked["host"])
    port = int(asked["port"])
    connection: http.client.HTTPConnection
    if asked["tls_cert"]:
        # The certificate names the hub's public address, not this one.
        trusting = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        trusting.check_hostname = False
        trusting.verify_mode = ssl.CERT_NONE
        connection = http.client.HTTPSConnection(
            host, port, timeout=_TIMEOUT_SECONDS, context=trusting
        )
    else:
        connection = http.client.HTTPConnection(host, port, timeout=_TIMEOUT_SECONDS)
    try:
        path = asked["base_path"].strip().strip("/")
        connection.request("GET", f"/{path}/healthz" if path else "/healthz")
        return connection.getresponse().status == 200
    finally:
        connection.close()


def _settings(environment: Mapping[str, str]) -> dict[str, str]:
    found = dict(_DEFAULTS)
    if file := environment.get("HUB_CONFIG"):
        found |= {name: str(value) for name, value in tomllib.loads(Path(file).read_text()).items()}
    for name in _DEFAULTS:
        if value := environment.get(f"HUB_{name.upper()}"):
            found[name] = value
    return {name: text.strip() for name, text in found.items()}


def main() -> int:
    """Return 0 where the hub is alive; else print a line that the engine shows and return 1."""
    try:
        if is_alive(os.environ):
            return 0
        why = "it did not answer with 200"
    except (OSError, ValueError, http.client.HTTPException) as error:
        why = f"{type(error).__name__}: {error}"
    print(f"hub: not alive: {why}", file=sys.stderr)  # noqa: T201 - what the engine keeps
    return 1


if __name__ == "__main__":
    sys.exit(main())
