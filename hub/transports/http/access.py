"""What a request says about who sends it; whether that holds is asked of `hub.auth.policy`."""

from hub.auth.credentials import NO_CREDENTIALS, Credentials
from hub.errors import BadRequestError
from hub.transports.request import Head, Request

_BEARER = "bearer "


def credentials_of(request: Head, token: str | None = None) -> Credentials:
    """What the request's headers prove; `token` is that of a query where one is allowed.

    Publishing and operating take headers only: URLs end up in logs.
    """
    get = request.headers.get
    authorization, api_key, cookie = get("authorization"), get("x-api-key"), get("cookie")
    if cookie is not None and token is None and authorization is None and api_key is None:
        page = get("origin"), get("host"), get("sec-fetch-site")
        return Credentials(None, None, None, cookie, *page)
    if token is None and authorization is None and api_key is None:
        return NO_CREDENTIALS
    return Credentials(authorization, api_key, token)


def bearer_of(request: Request) -> str | None:
    """What follows `Bearer` in `Authorization` (RFC 6750 section 2.1), if anything does."""
    value = request.headers.get("authorization", "")
    return value[len(_BEARER) :].strip() or None if value.lower().startswith(_BEARER) else None


def text_header(request: Request, name: str) -> str | None:
    """A header's value as UTF-8; raise `BadRequestError` where it is not."""
    value = request.headers.get(name)
    if value is None or value.isascii():
        return value
    try:
        return value.encode("latin-1").decode("utf-8")
    except UnicodeDecodeError:
        raise BadRequestError(f"the header {name} is not UTF-8") from None
