"""Whether a node traces publications. OpenTelemetry is an extra, loaded only when asked for."""

from typing import TYPE_CHECKING

from hub.errors import SettingsError

if TYPE_CHECKING:
    from hub.observe.tracing import Tracing


def make_tracing(share: float, *, node: str, version: str) -> "Tracing | None":
    """None where no share of the publications is to be traced.

    Raises:
        SettingsError: the extra is not installed.
    """
    if not share:
        return None
    try:
        from hub.observe.tracing import Tracing  # noqa: PLC0415 - an extra that few install
    except ImportError as error:
        raise SettingsError(
            f"HUB_TRACE_SAMPLE is {share:g}, but OpenTelemetry is not installed ({error}): "
            "install broadcast-hub[otel]; allowed without it: 0"
        ) from error
    return Tracing(share, node=node, version=version)
