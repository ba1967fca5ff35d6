"""The log lines about outages of a client without `on_state`, one for each outage."""

import logging

from hub_client.messages import ConnectionState

_LOG = logging.getLogger("hub_client")


class OutageLog:
    """Warn when no connection can be made, and log when there is one again.

    An end that is followed by a new connection is no outage: nodes restart, and move clients.
    """

    def __init__(self, hub: str) -> None:
        self._hub = hub
        self._ended = False
        self._away = False

    def __call__(self, state: ConnectionState) -> None:
        if state.name == "connected":
            if self._away:
                _LOG.info("connected to %s over %s", self._hub, state.transport)
            self._ended, self._away = True, False
        elif state.name == "waiting":
            if not self._ended and not self._away:
                text = "no connection to %s (%s); trying until there is one"
                _LOG.warning(text, self._hub, state.detail)
                self._away = True
            self._ended = False
