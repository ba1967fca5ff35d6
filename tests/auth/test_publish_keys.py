"""Publisher keys with scopes, as digests, and replaced while the hub runs."""

import hashlib
from pathlib import Path

import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st

from hub.auth.credentials import Credentials
from hub.auth.keys import HeldKey, digest, read_publish_key
from hub.auth.policy import Policy
from hub.core.counters import Counters
from hub.errors import ForbiddenError, SettingsError, UnauthorizedError
from hub.node.access import publish_keys_of
from hub.node.file_watch import KeyWatch, read_keys, watched_file
from hub.settings import load_settings

HEX = hashlib.sha256(b"secret").hexdigest()


@pytest.mark.parametrize(
    ("entry", "key", "name", "channels"),
    [
        ("secret", "secret", f"key:{HEX[:8]}", ("*",)),
        ("secret=orders:*|stock", "secret", f"key:{HEX[:8]}", ("orders:*", "stock")),
        ("secret=*", "secret", f"key:{HEX[:8]}", ("*",)),
        ("a2V5==", "a2V5==", None, ("*",)),
        ("a2V5===a|b", "a2V5==", None, ("a", "b")),
        ("=", "=", None, ("*",)),
        ("==x", "==x", None, ("*",)),
        (f"sha256:{HEX}", "secret", f"key:{HEX[:8]}", ("*",)),
        (f"shop:sha256:{HEX.upper()}=orders:*", "secret", "key:shop", ("orders:*",)),
    ],
)
def test_an_entry_says_the_key_and_where_it_may_publish(
    entry: str, key: str, name: str | None, channels: tuple[str, ...]
) -> None:
    found = read_publish_key(entry)
    assert (found.digest, found.channels) == (digest(key), channels)
    if name is not None:
        assert found.name == name


@pytest.mark.parametrize("entry", ["s3cret=a b", "s3cret=a||b", "s3cret=a*b", "s3cret=x/y"])
def test_wrong_channels_are_refused_without_showing_the_key(entry: str) -> None:
    with pytest.raises(SettingsError, match="HUB_PUBLISH_KEYS") as caught:
        load_settings(config_file=None, flags={}, environ={"HUB_PUBLISH_KEYS": entry})
    assert "s3cret" not in caught.value.message


@given(st.text(min_size=1).filter(lambda text: text.strip()))
def test_any_text_is_a_key_or_wrong_channels(entry: str) -> None:
    """Any entry is read as a key or refused, and an entry without `=` is a key for all channels."""
    try:
        found = read_publish_key(entry)
    except ValueError:
        assert "=" in entry
        return
    if "=" not in entry:
        assert (found.digest, found.channels) == (digest(entry), ("*",))


def bearer(key: str) -> Credentials:
    return Credentials(authorization=f"Bearer {key}")


def test_a_scoped_key_publishes_and_reads_on_its_channels_alone() -> None:
    policy = Policy(publish_keys=[read_publish_key("narrow=orders:*|stock"), "wide"])
    narrow = policy.identify_publisher(bearer("narrow"))
    narrow.check_publish("orders:42")
    narrow.check_publish("stock")
    narrow.check_subscribe("stock")
    for channel in ("stocks", "news"):
        with pytest.raises(ForbiddenError):
            narrow.check_publish(channel)
        with pytest.raises(ForbiddenError):
            narrow.check_subscribe(channel)
    policy.identify_publisher(bearer("wide")).check_publish("news")


TABLE = f"""
[publish_keys.shop]
sha256 = "{HEX}"
channels = ["orders:*", "stock"]

[publish_keys.backup]
sha256 = "{hashlib.sha256(b"other").hexdigest()}"
"""


def load(file: Path, **environ: str):  # type: ignore[no-untyped-def]  # settings of either origin
    return load_settings(config_file=file, flags={}, environ=environ)


def test_a_table_names_keys_by_their_digests(tmp_path: Path) -> None:
    """The file then holds nothing that opens anything."""
    file = tmp_path / "hub.toml"
    file.write_text(TABLE)
    settings = load(file)
    assert publish_keys_of(settings) == [
        HeldKey(digest("secret"), "key:shop", ("orders:*", "stock")),
        HeldKey(digest("other"), "key:backup", ("*",)),
    ]
    assert settings.warnings() == []
    assert HEX not in repr(settings)


@pytest.mark.parametrize(
    ("table", "tail"),
    [
        ('[publish_keys.shop]\nsha256 = "abc"', "publish_keys.shop.sha256 is not 64"),
        (f'[publish_keys.shop]\nsha256 = "{HEX}"\nkey = 1', "a table with sha256 and channels"),
        (f'[publish_keys.shop]\nsha256 = "{HEX}"\nchannels = []', "is no list of channels"),
        (f'[publish_keys.shop]\nsha256 = "{HEX}"\nchannels = ["a b"]', "has to be channels"),
        (f'[publish_keys."a b"]\nsha256 = "{HEX}"', "the name of a key"),
        ("[publish_keys]\nshop = 1", "a table with sha256 and channels"),
    ],
)
def test_a_wrong_table_says_what_is_wrong(tmp_path: Path, table: str, tail: str) -> None:
    file = tmp_path / "hub.toml"
    file.write_text(table)
    with pytest.raises(SettingsError, match=tail):
        load(file)


def test_only_a_file_whose_keys_count_is_watched(tmp_path: Path) -> None:
    """A key from the environment wins over the file and cannot change while the hub runs, so
    the file is not watched."""
    file = tmp_path / "hub.toml"
    file.write_text(TABLE)
    assert watched_file(load(file)) == file
    assert watched_file(load(file, HUB_PUBLISH_KEYS="k" * 32)) is None
    assert watched_file(load_settings(config_file=None, flags={}, environ={})) is None


class Watched:
    def __init__(self, file: Path) -> None:
        self.file = file
        self.taken: list[list[str]] = []
        self.counters = Counters()
        self.logged = structlog.testing.CapturingLogger()
        self.watch = KeyWatch(
            file,
            replace=self.replace,
            counters=self.counters,
            log=structlog.wrap_logger(self.logged, processors=[]),
        )

    async def replace(self, keys: list[HeldKey]) -> int:
        self.taken.append([key.name for key in keys])
        return 0

    async def look(self, times: int) -> None:
        for _ in range(times):
            await self.watch.look()


async def test_a_changed_file_is_read_once_it_stands_still(tmp_path: Path) -> None:
    file = tmp_path / "hub.toml"
    file.write_text(TABLE)
    watched = Watched(file)
    await watched.look(3)
    file.write_text(f"history_size = 5\n{TABLE}")
    await watched.look(1)
    assert watched.taken == []
    file.write_text(f"history_size = 50\n{TABLE}")
    await watched.look(1)
    assert watched.taken == []
    await watched.look(3)
    assert watched.taken == [["key:shop", "key:backup"]]
    assert watched.counters.key_reloads["read"] == 1


@pytest.mark.parametrize("text", ["publish_keys = [", "publish_keys = ['a b=c d']", "nonsense = 1"])
async def test_a_file_that_cannot_be_read_changes_nothing(tmp_path: Path, text: str) -> None:
    file = tmp_path / "hub.toml"
    file.write_text(TABLE)
    watched = Watched(file)
    file.write_text(text)
    await watched.look(3)
    assert watched.taken == []
    assert watched.counters.key_reloads["failed"] == 1
    [call] = watched.logged.calls
    assert call.kwargs["event"] == "publish_keys_not_read"
    file.unlink()
    await watched.look(3)
    assert watched.counters.key_reloads["failed"] == 2
    file.write_text(TABLE)
    await watched.look(3)
    assert len(watched.taken) == 1


def test_a_file_without_the_setting_has_no_keys(tmp_path: Path) -> None:
    """Which closes publishing to keys, and opens nothing."""
    file = tmp_path / "hub.toml"
    file.write_text("history_size = 5\n")
    assert read_keys(file) == []
    policy = Policy(publish_keys=["old"])
    policy.replace_publish_keys([])
    with pytest.raises(UnauthorizedError):
        policy.identify_publisher(Credentials())
    with pytest.raises(UnauthorizedError):
        policy.identify_publisher(bearer("old"))
