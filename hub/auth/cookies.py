"""A token in a cookie: how a header's cookies are read (RFC 6265 section 5.4)."""

from hub.errors import UnauthorizedError


def read_cookie(header: str, name: str) -> str | None:
    """The value of the cookie `name`; None where there is none, or an empty one.

    Raises:
        UnauthorizedError: there are two with different values, as a page of another host of the
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
