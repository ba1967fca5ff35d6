"""TLS of the hub's own: one context per listener, whose certificate is read again on change.

Versions and ciphers are those that Python's `ssl.create_default_context` chooses for servers: TLS
1.2 with forward secrecy, and 1.3. ALPN offers `http/1.1` alone: HTTP/2 and 3 are a proxy's work.

How long a handshake may take is not said here: `hub.node.server` tells the event loop, by
`HUB_HANDSHAKE_TIMEOUT_SECONDS`.
"""

import asyncio
import ssl
from pathlib import Path

from structlog.typing import FilteringBoundLogger

from hub.errors import SettingsError
from hub.node.file_watch import FileWatch


class Certificate(FileWatch):
    """The certificate of a listener, which follows its files (`hub.node.file_watch`).

    A change counts once both files have stood still for a second: a renewal writes one after the
    other. Handshakes that begin then get the new certificate; connections that stand keep theirs.
    """

    def __init__(self, cert: str, key: str, log: FilteringBoundLogger) -> None:
        """Read the files; raise `SettingsError` where they are no certificate and its key."""
        self._files = (cert, key or cert)
        self._log = log
        super().__init__([Path(each) for each in self._files], self._read_again)
        self.context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        self.context.minimum_version = ssl.TLSVersion.TLSv1_2
        self.context.set_alpn_protocols(["http/1.1"])
        try:
            self._load(self.context)
        except (OSError, ValueError) as error:
            raise SettingsError(
                f"HUB_TLS_CERT is {cert}, HUB_TLS_KEY is {key or cert}: {_reason(error)}; allowed:"
                " PEM files that the hub may read, a certificate with its chain and its private key"
                " without a passphrase"
            ) from None

    def _load(self, context: ssl.SSLContext) -> None:
        context.load_cert_chain(*self._files, password=_no_passphrase)

    async def _read_again(self) -> None:
        """Take the new certificate; the old one stays where that fails."""
        try:
            await asyncio.to_thread(self._reload)
        except (OSError, ValueError) as error:
            self._log.error("tls_certificate_not_read", reason=_reason(error))
        else:
            self._log.info("tls_certificate_read", file=self._files[0])

    def _reload(self) -> None:
        # Tried apart: a context that has read half a pair serves nobody.
        self._load(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER))
        self._load(self.context)


def _no_passphrase() -> str:
    """OpenSSL would ask on the terminal, and the start would wait for ever."""
    raise ValueError("the key has a passphrase")


def _reason(error: OSError | ValueError) -> str:
    if isinstance(error, ssl.SSLError):
        return error.reason or "they cannot be read"
    return (isinstance(error, OSError) and error.strerror) or str(error)
