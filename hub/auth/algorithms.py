"""The names of the algorithms that tokens may be signed with.

They are apart from the verification, whose import takes 80 ms and 9 MB, which a hub without tokens
does not need. `hub.auth.jws` has what verifies by each, and `hub.auth.public_keys` the keys that
fit each.
"""

HMAC = "HS256"
PUBLIC = ("RS256", "PS256", "ES256", "EdDSA")
"""The algorithms that verify with a public key (RFC 7518 sections 3.3 to 3.5, RFC 8037)."""
ALGORITHMS = (HMAC, *PUBLIC)
