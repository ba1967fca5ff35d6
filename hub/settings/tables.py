"""The settings whose values are tables: `HUB_NAMESPACES` and `HUB_TOKEN_DEFAULT_GRANTS`."""

from typing import Annotated

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

from hub.auth.grants import SUBJECT, check_pattern
from hub.core.options import MAX_HISTORY
from hub.errors import BadRequestError
from hub.settings.declaring import DAY_SECONDS
from hub.settings.parsing import parse_json_object, split_list
from hub.settings.values import (
    GRANTS,
    NAMESPACES,
    Count,
    NamespaceName,
    OverflowPolicy,
    Seconds,
    Switch,
)


class NamespaceChanges(BaseModel):
    """A namespace's changes of the channel options; None keeps the general one."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    history_size: Count | None = Field(None, ge=0, le=MAX_HISTORY)
    history_ttl_seconds: Seconds | None = Field(None, ge=0, le=365 * DAY_SECONDS)
    presence: Switch | None = None
    overflow: OverflowPolicy | None = None
    allow_raw: Switch | None = None
    keyed: Switch | None = None
    state_max_keys: Count | None = Field(None, ge=1, le=100_000)
    state_ttl_seconds: Seconds | None = Field(None, ge=0, le=365 * DAY_SECONDS)


Changes = Annotated[
    dict[NamespaceName, NamespaceChanges], BeforeValidator(parse_json_object), NAMESPACES
]


def _check(value: str) -> str:
    try:
        check_pattern(value.replace(SUBJECT, "sub"))
    except BadRequestError as error:
        raise ValueError(f"{error.message}, or such a prefix and *") from None
    return value


Patterns = Annotated[
    tuple[Annotated[str, AfterValidator(_check)], ...], BeforeValidator(split_list)
]


class DefaultGrants(BaseModel):
    """Channels, or prefixes ending in `*`; `{sub}` stands for the token's subject."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    subscribe: Patterns = ()
    publish: Patterns = ()


Grants = Annotated[DefaultGrants, BeforeValidator(parse_json_object), GRANTS]
