"""Access to a node, as the settings describe it: policy, keys, provider, and the file of bans.

The file (`HUB_BANS_PATH`) keeps bans and revocations of nodes whose broker keeps nothing on disk.
It has one record a line, as a JSON object, and 20,000 records at most: a ban, a revocation, or the
end of one. Each change writes the whole file anew beside the old one, and then renames it: a
process that is killed while it writes leaves the old file. Workers of one machine share the file.
The worker that an operator asks writes it, under a lock beside it, together with the other workers'
records: of two records about one name the later one stays.
"""

import asyncio
import fcntl
import os
import time
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
from structlog.typing import FilteringBoundLogger

from hub.auth.bans import Standing, Standings
from hub.auth.keys import HeldKey, read_publish_key
from hub.auth.policy import Policy
from hub.auth.signatures import Signatures
from hub.auth.tokens import TokenRules, TokenVerifier
from hub.core.each_session import each_session
from hub.core.identity import Identity
from hub.core.registry import SessionRegistry
from hub.core.session.session import Session
from hub.errors import SettingsError, UnauthorizedError, UnavailableError
from hub.node.core import Shared
from hub.observe.log_levels import HTTP
from hub.settings import Settings

if TYPE_CHECKING:
    from hub.auth.provider import ProviderKeys
    from hub.auth.public_keys import PublicKey

PEM = "-----BEGIN"


def provider_of(settings: Settings, shared: Shared) -> "ProviderKeys | None":
    """Make the keys of the identity provider that the settings name; the caller runs its `run`."""
    if not settings.token_jwks_url:
        return None
    from hub.auth.fetching import KeySetSource  # noqa: PLC0415 - see `hub.auth.algorithms`
    from hub.auth.provider import ProviderKeys  # noqa: PLC0415

    return ProviderKeys(
        KeySetSource(settings.token_jwks_url),
        clock=shared.clock,
        counters=shared.counters,
        log=shared.log.bind(subsystem=HTTP),
    )


async def end_without_key(registry: SessionRegistry, policy: Policy) -> int:
    """End the sessions of keys that were taken out; return how many."""

    def close(session: Session) -> bool:
        if taken := not policy.still_holds(session.identity):
            session.close_error(UnauthorizedError("the key has been taken out"))
        return taken

    return await each_session(registry, close)


def policy_of(
    settings: Settings,
    *,
    provider: "ProviderKeys | None" = None,
    check_token: Callable[[Identity], None] = lambda _: None,
    refusals: Counter[str] | None = None,
) -> Policy:
    """Make the policy; raise `SettingsError` where a key or a file cannot be used."""
    return Policy(
        publish_keys=publish_keys_of(settings),
        operator_keys=[key.get_secret_value() for key in settings.operator_keys],
        tokens=verifier_of(settings, provider=provider),
        token_cookie=settings.token_cookie,
        check_token=check_token,
        refusals=refusals,
        origins=settings.origins,
        hosts=settings.hosts,
        leeway_seconds=settings.token_leeway_seconds,
        on_loopback_only=settings.listens_on_loopback_only and not settings.insecure,
        anonymous=settings.strangers_may_read,
        outsiders=settings.outsiders_are_as_others,
    )


def publish_keys_of(settings: Settings) -> list[HeldKey]:
    return [read_publish_key(key.get_secret_value()) for key in settings.publish_keys]


def verifier_of(
    settings: Settings,
    *,
    provider: "ProviderKeys | None" = None,
    clock: Callable[[], float] = time.time,
) -> TokenVerifier:
    """Make the verifier of tokens, as the settings say."""
    signatures = Signatures(
        [key.get_secret_value() for key in settings.token_keys],
        public_keys_of(settings.token_public_keys),
        provider=provider,
        algorithms=settings.token_algorithms,
    )
    rules = TokenRules(
        issuers=settings.token_issuer,
        audiences=settings.token_audience,
        leeway_seconds=settings.token_leeway_seconds,
        max_age_seconds=settings.token_max_age_seconds,
        grants_claim=settings.token_grants_claim,
        default_grants=settings.token_default_grants.model_dump(),
    )
    return TokenVerifier(signatures, clock=clock, rules=rules)


def public_keys_of(files: tuple[str, ...]) -> "list[PublicKey]":
    """Return the keys in PEM files, or in PEM text that stands in place of a file's name."""
    if not files:
        return []
    from hub.auth.public_keys import read_pem  # noqa: PLC0415 - see `hub.auth.algorithms`

    keys: list[PublicKey] = []
    for number, named in enumerate(files, start=1):
        shown = f"entry {number}" if named.startswith(PEM) else named
        try:
            text = named if named.startswith(PEM) else Path(named).read_text(encoding="utf-8")
            keys += read_pem(text)
        except OSError as error:
            why = error.strerror or type(error).__name__
            raise SettingsError(f"HUB_TOKEN_PUBLIC_KEYS: {shown} cannot be read: {why}") from None
        except ValueError as error:
            raise SettingsError(f"HUB_TOKEN_PUBLIC_KEYS: {shown}: {error}") from None
    return keys


_LINE = msgspec.json.Decoder(Standing)


class BansFile:
    """Implements `hub.admin.bans.StandingStore`; one per node.

    Args:
        now_ms: milliseconds since 1970 UTC.
    """

    def __init__(self, path: Path, log: FilteringBoundLogger, *, now_ms: Callable[[], int]) -> None:
        self._path = path
        self._now_ms = now_ms
        self._log = log
        self._writing = asyncio.Lock()

    def read(self) -> list[Standing]:
        """Return the records of the file; none where there is no file.

        Raises `SettingsError` where it cannot be read: a node that does not know who is banned
        must not let everybody in.
        """
        try:
            lines = self._path.read_bytes().splitlines()
            return [_LINE.decode(line) for line in lines if line.strip()]
        except FileNotFoundError:
            if self._path.parent.is_dir():
                return []
            missing = f"its directory {self._path.parent} is missing: make it"
            raise SettingsError(f"HUB_BANS_PATH: {self._path}: {missing}") from None
        except (OSError, ValueError, RecursionError) as error:
            why = error.strerror if isinstance(error, OSError) else "it is no list of bans"
            raise SettingsError(f"HUB_BANS_PATH: {self._path} cannot be read: {why}") from None

    async def write(self, records: Iterable[Standing]) -> None:
        """Add these records to the file; raise `UnavailableError` where it does not take them."""
        added = tuple(records)
        async with self._writing:
            try:
                await asyncio.to_thread(self._add, added)
            except (OSError, SettingsError) as error:
                why = error.message if isinstance(error, SettingsError) else error.strerror
                self._log.error("bans_not_written", path=str(self._path), reason=why)
                raise UnavailableError(
                    f"it holds until this node ends, and could not be written: {why}"
                ) from None

    def _add(self, records: Iterable[Standing]) -> None:
        known, now_ms = Standings(), self._now_ms()
        with self._path.with_name(f"{self._path.name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            for each in (*self.read(), *records):
                known.merge(each, now_ms)
            self._replace(b"".join(msgspec.json.encode(each) + b"\n" for each in known))

    def _replace(self, text: bytes) -> None:
        beside = self._path.with_name(f"{self._path.name}.new")
        # It holds subjects, so no other user may read it.
        descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(self._path)


def bans_file(
    settings: Settings, log: FilteringBoundLogger, *, now_ms: Callable[[], int]
) -> BansFile | None:
    """Return the file that the settings name; None where a broker keeps records on disk."""
    if not settings.bans_path or not settings.broker.startswith("memory:"):
        return None
    return BansFile(Path(settings.bans_path), log, now_ms=now_ms)
