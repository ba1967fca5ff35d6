"""The server-side functions: how they are loaded and called.

The hub's own calls carry a digest of the library's text in their names, so that nodes of two
versions run side by side on one Redis, each with the text it was made for. Libraries of
versions that no node runs any more are 6 KB each and may be deleted (FUNCTION DELETE hub_...).

`hub_publish` is for everybody else and keeps its meaning in all versions; a newer one replaces
an older one. Any Redis client publishes with it, sequenced and kept like the hub itself:

    FCALL hub_publish 2 hub:{news}:meta hub:{news}:log '{"hello":1}'
    FCALL hub_publish 2 hub:{news}:meta hub:{news}:log '{"hello":1}' KEY
    FCALL hub_publish 3 hub:{news}:meta hub:{news}:log hub:{news}:once:ANY-ID '{"hello":1}'

The third form publishes once however often it is called (within `idempotency_ttl_seconds`) and
answers `conflict` for other data. The answer is epoch, offset, and 1 for a repeat. Size and
age of the history are those of the hub node that used the channel last. Data that is no JSON
or too large reaches subscribers as a gap `invalid`. Every key begins with the prefix of the hub
that is meant, `hub` unless it has another: these functions serve all hubs on one Redis.

An ACL user for a node needs `~hub:* &hub:*` (its prefix for `hub`), @connection, @pubsub, FCALL,
FUNCTION LOAD, INFO, TIME, HMGET, HSET, PEXPIRE, DEL, XADD, XRANGE, XTRIM; for presence HGET,
HGETALL, HSCAN, HDEL, ZADD, ZSCORE, ZRANGE, ZREM, ZREMRANGEBYSCORE; to know the other nodes SET,
MGET, EXISTS, SADD, SREM, SMEMBERS; in a cluster CLUSTER NODES; before Redis 7.0 EVALSHA, SCRIPT
LOAD, SETRANGE. Sentinels are asked SENTINEL MASTER and SENTINEL GET-MASTER-ADDR-BY-NAME.
"""

import re
from hashlib import sha1
from importlib.resources import files

from redis.asyncio.connection import AbstractConnection
from redis.exceptions import ResponseError

from hub.brokers.redis.failures import LostError

Argument = str | bytes | int
Command = tuple[Argument, ...]

# Raised whenever `publish_from_outside` changes in library.lua.
PUBLIC_VERSION = 3

_BODY = "".join(
    files("hub.brokers.redis").joinpath(name).read_text("utf-8")
    for name in ("library.lua", "presence.lua")
)
_PRESENCE = ("join", "leave", "renew", "assert_present", "members")
_NAMES = ("open", "page", "publish", *_PRESENCE)

# A Redis that is full takes these all the same: who is subscribed goes on, who is present is known.
_NEED_NO_ROOM = frozenset({"open", "page", "leave", "renew", "members"})


def _registered(name: str, digest: str) -> str:
    flags = "'allow-oom'" if name in _NEED_NO_ROOM else ""
    return f"""redis.register_function{{
  function_name='hub_{name}_{digest}', callback={name}, flags={{{flags}}}
}}
"""


def _own(digest: str) -> str:
    functions = "".join(_registered(name, digest) for name in _NAMES)
    return f"#!lua name=hub_{digest}\n{_BODY}\n{functions}"


# Of all that is loaded under the name, how the functions are registered too. Scripts need none:
# Redis knows each by the digest of its whole text.
_DIGEST = sha1(_own("").encode(), usedforsecurity=False).hexdigest()[:8]
_OWN = _own(_DIGEST)
_PUBLIC = f"""#!lua name=hub
{_BODY}
redis.register_function('hub_publish', publish_from_outside)
redis.register_function{{
  function_name='hub_version', flags={{'no-writes'}},
  callback=function() return {PUBLIC_VERSION} end
}}
"""
# `min-replicas-to-write` does not hold for what scripts do before 7.0. How many it asks for cannot
# be known here, so this is as much as one replica.
_GUARD = """
if info('replication', 'min_slaves_good_slaves') == '0' then
  return redis.error_reply('NOREPLICAS Not enough good replicas to write.')
end
"""
# Nor does `maxmemory` for any command but the first that may write. So that is one which changes
# nothing: it is refused where memory is full (and where the key is a hash), or taken even then.
_NEEDS_ROOM = """
local room = redis.pcall('SETRANGE', KEYS[1], 0, '')
if type(room) == 'table' and string.find(room.err, 'OOM', 1, true) then
  return redis.error_reply('OOM command not allowed when used memory > maxmemory.')
end
"""
_NEEDS_NONE = "redis.pcall('HDEL', KEYS[1], '')\nredis.pcall('ZREM', KEYS[2], '')\n"


class Library:
    """Knows how the server that is connected now wants to be called."""

    def __init__(self, *, use_functions: bool) -> None:
        self._use_functions = use_functions
        self._prefixes: dict[str, Command] = {}
        self.server_version = ""
        """Of the server that was connected last, such as 7.0.15."""

    def call(self, name: str, keys: Command, arguments: Command) -> Command:
        """The command that runs a function of library.lua or presence.lua."""
        return (*self._prefixes[name], len(keys), *keys, *arguments)

    async def load(self, connection: AbstractConnection) -> None:
        """Have the server know the functions.

        Raises what redis-py raises, and `LostError` where nothing can be written.
        """
        if b"role:master" not in await ask(connection, "INFO", "replication"):
            raise LostError("it is a replica, not a master")
        self.server_version = _version(await ask(connection, "INFO", "server"))
        if self._use_functions:
            try:
                await self._load_functions(connection)
            except ResponseError as error:
                if "unknown command" not in str(error).lower():
                    raise
            else:
                return
        await self._load_scripts(connection)

    async def _load_functions(self, connection: AbstractConnection) -> None:
        try:
            await ask(connection, "FUNCTION", "LOAD", _OWN)
        except ResponseError as error:
            if "already exists" not in str(error):
                raise
        self._prefixes = {name: ("FCALL", f"hub_{name}_{_DIGEST}") for name in _NAMES}
        await self._load_public(connection)

    async def _load_public(self, connection: AbstractConnection) -> None:
        try:
            version = await ask(connection, "FCALL", "hub_version", 0)
        except ResponseError as error:
            if "Function not found" not in str(error):
                raise
            version = b"0"
        if int(version) < PUBLIC_VERSION:
            await ask(connection, "FUNCTION", "LOAD", "REPLACE", _PUBLIC)

    async def _load_scripts(self, connection: AbstractConnection) -> None:
        for name in _NAMES:
            first = _NEEDS_NONE if name in _NEED_NO_ROOM else _NEEDS_ROOM
            script = f"{_BODY}{_GUARD}{first}return {name}(KEYS, ARGV)"
            digest = await ask(connection, "SCRIPT", "LOAD", script)
            self._prefixes[name] = ("EVALSHA", digest)


def _version(info: bytes) -> str:
    """From the answer to INFO."""
    found = re.search(rb"^redis_version:(\S{1,40})", info, re.MULTILINE)
    return found[1].decode(errors="replace") if found else "unknown"


async def ask(connection: AbstractConnection, *command: Argument) -> bytes:
    """One command and its answer, text or number; nobody else uses the connection yet."""
    await connection.send_packed_command(connection.pack_command(*command), check_health=False)
    answer: bytes | int = await connection.read_response()
    return answer if isinstance(answer, bytes) else b"%d" % answer
