"""The settings of a node: read once, checked at once, never changed.

`Settings(port=0)` takes its arguments and defaults and reads nothing else; `load_settings` adds a
TOML file, the environment and flags. `hub.settings.fields` holds the meaning of each setting. The
use of a setting does not belong here.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Self
from urllib.parse import urlsplit

from pydantic import PrivateAttr, ValidationError, model_validator
from pydantic_core import PydanticCustomError
from pydantic_settings import BaseSettings

from hub.auth.algorithms import HMAC, PUBLIC
from hub.auth.keys import is_hashed, plain_length
from hub.brokers.redis.link import urls
from hub.core.limits import PeerLimits
from hub.core.options import (
    ACCESS_CHANNEL,
    ACCESS_OPTIONS,
    HUB_NAMESPACE,
    STATS_OPTIONS,
    ChannelOptions,
    Namespaces,
    SessionLimits,
)
from hub.errors import SettingsError
from hub.settings.catalog import SettingInfo, ValueSource, by_name
from hub.settings.explain import RULE, explain
from hub.settings.fields import Fields
from hub.settings.parsing import is_loopback, rate_of
from hub.settings.sources import (
    CONFIG_VARIABLE,
    Layer,
    environment_layer,
    file_layer,
    flag_layer,
    origins,
    unknown_variables,
)

# RFC 7518 section 3.2: a key of at least the hash's size must be used with HS256.
HS256_MIN_KEY_BYTES = 32
# As many of hexadecimal digits are 128 bits, which nobody guesses (NIST SP 800-131A).
MIN_KEY_CHARACTERS = 32

# Of each pair the first setting has its meaning only up to the value of the second, where that is
# not 0.
WITHIN = (
    ("max_message_bytes", "outbox_max_bytes"),
    ("max_message_bytes", "max_body_bytes"),
    ("max_message_bytes", "history_total_bytes"),
    ("max_body_bytes", "body_total_bytes"),
    ("outbox_max_bytes", "outbox_total_bytes"),
    # A channel's history and the answers to idempotency keys end with its epoch.
    ("history_ttl_seconds", "position_ttl_seconds"),
    ("idempotency_ttl_seconds", "position_ttl_seconds"),
    ("expiry_warning_seconds", "token_max_age_seconds"),
    ("max_subscriptions", "max_channels"),
    ("address_connections", "max_connections"),
    ("subject_connections", "max_connections"),
)

# The first settings have no effect where none of the second is set.
NEEDING = (
    (
        ("hooks", "hook_timeout_seconds", "hook_cache_seconds", "hook_when_down"),
        ("hook_url",),
    ),
    (("webhook_events",), ("webhook_url",)),
    (("webhook_secret",), ("hook_url", "webhook_url")),
)


class Settings(Fields):
    """All settings of one node, frozen. Raises `SettingsError` with a line for each wrong one."""

    _origins: dict[str, ValueSource] = PrivateAttr(default_factory=dict)
    _remarks: tuple[str, ...] = PrivateAttr(default=())
    _config_path: Path | None = PrivateAttr(default=None)

    def __init__(self, *layers: Layer, **values: object) -> None:
        """Take `values` by name; `layers`, strongest first, come from `load_settings`."""
        stack = (*layers, Layer(ValueSource.PYTHON, values))
        try:
            # Given sources replace pydantic-settings' own, which would read the environment. Not
            # `super()`: to a type checker `Fields` has an `__init__` of its fields alone.
            BaseSettings.__init__(self, _build_sources=(stack, {}))
        except ValidationError as error:
            # Not chained: pydantic's message would show what ours masks.
            raise SettingsError(explain(error, origins(stack))) from None
        self._origins = origins(stack)

    @model_validator(mode="after")
    def _refuse_an_open_door(self) -> Self:
        if self.anonymous == "none" and not self.has_credentials:
            allowed = (
                "with no key at all nobody could do anything; set HUB_PUBLISH_KEYS, "
                "HUB_TOKEN_KEYS or HUB_OPERATOR_KEYS"
            )
            context = {"setting": "anonymous", "value": self.anonymous, "allowed": allowed}
            raise PydanticCustomError(RULE, "{allowed}", context)
        if self.insecure or self.has_credentials or self.listens_on_loopback_only:
            return self
        allowed = (
            "with no key at all only this machine may connect (127.0.0.1, ::1 or localhost); "
            "either set HUB_PUBLISH_KEYS, HUB_TOKEN_KEYS or HUB_OPERATOR_KEYS, or let everybody "
            "in with HUB_INSECURE=true (--insecure)"
        )
        context = {"setting": "host", "value": self.host, "allowed": allowed}
        raise PydanticCustomError(RULE, "{allowed}", context)

    @model_validator(mode="after")
    def _refuse_half_a_certificate(self) -> Self:
        if self.tls_key and not self.tls_cert:
            allowed = "HUB_TLS_CERT names its certificate; without it nothing is encrypted"
            context = {"setting": "tls_key", "value": self.tls_key, "allowed": allowed}
            raise PydanticCustomError(RULE, "{allowed}", context)
        return self

    @model_validator(mode="after")
    def _refuse_algorithms_without_a_key(self) -> Self:
        fitting = [HMAC] if self.token_keys else []
        fitting += PUBLIC if self.token_public_keys or self.token_jwks_url else ()
        if fitting and self.token_algorithms and not {*fitting} & {*self.token_algorithms}:
            allowed = (
                f"it fits no key, so no token would be taken; HUB_TOKEN_KEYS need {HMAC}, "
                f"HUB_TOKEN_PUBLIC_KEYS and HUB_TOKEN_JWKS_URL one of {', '.join(PUBLIC)}"
            )
            value = ",".join(self.token_algorithms)
            context = {"setting": "token_algorithms", "value": value, "allowed": allowed}
            raise PydanticCustomError(RULE, "{allowed}", context)
        return self

    @property
    def has_credentials(self) -> bool:
        """Whether any key is configured, so that peers can be told apart."""
        return bool(self.publish_keys or self.operator_keys or self.takes_tokens)

    @property
    def takes_tokens(self) -> bool:
        """Whether some key or provider vouches for tokens."""
        return bool(self.token_keys or self.token_public_keys or self.token_jwks_url)

    @property
    def strangers_may_read(self) -> bool:
        """Whether a peer without credentials may subscribe."""
        if self.anonymous != "auto":
            return self.anonymous == "subscribe"
        closed = self.takes_tokens or not self.listens_on_loopback_only
        return not (self.has_credentials and closed)

    @property
    def outsiders_are_as_others(self) -> bool:
        """Whether a peer of another machine without credentials may do what one of this machine
        may, although the settings say that no other machine can connect."""
        return self.anonymous == "subscribe" if self.has_credentials else self.insecure

    @property
    def listens_on_loopback_only(self) -> bool:
        """Whether the port is out of reach of other machines."""
        return is_loopback(self.host)

    @property
    def broker_is_elsewhere(self) -> bool:
        """Whether publications are on a server that several machines reach."""
        return urls.are_redis(self.broker)

    def channel_defaults(self) -> ChannelOptions:
        """The options of channels in no namespace, or in one that changes nothing."""
        return ChannelOptions(
            history_size=self.history_size,
            history_ttl_seconds=self.history_ttl_seconds,
            presence=self.presence,
            overflow=self.overflow,
        )

    def namespaces(self) -> Namespaces:
        """The options of every channel: the general ones, and the changes of namespaces."""
        default = self.channel_defaults()
        changed = {
            name: replace(default, **changes.model_dump(exclude_none=True))
            for name, changes in self.namespace_changes.items()
        }
        return Namespaces(
            default,
            changed | {HUB_NAMESPACE: STATS_OPTIONS},
            {ACCESS_CHANNEL: ACCESS_OPTIONS},
        )

    def session_limits(self) -> SessionLimits:
        """The limits of one session."""
        return SessionLimits(
            outbox_max_messages=self.outbox_max_messages,
            outbox_max_bytes=self.outbox_max_bytes,
            outbox_max_age_seconds=self.outbox_max_age_seconds,
            max_subscriptions=self.max_subscriptions,
            max_patterns=self.max_patterns,
            max_message_bytes=self.max_message_bytes,
        )

    def peer_limits(self) -> PeerLimits:
        """The limits of one peer."""
        return PeerLimits(
            handshakes=rate_of(self.rate_handshakes),
            commands=rate_of(self.rate_commands),
            publishes=rate_of(self.rate_publishes),
            inbound_bytes=rate_of(self.rate_inbound_bytes),
            address_connections=self.address_connections,
            subject_connections=self.subject_connections,
        )

    def origin(self, info: SettingInfo) -> ValueSource:
        """Return the source of the value."""
        return self._origins.get(info.name, ValueSource.DEFAULT)

    def is_default(self, name: str) -> bool:
        """Return whether the value is the default."""
        return self.origin(by_name()[name]) is ValueSource.DEFAULT

    def origin_of(self, name: str) -> ValueSource:
        """Return the source by the setting's name."""
        return self._origins.get(name, ValueSource.DEFAULT)

    @property
    def config_path(self) -> Path | None:
        """The TOML file that was read, if any."""
        return self._config_path

    def warnings(self) -> list[str]:
        """Return a sentence for everything that works but was probably not meant."""
        return [*self._remarks, *self._short_keys(), *self._contradictions()]

    def _short_keys(self) -> Iterator[str]:
        for setting in ("publish_keys", "operator_keys"):
            for number, key in enumerate(getattr(self, setting), start=1):
                text = key.get_secret_value()
                hashed = setting == "publish_keys" and is_hashed(text)
                size = plain_length(text) if setting == "publish_keys" else len(text)
                if not hashed and size < MIN_KEY_CHARACTERS:
                    yield (
                        f"{self._name(setting)}: key {number} has {size} characters; below "
                        f"{MIN_KEY_CHARACTERS} it can be guessed (openssl rand -hex 32 makes one)"
                    )
        name = self._name("token_keys")
        for number, key in enumerate(self.token_keys, start=1):
            size = len(key.get_secret_value().encode())
            if size < HS256_MIN_KEY_BYTES:
                yield (
                    f"{name}: key {number} has {size} bytes; HS256 needs at least "
                    f"{HS256_MIN_KEY_BYTES} (RFC 7518 section 3.2), shorter ones can be guessed"
                )

    def _contradictions(self) -> Iterator[str]:
        if not self.has_credentials and not self.listens_on_loopback_only:
            yield f"{self._name('host')} is {self.host} without any key: everybody may publish"
        elif self.strangers_may_read and not self.listens_on_loopback_only:
            yield (
                f"{self._name('anonymous')} is {self.anonymous}: everybody who can reach this node "
                "may read every channel, its history and who is there"
            )
        yield from self._token_contradictions()
        if HUB_NAMESPACE in self.namespace_changes:
            yield (
                f"{self._name('namespace_changes')}: {HUB_NAMESPACE} is the hub's own "
                "namespace, and what is set for it does not count"
            )
        if self.bans_path and not self.broker.startswith("memory:"):
            yield (
                f"{self._name('bans_path')} is set and not used: the broker keeps bans and "
                "revocations"
            )
        if self.journal_path and not self.journal_bytes:
            yield (
                f"{self._name('journal_path')} is set and {self._name('journal_bytes')} is 0: what "
                "is not noted is not kept"
            )
        for names, needed in NEEDING:
            yield from self._without_effect(names, needed)
        for small, large in WITHIN:
            yield from self._too_small(large, self._name(small), getattr(self, small))
        for name, changes in self.namespace_changes.items():
            what = f"history_ttl_seconds of the namespace {name}"
            seconds = changes.history_ttl_seconds or 0
            yield from self._too_small("position_ttl_seconds", what, seconds)

    def _too_small(self, large: str, what: str, value: float) -> Iterator[str]:
        """Yield a sentence where the setting `large` is smaller than `value`, which is `what`."""
        if value > (most := getattr(self, large)) > 0:
            yield (
                f"{self._name(large)} ({most:,.15g}) is smaller than {what} ({value:,.15g}), which "
                "can never be used up"
            )

    def _without_effect(self, names: Sequence[str], needed: Sequence[str]) -> Iterator[str]:
        """Yield a sentence for each of `names` that is set while none of `needed` is."""
        if any(getattr(self, name) for name in needed):
            return
        for name in names:
            if not self.is_default(name):
                missing = " or ".join(map(self._name, needed))
                yield f"{self._name(name)} has no effect without {missing}"

    def _token_contradictions(self) -> Iterator[str]:
        url = urlsplit(self.token_jwks_url)
        if url.scheme == "http" and not is_loopback(url.hostname or ""):
            yield (
                f"{self._name('token_jwks_url')} is http: whoever is on the way can put keys of "
                "their own there; use https"
            )
        if self.token_jwks_url and not self.token_issuer:
            yield (
                f"{self._name('token_jwks_url')} is set and {self._name('token_issuer')} is not: "
                "tokens of every issuer whose key is there are taken"
            )
        verifies = ("token_issuer", "token_audience", "token_cookie", "token_algorithms")
        for name in verifies if not self.takes_tokens else ():
            if getattr(self, name):
                yield f"{self._name(name)} has no effect: no key vouches for any token"

    def _name(self, name: str) -> str:
        info = by_name()[name]
        return info.spelled(self.origin(info))


def load_settings(
    *,
    config_file: Path | None,
    flags: Mapping[str, object],
    environ: Mapping[str, str],
) -> Settings:
    """Return settings from flags, else from `environ`, else from the TOML file, else the defaults.

    Args:
        config_file: Read when given; otherwise the file that HUB_CONFIG names, if any.
        flags: By setting name, as text or bool; None for a flag that was not given.
        environ: Usually `os.environ`.

    Raises:
        SettingsError: With one line for each setting that is wrong.
    """
    named = environ.get(CONFIG_VARIABLE)
    path = config_file or (Path(named) if named else None)
    layers = [flag_layer(flags), environment_layer(environ)]
    if path is not None:
        layers.append(file_layer(path))
    given = {name for layer in layers for name in layer.values}
    remarks = tuple(unknown_variables(environ, given))
    try:
        settings = Settings(*layers)
    except SettingsError as error:
        # A setting may be missing because its variable is misspelled.
        raise SettingsError("\n".join((error.message, *remarks))) from None
    settings._remarks = remarks
    settings._config_path = path
    return settings
