"""The access policy: the one object that every transport asks.

Three rules for a peer that sends no credentials:

- it may subscribe unless tokens are taken (`HUB_TOKEN_KEYS`, `HUB_TOKEN_PUBLIC_KEYS` or
  `HUB_TOKEN_JWKS_URL`: "token keys" below), or a key is set and other machines can connect;
  `HUB_ANONYMOUS` decides otherwise, either way;
- it may publish only where nothing at all is set;
- it may operate only where nothing at all is set.

Which makes this table on loopback; elsewhere "anybody" in the rows with keys is "any key". History
and presence are as revealing as a subscription and follow it:

| set                  | subscribe                | publish                     | operate      |
|----------------------|--------------------------|-----------------------------|--------------|
| nothing              | anybody                  | anybody                     | anybody      |
| only publish keys    | anybody                  | publish key                 | nobody (403) |
| only operator keys   | anybody                  | operator key                | operator key |
| only token keys      | token's grants           | token's grants              | nobody (403) |
| publish + token keys | token's grants, any key  | token's grants, publish key | nobody (403) |
| operator keys too    | ... operator key         | ... operator key            | operator key |

With nothing set the hub binds loopback only, or needs `--insecure`. Another ASGI server may bind
any address: there a peer of another machine without credentials may do nothing, unless `--insecure`
(nothing set) or `HUB_ANONYMOUS=subscribe` (a key set) allows it. A publish key belongs to a trusted
backend: it may publish and read everywhere, or on its channels. An operator key may do all.

A credential that is not valid is refused with 401, also where nothing is set, and never ignored: a
peer must learn at once that it is not the identity that it sent. If a request carries several
credentials, all must be valid, and the first of `?token=`, `X-API-Key`, `Authorization` is the
identity.

A browser sends a cookie by itself, with requests of any page. So a token in a cookie
(`HUB_TOKEN_COOKIE`) counts only if the request has no other credential, and its fields name a page
of the hub's own host, or of a listed origin; the entry `*` of `HUB_ORIGINS` lists none. Otherwise
the hub ignores the cookie.
"""

import contextlib
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING

from hub.auth.credentials import (
    NO_CREDENTIALS,
    Credentials,
    missing,
    read_cookie,
    read_password,
)
from hub.auth.hosts import HostList
from hub.auth.keys import EVERYWHERE, KEY_PREFIX, HeldKey, KeyRing, digest
from hub.auth.origins import OriginList
from hub.auth.tickets import Tickets
from hub.auth.tokens import TokenVerifier
from hub.core.identity import Identity
from hub.core.ports import UndecidedError
from hub.errors import ForbiddenError, HubError, UnauthorizedError

if TYPE_CHECKING:
    from hub.auth.public_keys import PublicKey

# A key in the forms in which it is sent; further forms are read each time.
_MAX_KNOWN = 256
# RFC 6750 section 3: for 401 answers to all other requests; no browser opens a dialogue for it.
BEARER_CHALLENGE = 'Bearer realm="hub"'


class Policy:
    """The policy, made once from the settings; only publisher keys and public keys change later."""

    __slots__ = (
        "_check_token", "_clock", "_cookie", "_forget", "_held", "_holders", "_hosts", "_known",
        "_operators", "_origins", "_outsider", "_publishers", "_refusals", "_stranger", "_tickets",
        "_tokens", "open",
    )  # fmt: skip

    def __init__(  # noqa: PLR0913 - one for each setting that says who may
        self,
        *,
        publish_keys: Sequence[str | HeldKey] = (),
        operator_keys: Sequence[str] = (),
        token_keys: Sequence[str] = (),
        origins: Sequence[str] = (),
        hosts: Sequence[str] = (),
        on_loopback_only: bool = True,
        anonymous: bool | None = None,
        outsiders: bool = True,
        leeway_seconds: float = 0,
        clock: Callable[[], float] = time.time,
        tokens: TokenVerifier | None = None,
        token_cookie: str = "",
        check_token: Callable[[Identity], None] = lambda _: None,
        refusals: Counter[str] | None = None,
    ) -> None:
        """Take keys, origins, hosts, the leeway of tokens and a clock of seconds since 1970 UTC.

        Args:
            on_loopback_only: other machines cannot reach the port.
            anonymous: whether a peer without credentials may subscribe; None where that follows
                from `tokens`.
            outsiders: whether `Credentials.outside` gives the same rights; if not, it gives none.
            tokens: verifies them, where `token_keys` is not all there is.
            token_cookie: the name of a cookie that may hold a token; empty for none.
            check_token: raises `HubError` where the token's subject may not come in although
                it holds.
            refusals: where refusals are counted by reason.

        Raises:
            SettingsError: a key is empty or unusable, or an origin or host is not of an allowed
                form.
        """
        self._publishers = KeyRing(publish_keys, setting="HUB_PUBLISH_KEYS")
        self._operators = KeyRing(operator_keys, setting="HUB_OPERATOR_KEYS")
        self._tokens = tokens or TokenVerifier(
            token_keys, clock=clock, leeway_seconds=leeway_seconds
        )
        self._clock = clock
        self._cookie = token_cookie
        self._check_token = check_token
        self._refusals: Counter[str] = Counter() if refusals is None else refusals
        self._tickets = Tickets(operator_keys, clock=clock, leeway_seconds=leeway_seconds)
        self._origins = OriginList(origins)
        self._held = self._by_name()
        self._forget: list[Callable[[], None]] = []
        self._holders: dict[str, Identity] = {}
        """The identities of keys that were used, by the keys' public names: at most as many as are
        set."""
        self._known: dict[str, Identity] = {}
        """The identities of headers with such keys: the same publishers send theirs with each
        request."""
        self.open = not (self._publishers or self._operators or self._tokens)
        """Whether no key is set, so that every peer may do everything."""
        self._hosts = HostList(
            hosts, any_by_default=not self.open, addresses_by_default=not on_loopback_only
        )
        strangers_read = not self._tokens if anonymous is None else anonymous
        self._stranger = Identity(
            subscribe=EVERYWHERE if strangers_read else (),
            publish=EVERYWHERE if self.open else (),
            operator=self.open,
        )
        self._outsider = self._stranger if outsiders else Identity()

    def identify(self, credentials: Credentials, *, later_seconds: float | None = None) -> Identity:
        """Find the identity that is asking.

        Args:
            later_seconds: within which a peer that has sent nothing may still send a token; None
                where it cannot.

        Raises:
            UndecidedError: a token's key has to be asked for; see `hub.core.ports`.
            UnauthorizedError: the credentials are not valid, or some are missing.
            ForbiddenError: the token is valid, and its subject is banned.
        """
        stranger = self._stranger_of(credentials)
        if credentials is NO_CREDENTIALS and stranger.subscribe:
            return stranger
        try:
            presented = self._presented(credentials)
            if not presented and not stranger.subscribe:
                if later_seconds is not None and self._tokens:
                    return Identity(awaits_token=True, expires_at=self._clock() + later_seconds)
                raise self._missing("read")
        except HubError as error:
            raise self._counted(error) from None
        return presented[0] if presented else stranger

    def _stranger_of(self, credentials: Credentials) -> Identity:
        return self._outsider if credentials.outside else self._stranger

    def _missing(self, act: str) -> UnauthorizedError:
        return missing(act, takes_tokens=bool(self._tokens), no_key_at_all=self.open)

    def identify_publisher(self, credentials: Credentials) -> Identity:
        """Identify like `identify`, but refuse strangers where publishing needs a credential.

        For requests that can only publish: 401 says that credentials would help, where the
        stranger's missing grant would make it 403.
        """
        stranger = self._stranger_of(credentials)
        try:
            presented = self._presented(credentials)
            if not presented and not stranger.publish:
                raise self._missing("publish")
        except HubError as error:
            raise self._counted(error) from None
        return presented[0] if presented else stranger

    def replace_publish_keys(self, keys: Sequence[str | HeldKey]) -> None:
        """Take these publisher keys from now on; all others become invalid.

        A hub that began without any key stays open, so that an edited file shuts nobody out.
        """
        self._publishers = KeyRing(keys, setting="HUB_PUBLISH_KEYS")
        self._held = self._by_name()
        self._holders.clear()
        self._known.clear()
        for forget in self._forget:
            forget()

    def replace_token_keys(self, keys: "Iterable[PublicKey]") -> None:
        """Verify tokens by these public keys from now on, beside secrets and a provider's."""
        self._tokens.take_public_keys(keys)

    def when_keys_change(self, forget: Callable[[], None]) -> None:
        """Call `forget` at each change of keys: all that was remembered of holders is void then."""
        self._forget.append(forget)

    def still_holds(self, identity: Identity) -> bool:
        """Return whether the key of this identity, if it has one, is still valid with such
        rights."""
        named = identity.publisher
        if not named.startswith(KEY_PREFIX):
            return True
        held = self._held.get(named)
        return held is not None and held.channels == identity.subscribe

    def _by_name(self) -> dict[str, HeldKey]:
        # An operator's rights are the greater ones.
        return {key.name: key for ring in (self._publishers, self._operators) for key in ring}

    def lasts(self, identity: Identity) -> bool:
        """Return whether the same credentials, or none, mean this identity until keys change.

        They do for keys and for peers without credentials. A token expires, and is verified each
        time.
        """
        return identity is self._stranger or self._holders.get(identity.publisher) is identity

    def authenticate(self, token: str) -> Identity:
        """Return the identity that a session's token names, or that of an operator's ticket in its
        place.

        Raises as `identify` does unless the token is valid now.
        """
        try:
            return self._by_token(token, tickets=True)
        except HubError as error:
            raise self._counted(error) from None

    def ticket(self) -> str | None:
        """Return a ticket for an operator; None where operators need no key."""
        return self._tickets.issue()

    def check_operator(self, credentials: Credentials) -> Identity:
        """Find the identity of the operator that asks.

        Raises:
            UnauthorizedError: the request has no credentials, or credentials that are not valid.
            ForbiddenError: the credentials are valid but are no operator key, or none is set.
        """
        try:
            return self._operator(credentials)
        except HubError as error:
            raise self._counted(error) from None

    def _operator(self, credentials: Credentials) -> Identity:
        if not self.open and not self._operators:
            why = "operating needs an operator key, and HUB_OPERATOR_KEYS is not set"
            raise ForbiddenError(why, refusal="not_operator")
        stranger = self._stranger_of(credentials)
        presented = self._presented(credentials)
        if not presented and not stranger.operator:
            raise self._missing("operate")
        if found := next((each for each in presented or [stranger] if each.operator), None):
            return found
        raise ForbiddenError("these credentials are not an operator's", refusal="not_operator")

    def check_host(self, host: str | None) -> None:
        """Raise `MisdirectedRequestError` unless a request may name `host`.

        Each route asks for each request. `host` is the `Host` header, or the authority of an
        absolute target (RFC 9112 section 3.2.2); None where the request names none.
        """
        try:
            self._hosts.check(host)
        except HubError as error:
            error.refusal = "host"
            self._refusals["host"] += 1
            raise

    def check_origin(
        self, origin: str | None, host: str | None, fetch_site: str | None = None
    ) -> None:
        """Raise `ForbiddenError` unless a page of `origin` may talk to the hub at `host`."""
        try:
            self._origins.check(origin, host, fetch_site)
        except HubError as error:
            error.refusal = "origin"
            self._refusals["origin"] += 1
            raise

    def _counted(self, error: HubError) -> HubError:
        if not isinstance(error, UndecidedError):  # which is judged again
            self._refusals[error.refusal] += 1
        return error

    def _presented(self, credentials: Credentials) -> list[Identity]:
        """Return the identities of all credentials sent, in order of precedence."""
        presented = []
        if credentials.token is not None:
            presented.append(self._by_token(credentials.token, tickets=True))
        if credentials.api_key is not None:
            presented.append(self._by_key(credentials.api_key))
        if credentials.authorization is not None:
            presented.append(self._by_authorization(credentials.authorization))
        if not presented and self._cookie and (token := self._token_of_cookie(credentials)):
            presented.append(self._by_token(token, tickets=False))
        return presented

    def _token_of_cookie(self, credentials: Credentials) -> str | None:
        if credentials.cookie is None:
            return None
        page = (credentials.origin, credentials.host, credentials.fetch_site)
        return read_cookie(credentials.cookie, self._cookie) if self._origins.names(*page) else None

    def check_standing(self, identity: Identity) -> None:
        """Raise `HubError` where operators have banned the identity, or revoked its token."""
        self._check_token(identity)

    def _by_token(self, token: str, *, tickets: bool) -> Identity:
        """Return the identity of a token. Tickets count only where they are allowed: they come in
        URLs, which are seen, and must not do what a key does."""
        try:
            identity = self._tokens.verify(token)
        except UndecidedError:
            raise
        except UnauthorizedError:
            if tickets:
                with contextlib.suppress(UnauthorizedError):
                    return self._tickets.verify(token)
            raise
        self._check_token(identity)
        return identity

    def _by_authorization(self, header: str) -> Identity:
        if (known := self._known.get(header)) is not None:
            return known
        identity = self._read_authorization(header)
        # A key holds as long as the process; a token has to be verified each time.
        if identity.publisher in self._holders and len(self._known) < _MAX_KNOWN:
            self._known[header] = identity
        return identity

    def _read_authorization(self, header: str) -> Identity:
        scheme, _, value = header.strip().partition(" ")
        match scheme.lower():  # RFC 9110 section 11.1: the scheme is case-insensitive
            case "bearer":
                return self._by_bearer(value.strip())
            case "basic":
                return self._by_key(read_password(value.strip()))
            case _:
                raise UnauthorizedError(
                    "Authorization must be Bearer or Basic", refusal="malformed"
                )

    def _by_bearer(self, value: str) -> Identity:
        identity = self._holder(value)
        if identity is not None:
            return identity
        # A token is three parts joined by dots (RFC 7515 section 3.1): say why it fails, not
        # that it is no key.
        if value.count(".") == 2:
            return self._by_token(value, tickets=False)
        message = self._no_such_key()
        if self._tokens:
            message = f"this is no token (three parts joined by dots), and {message}"
        raise UnauthorizedError(message, refusal="key")

    def _by_key(self, key: str) -> Identity:
        identity = self._holder(key)
        if identity is None:
            raise UnauthorizedError(self._no_such_key(), refusal="key")
        return identity

    def _holder(self, key: str) -> Identity | None:
        """Return the identity of a key's holder; both rings are always searched."""
        hashed = digest(key)
        operator = self._operators.find_key(hashed)
        publisher = self._publishers.find_key(hashed)
        found = operator or publisher
        if found is None:
            return None
        holder = self._holders.get(found.name)
        if holder is None:
            holder = self._holders[found.name] = Identity(
                publisher=found.name,
                subscribe=found.channels,
                publish=found.channels,
                operator=operator is not None,
            )
        return holder

    def _no_such_key(self) -> str:
        if self.open:
            return "no keys are set here, so none can hold: send no credentials"
        return "the key is not one that is set here"
