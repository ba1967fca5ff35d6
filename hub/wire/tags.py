"""Tags of a publication: a few scalars by name, which filters compare.

    {"league":"nba","home":true,"round":3}          in JSON
    league=nba, home=true                           in a header, where all values are texts

They are kept as a JSON object on one line with its names in order, so that the same tags are the
same bytes.
"""

import msgspec
import orjson

from hub.errors import BadRequestError
from hub.wire.payload import check_key, exact

MAX_TAGS = 16
MAX_NAME_LENGTH = 64
MAX_VALUE_LENGTH = 200

Tag = str | bool | int | float
Tags = dict[str, Tag]
_TAGS = msgspec.json.Decoder(Tags)


def check_tags(raw: bytes) -> bytes:
    """Return tags in their one form; raise `BadRequestError` for what are none."""
    try:
        tags = _TAGS.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise BadRequestError("tags are no JSON object of texts, numbers, true and false") from None
    return encode_tags(tags)


def encode_tags(tags: Tags) -> bytes:
    """Their one form; raise `BadRequestError` for what goes beyond the limits."""
    if len(tags) > MAX_TAGS:
        raise BadRequestError(f"{len(tags):,} tags, limit is {MAX_TAGS}")
    for name, value in tags.items():
        if not 1 <= len(name) <= MAX_NAME_LENGTH:
            raise BadRequestError(
                f"a tag's name is {len(name):,} characters, allowed are 1 to {MAX_NAME_LENGTH}"
            )
        check_key(name, "a tag's name")
        if isinstance(value, str) and len(value) > MAX_VALUE_LENGTH:
            raise BadRequestError(
                f"the tag {name!r} is {len(value):,} characters, limit is {MAX_VALUE_LENGTH}"
            )
    try:
        return exact(orjson.dumps(tags, option=orjson.OPT_SORT_KEYS))
    except orjson.JSONEncodeError:
        raise BadRequestError("tags hold a number or a text that JSON cannot") from None


def read_tags(header: str) -> bytes:
    """The tags of a header field, in either form."""
    if header.lstrip().startswith("{"):
        return check_tags(header.encode())
    tags: Tags = {}
    for pair in header.split(","):
        name, equals, value = pair.partition("=")
        if not equals:
            raise BadRequestError(
                f"X-Message-Tags: {pair.strip()[:60]!r} is not of the form name=value"
            )
        if (plain := name.strip()) in tags:
            raise BadRequestError(f"X-Message-Tags names {plain[:60]!r} twice")
        tags[plain] = value.strip()
    return encode_tags(tags)
