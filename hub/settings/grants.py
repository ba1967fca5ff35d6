"""What `HUB_TOKEN_DEFAULT_GRANTS` may say."""

from typing import Annotated

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict

from hub.auth.grants import SUBJECT, check_pattern
from hub.errors import BadRequestError
from hub.settings.parsing import parse_json_object, split_list
from hub.settings.values import GRANTS


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
