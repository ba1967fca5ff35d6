"""`Basic` credentials (RFC 7617): how browsers send a key that is typed as a password."""

import base64
import binascii

from hub.errors import UnauthorizedError


def read_password(value: str) -> str:
    """The password; the name before the colon is free. Raises `UnauthorizedError`."""
    try:
        _, colon, password = base64.b64decode(value, validate=True).decode().partition(":")
    except (binascii.Error, ValueError):
        colon = password = ""
    if not colon:
        raise UnauthorizedError("Basic credentials are malformed", refusal="malformed")
    return password
