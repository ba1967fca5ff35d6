"""The connection, as the requests on it see it."""

from typing import Protocol

from hub.transports.connection.application import Carrier
from hub.transports.http.dispatch import Call
from hub.transports.http.routes import Stream


class Owner(Carrier, Protocol):
    """Owns the transport."""

    def open_stream(self, call: Call, stream: Stream) -> None:
        """Have a stream take the connection over; the request waits where that cannot be yet."""
        ...

    def go_on(self) -> None:
        """What stood in the way of the next request is gone."""
        ...

    def settle(self) -> None:
        """An answer is decided: write it, and see what is waited for now."""
        ...

    def end(self, *, clean: bool) -> None:
        """The last answer is decided; `clean` where nothing of its request is left unread."""
        ...

    def read_no_more(self) -> None:
        """What follows is no request."""
        ...
