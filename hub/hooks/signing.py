"""Sign requests to the application by Standard Webhooks (standardwebhooks.com).

The receiver computes HMAC-SHA256 of `<id>.<timestamp>.<body>` with the shared secret and compares.
The receiver refuses a timestamp that is some minutes off, and an id that it has seen.
"""

import base64
import binascii
import hashlib
import hmac

_PREFIX = "whsec_"


def read_secret(text: str) -> bytes:
    """Return the key of `whsec_<base64>`, or the bytes of any other text; raise `ValueError` where
    it is not base64."""
    if not text.startswith(_PREFIX):
        return text.encode()
    try:
        return base64.b64decode(text.removeprefix(_PREFIX), validate=True)
    except binascii.Error:
        raise ValueError("what follows whsec_ is not base64") from None


def sign(secret: bytes, *, id_: str, timestamp: int, body: bytes) -> dict[str, str]:
    """Return the header fields for `body`; without a signature where there is no secret."""
    fields = {"webhook-id": id_, "webhook-timestamp": str(timestamp)}
    if secret:
        signed = b"%b.%d.%b" % (id_.encode(), timestamp, body)
        made = hmac.new(secret, signed, hashlib.sha256).digest()
        fields["webhook-signature"] = f"v1,{base64.b64encode(made).decode()}"
    return fields
