"""What `HUB_NAMESPACES` may say of a namespace."""

from typing import Annotated

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from hub.settings.declaring import DAY_SECONDS, MAX_HISTORY
from hub.settings.parsing import parse_json_object
from hub.settings.values import (
    NAMESPACES,
    Count,
    NamespaceName,
    OverflowPolicy,
    Seconds,
    Switch,
)


class NamespaceChanges(BaseModel):
    """What a namespace changes of the channel options; None keeps the general one."""

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
