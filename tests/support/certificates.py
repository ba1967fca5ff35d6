"""A certificate authority of one test, and what it says about 127.0.0.1.

Made with openssl's own program: nothing that tests need otherwise can sign.
"""

import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

PROGRAM = "openssl"
_SECONDS = 30.0
_NEW_KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "1")


def is_installed() -> bool:
    return shutil.which(PROGRAM) is not None


@dataclass(frozen=True)
class Certificates:
    """Files."""

    authority: Path
    certificate: Path
    key: Path

    @property
    def configuration(self) -> dict[str, str]:
        """The directives of a Redis that shows these certificates, also to its replicas, its
        cluster and its sentinels."""
        return {
            "tls-cert-file": str(self.certificate),
            "tls-key-file": str(self.key),
            "tls-ca-cert-file": str(self.authority),
            "tls-auth-clients": "no",
            "tls-replication": "yes",
        }


def make_certificates(folder: Path, names: str = "IP:127.0.0.1") -> Certificates:
    """An authority and the certificate of a server of these names, in `folder`, for a day."""
    authority, authority_key = folder / "authority.pem", folder / "authority.key"
    made = Certificates(authority, folder / "server.pem", folder / "server.key")
    # Without it Python 3.13 and later vouch for nothing (X509_STRICT, RFC 5280 section 4.2.1.3).
    key_usage = ("-addext", "keyUsage=critical,keyCertSign")
    _request("-subj", "/CN=test authority", *key_usage, "-keyout", authority_key, "-out", authority)
    _request(
        *("-subj", "/CN=test server", "-keyout", made.key, "-out", made.certificate),
        *("-CA", authority, "-CAkey", authority_key),
        *("-addext", f"subjectAltName={names}", "-addext", "basicConstraints=CA:FALSE"),
    )
    return made


def _request(*arguments: str | Path) -> None:
    subprocess.run(
        [PROGRAM, "req", "-x509", *_NEW_KEY, *arguments],
        check=True,
        capture_output=True,
        timeout=_SECONDS,
    )
