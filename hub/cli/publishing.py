"""The payloads of `hub publish` and `hub ingest`, and the exit code of a refusal."""

import codecs
from dataclasses import dataclass

from hub.cli.ending import WRONG_USE, fail

NOT_PUBLISHED = 1


@dataclass(frozen=True, slots=True)
class Payloads:
    """Turn bytes of input into the JSON that is published."""

    as_text: bool
    as_json: bool

    def __call__(self, raw: bytes) -> bytes:
        """Raise `ValueError` where only JSON is allowed and `raw` is not JSON."""
        import orjson

        from hub.errors import BadRequestError
        from hub.wire.payload import check_payload

        # Editors of Windows write one before a document; it is no part of it (RFC 8259, 8.1).
        raw = raw.removeprefix(codecs.BOM_UTF8)
        if not self.as_text:
            try:
                return check_payload(raw, limit=len(raw))
            except BadRequestError as error:
                if self.as_json:
                    raise ValueError(f"{error.message}; --text sends it as a string") from None
        # Bytes that are no UTF-8 cannot stand in JSON: they become U+FFFD.
        return orjson.dumps(raw.decode("utf-8", "replace"))


def check_kinds(*, as_text: bool, as_json: bool) -> None:
    """Raise `typer.Exit` where --text and --json are both given."""
    if as_text and as_json:
        raise fail(WRONG_USE, "--text and --json exclude each other")
