"""A certificate for what is measured over TLS: made for a run, and checked by nobody.

Made with openssl's own program, because nothing that the hub needs can sign.
"""

import contextlib
import shutil
import ssl
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from hub.bench.plan import BenchError

_OPENSSL_SECONDS = 30.0
# What servers show today: a key on P-256, so a handshake has one ECDSA signature.
_REQUEST = (
    *("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"),
    *("-nodes", "-days", "1", "-subj", "/CN=hub bench"),
)


@dataclass(frozen=True, slots=True)
class Certificate:
    """Files in PEM."""

    certificate: Path
    key: Path


@contextlib.contextmanager
def made() -> Iterator[Certificate]:
    """A new one, while the block lasts.

    Raises:
        BenchError: There is no openssl, or it fails.
    """
    program = shutil.which("openssl")
    if program is None:
        raise BenchError("what is measured over TLS needs openssl")
    with tempfile.TemporaryDirectory(prefix="hub-bench-") as folder:
        certificate, key = Path(folder) / "certificate.pem", Path(folder) / "key.pem"
        command = [program, *_REQUEST, "-keyout", str(key), "-out", str(certificate)]
        done = subprocess.run(  # noqa: S603 - a program from PATH and arguments of our own
            command, capture_output=True, text=True, timeout=_OPENSSL_SECONDS, check=False
        )
        if done.returncode:
            raise BenchError(f"openssl made no certificate: {done.stderr[-500:]}")
        yield Certificate(certificate, key)


def trusting() -> ssl.SSLContext:
    """Of a client that takes any certificate."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context
