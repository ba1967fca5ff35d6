"""The directory of the history file, made before anything else needs it."""

from pathlib import Path

from structlog.typing import FilteringBoundLogger

from hub.brokers.sqlite.options import is_sqlite, path_of
from hub.errors import SettingsError
from hub.observe.log_levels import BROKER
from hub.settings import Settings


def make_history_directory(settings: Settings, log: FilteringBoundLogger) -> None:
    """Make what is missing on the way to the history file, for the hub's user alone.

    Raises `SettingsError` where that cannot be done: a hub that starts all the same would answer
    every publication with 503. A directory that goes away later is waited for.
    """
    if not is_sqlite(settings.broker):
        return
    directory = Path(path_of(settings.broker)).parent
    if directory.is_dir():
        return
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        why = error.strerror or error
        raise SettingsError(f"HUB_BROKER: cannot make the directory {directory}: {why}") from None
    log.info("history_directory_made", subsystem=BROKER, path=str(directory))
