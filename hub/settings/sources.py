"""The sources of settings: flags before environment before the TOML file.

Each source is one flat mapping of setting name to value as it was written. The callers hand in the
environment and the file.
"""

import tomllib
from collections.abc import Container, Iterable, Mapping, Sequence
from pathlib import Path

from pydantic.fields import FieldInfo
from pydantic_settings import PydanticBaseSettingsSource

from hub.errors import SettingsError
from hub.settings.catalog import ENV_PREFIX, ValueSource, by_name
from hub.settings.explain import closest
from hub.settings.fields import Fields

CONFIG_VARIABLE = ENV_PREFIX + "CONFIG"
# Variables of the client commands, and the settings that a node has in their place. On a node one
# of them is more likely its setting with a letter missing.
_CLIENT_VARIABLES = {
    "HUB_URL": None,
    "HUB_TOKEN": None,
    "HUB_PUBLISH_KEY": "publish_keys",
    "HUB_OPERATOR_KEY": "operator_keys",
}
# Kubernetes' docker-links variables for a Service called `hub`; nobody meant them for us.
_SERVICE_LINKS = (ENV_PREFIX + "SERVICE_", ENV_PREFIX + "PORT_")


class Layer(PydanticBaseSettingsSource):
    """The values of one origin."""

    def __init__(self, origin: ValueSource, values: Mapping[str, object]) -> None:
        super().__init__(Fields)
        self.origin = origin
        self.values = dict(values)

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[object, str, bool]:
        """Return one value, as pydantic-settings asks for it."""
        name = field.alias or field_name
        return self.values.get(name), name, False

    def __call__(self) -> dict[str, object]:
        return dict(self.values)


def origins(layers: Sequence[Layer]) -> dict[str, ValueSource]:
    """Return the source of each setting; `layers` come strongest first."""
    return {name: layer.origin for layer in reversed(layers) for name in layer.values}


def environment_layer(environ: Mapping[str, str]) -> Layer:
    """Return the variables that are settings. An empty one is not set: compose files write it
    so."""
    found = {name: environ.get(info.env, "") for name, info in by_name().items()}
    return Layer(ValueSource.ENVIRONMENT, {name: text for name, text in found.items() if text})


def unknown_variables(environ: Mapping[str, str], given: Container[str] = ()) -> Iterable[str]:
    """Yield a sentence for each `HUB_` variable that is no setting, as it is probably
    misspelled.

    A variable of the client commands is told of unless its setting is among those `given`.
    """
    known = {info.env for info in by_name().values()} | {CONFIG_VARIABLE}
    for name in sorted(environ):
        if not name.startswith(ENV_PREFIX) or name in known | _foreign(environ):
            continue
        if name not in _CLIENT_VARIABLES:
            meant = closest(name, known, prefix=ENV_PREFIX)
            yield f"{name} is not a setting and has no effect{meant}"
        elif (setting := _CLIENT_VARIABLES[name]) is not None and setting not in given:
            meant = by_name()[setting].env
            yield f"{name} is for commands and sets no key of this node; did you mean {meant}?"


def _foreign(environ: Mapping[str, str]) -> set[str]:
    return {name for name in environ if name.startswith(_SERVICE_LINKS)}


def file_layer(path: Path) -> Layer:
    """Return the keys of a TOML file; raise `SettingsError` when it cannot be read or has unknown
    keys."""
    values = _read_toml(path)
    known = by_name()
    wrong = [
        f"{name} in {path} is not a setting{closest(_as_key(name), known)}"
        for name in values
        if name not in known
    ]
    if wrong:
        raise SettingsError("\n".join(wrong))
    return Layer(ValueSource.FILE, values)


def _as_key(name: str) -> str:
    """Return the key for `HUB_PORT`, as a variable is written, or `base-path`, as a flag is."""
    return name.removeprefix(ENV_PREFIX).lower().replace("-", "_")


def flag_layer(flags: Mapping[str, object]) -> Layer:
    """Return the flags that were given; None stands for one that was not."""
    return Layer(
        ValueSource.FLAG, {name: value for name, value in flags.items() if value is not None}
    )


def _read_toml(path: Path) -> dict[str, object]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise SettingsError(f"the config file {path} cannot be read: {reason}") from error
    except ValueError as error:
        raise SettingsError(f"the config file {path} is no TOML: {error}") from error
