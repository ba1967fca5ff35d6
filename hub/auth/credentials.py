"""The credentials of a request, and the reading of `Basic` and cookies.

`hub.auth.policy` judges whether they are valid.
"""

import base64
import binascii
from typing import ClassVar

from msgspec import Struct

from hub.errors import UnauthorizedError


class Credentials(Struct, frozen=True):
    """The credentials of a request, unread. They are never shown: `repr` leaves the values out."""

    authorization: str | None = None
    """The `Authorization` header: `Bearer <key or token>` or `Basic <any name:key>`."""
    api_key: str | None = None
    """The `X-API-Key` header."""
    token: str | None = None
    """The `token` parameter of the URL, or of a WebSocket's subprotocols."""
    cookie: str | None = None
    """The `Cookie` header, ..."""
    origin: str | None = None
    """... and beside it the `Origin` header, ..."""
    host: str | None = None
    """... the `Host` header, ..."""
    fetch_site: str | None = None
    """... and the `Sec-Fetch-Site` header."""
    outside: ClassVar[bool] = False
    """Whether another machine may have sent the request although the settings say that none can: a
    foreign ASGI server listens where it likes."""

    def __repr__(self) -> str:
        return f"{type(self).__name__}(...)"


class OutsideCredentials(Credentials, frozen=True):
    """The credentials of a request that another machine may have sent."""

    outside: ClassVar[bool] = True


NO_CREDENTIALS = Credentials()
NO_CREDENTIALS_OUTSIDE = OutsideCredentials()


def missing(act: str, *, takes_tokens: bool, no_key_at_all: bool) -> UnauthorizedError:
    """Return the refusal of a peer that sent nothing and wants to `read`, `publish` or `operate`.

    Args:
        takes_tokens: a token may help.
        no_key_at_all: no key is set, so only peers of this machine may do anything.
    """
    if no_key_at_all:
        why = (
            "with no key at all only this machine may connect: set HUB_PUBLISH_KEYS, HUB_TOKEN_KEYS"
            " or HUB_OPERATOR_KEYS, or let everybody in with HUB_INSECURE=true"
        )
    elif act == "operate":
        why = "an operator key is needed (HUB_OPERATOR_KEYS)"
    elif act == "publish":
        granted = " or a token that grants it" if takes_tokens else ""
        why = (
            f"publishing needs a key (HUB_PUBLISH_KEYS){granted}:"
            " Authorization: Bearer or X-API-Key"
        )
    elif takes_tokens:
        why = "a token is needed: ?token= or Authorization: Bearer"
    else:
        why = (
            "a key is needed: Authorization: Bearer or X-API-Key (strangers may read where "
            "HUB_ANONYMOUS is subscribe)"
        )
    return UnauthorizedError(why, refusal="no_credentials")


def read_password(value: str) -> str:
    """Return the password of `Basic` credentials (RFC 7617); browsers send a typed key in this
    form.

    The name before the colon is free. Raises `UnauthorizedError`.
    """
    try:
        _, colon, password = base64.b64decode(value, validate=True).decode().partition(":")
    except (binascii.Error, ValueError):
        colon = password = ""
    if not colon:
        raise UnauthorizedError("Basic credentials are malformed", refusal="malformed")
    return password


def read_cookie(header: str, name: str) -> str | None:
    """Return the value of the cookie `name` (RFC 6265 section 5.4); None without one, or for an
    empty one.

    Raises:
        UnauthorizedError: There are two with different values, as a page of another host of the
            same domain can bring about.
    """
    values = set()
    for pair in header.replace(",", ";").split(";"):
        key, equals, value = pair.strip().partition("=")
        if equals and key.strip() == name:
            values.add(value.strip().strip('"'))
    values.discard("")
    if len(values) > 1:
        raise UnauthorizedError(
            f"there are {len(values)} cookies {name} with different values", refusal="malformed"
        )
    return values.pop() if values else None
