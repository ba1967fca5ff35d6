"""The server-side functions: how they are loaded and called.

The hub's own calls carry a digest of the library's text in their names, so that nodes of two
versions run side by side on one Redis, each with the text it was made for. Libraries of
versions that no node runs any more are 6 KB each and may be deleted (FUNCTION DELETE hub_...).

`hub_publish` is for everybody else and keeps its meaning in all versions; a newer one replaces
an older one. Any Redis client publishes with it, sequenced and kept like the hub itself:

    FCALL hub_publish 2 hub:{news}:meta hub:{news}:log '{"hello":1}'
    FCALL hub_publish 2 hub:{news}:meta hub:{news}:log '{"hello":1}' KEY
    FCALL hub_publish 2 hub:{news}:meta hub:{news}:log null KEY remove
    FCALL hub_publish 3 hub:{news}:meta hub:{news}:log hub:{news}:once:ANY-ID '{"hello":1}'

The third form takes the row of the key away. The last form publishes once however often it is
called (within `idempotency_ttl_seconds`) and answers `conflict` for other data. The answer is
epoch, offset, and 1 for a repeat. Size and age of the history, and whether the channel has rows,
are as with the hub node that used the channel last. Before the first one each key has a row, which
goes if the channel turns out not to be keyed. In a cluster, a row whose slot moves is refused with
TRYAGAIN for that time, because its keys are not among those that are passed. Data that is no JSON
or too large reaches subscribers as a gap `invalid`. Every key begins with the prefix of the hub
that is meant, `hub` unless it has another: these functions serve all hubs on one Redis.

A server or user that takes no functions gets scripts in their place, whatever it answers: before
7.0 there are none, others leave them out, and an ACL may forbid them. A user who may not load
scripts either sends their text with each call. hub/docs/redis.md has the ACL that a node needs,
and one for publishers; what a user lacks of it is asked for at each connection and said in the log.
"""

import re
from hashlib import sha1
from importlib.resources import files

from redis.asyncio.connection import AbstractConnection
from redis.exceptions import ResponseError
from structlog.typing import FilteringBoundLogger

from hub.brokers.redis.keys import Keys
from hub.brokers.redis.link.connection import ask
from hub.brokers.redis.link.outcomes import LostError, RefusedError

Argument = str | bytes | int
Command = tuple[Argument, ...]

# Raised whenever `publish_from_outside` changes in library.lua.
PUBLIC_VERSION = 8

_BODY = "".join(
    files("hub.brokers.redis").joinpath("lua", name).read_text("utf-8")
    for name in ("lines.lua", "library.lua", "presence.lua", "nodes.lua")
)
_LINES = ("enter_line", "leave_line", "adopt")
_PRESENCE = ("join", "leave", "renew", "present", "absent", "members")
_NODES = ("register", "tell", "writable")
_NAMES = (*_LINES, "open", "page", "rows", "clear", "publish", *_PRESENCE, *_NODES)
# Commands that the functions above use in Redis, with the rights of the calling user.
_USED = tuple(sorted(set(re.findall(r"redis\.p?call\('([A-Z]+)'", _BODY))))
# Commands that a node sends by itself.
_ASKED = ("SCAN",)
# Which of these the user may not: `acl_check_cmd` is there from 7.0 on. It looks for keys and
# channels among the arguments, wherever the command has them.
_RIGHTS = """
local function rights(keys, args)
  local missing = {}
  for place = 3, #args do
    local name, about = args[place], args[1]
    if name == 'PUBLISH' then
      about = args[2]
    end
    local known, may = pcall(redis.acl_check_cmd, name, about, about, about, about)
    if known and not may then
      missing[#missing + 1] = name
    end
  end
  return table.concat(missing, ' ')
end
"""

# A Redis that is full takes these all the same: subscriptions go on, and presence is known.
_NEED_NO_ROOM = frozenset(
    {*_LINES, "open", "page", "rows", "clear", "leave", "renew", "members", "register", "tell"}
)


def _registered(name: str, digest: str) -> str:
    flags = "'allow-oom'" if name in _NEED_NO_ROOM else ""
    return f"""redis.register_function{{
  function_name='hub_{name}_{digest}', callback={name}, flags={{{flags}}}
}}
"""


def _own(digest: str) -> str:
    functions = "".join(_registered(name, digest) for name in _NAMES)
    rights = f"""redis.register_function{{
  function_name='hub_rights_{digest}', callback=rights, flags={{'no-writes'}}
}}
"""
    return f"#!lua name=hub_{digest}\n{_BODY}\n{_RIGHTS}\n{functions}{rights}"


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
# A script is asked nothing before its first command that may write, so here is one: it changes
# nothing, and in a cluster, where the key may be another server's, tells nothing either.
_WRITES = """
local tried = redis.pcall('SETRANGE', ARGV[1], 0, '')
local refusal = type(tried) == 'table' and string.match(tried.err or '', '^-?(%u+ .*)')
local code = refusal and string.match(refusal, '^%u+')
if code == 'OOM' or code == 'MISCONF' or code == 'NOREPLICAS' then
  return redis.error_reply(refusal)
end
"""
_RIGHTS_SCRIPT = f"{_RIGHTS}return rights(KEYS, ARGV)"
_NO_DIGEST = "0" * 40
_SHOWN = 200
_WITH_KEYS = frozenset(_USED) - {"INFO", "TIME", "PUBLISH"}
# NOPERM since 6.0, with `function|load` for a subcommand since 7.0.
_MISSING_RIGHT = re.compile(r"no permissions to run the '([\w|]+)' command")


class Library:
    """Loads the functions, and makes the commands that run them at the connected server.

    Args:
        use_functions: False: scripts, as with Redis before 7.0.
        keys: names of this hub, for asking what the user may do with them.
    """

    def __init__(self, *, use_functions: bool, keys: Keys, log: FilteringBoundLogger) -> None:
        self._use_functions = use_functions
        self._keys = keys
        self._log = log
        self._said: set[str] = set()
        self._prefixes: dict[str, Command] = {}
        self.server_version = ""
        """Version of the server that was connected last, such as 7.0.15."""

    def call(self, name: str, keys: Command, arguments: Command) -> Command:
        """Return the command that runs a function of library.lua or presence.lua."""
        return (*self._prefixes[name], len(keys), *keys, *arguments)

    async def load(self, connection: AbstractConnection) -> None:
        """Have the server know the functions.

        Raises what redis-py raises, and `LostError` where nothing can be written or run.
        """
        if b"role:master" not in await _ask(connection, "INFO", "replication"):
            raise LostError("it is a replica, not a master")
        self.server_version = _version(await _ask(connection, "INFO", "server"))
        if not (self._use_functions and await self._load_functions(connection)):
            await self._load_scripts(connection)

    async def _load_functions(self, connection: AbstractConnection) -> bool:
        """Load the functions; return whether this user can call them."""
        refusals = [await _refusal(connection, "FUNCTION", "LOAD", _OWN)]
        try:
            used = (*_USED, *_ASKED)
            await self._check_rights(connection, used, "FCALL", f"hub_rights_{_DIGEST}")
        except ResponseError as error:
            refusals.append(RefusedError(error))
            # Before 7.0 there are none, which is nothing to warn of.
            if "unknown command" not in str(error).lower():
                self._say("redis_no_functions", *refusals)
            return False
        self._prefixes = {name: ("FCALL", f"hub_{name}_{_DIGEST}") for name in _NAMES}
        await self._load_public(connection)
        return True

    async def _load_public(self, connection: AbstractConnection) -> None:
        """Load the functions for other Redis clients; the hub does without them."""
        try:
            version = await _ask(connection, "FCALL", "hub_version", 0)
        except ResponseError:
            version = b"0"
        if int(version) < PUBLIC_VERSION:
            refused = await _refusal(connection, "FUNCTION", "LOAD", "REPLACE", _PUBLIC)
            if refused is not None:
                self._say("redis_hub_publish_not_loaded", refused)

    async def _load_scripts(self, connection: AbstractConnection) -> None:
        scripts = {name: _script(name) for name in _NAMES}
        try:
            for name, script in scripts.items():
                digest = await _ask(connection, "SCRIPT", "LOAD", script)
                self._prefixes[name] = ("EVALSHA", digest)
            refused = await _refusal(connection, "EVALSHA", _NO_DIGEST, 0)
        except ResponseError as error:
            refused = RefusedError(error)
        if refused is not None:
            self._say("redis_scripts_not_loaded", refused)
            self._prefixes = {name: ("EVAL", script) for name, script in scripts.items()}
        try:
            used = (*_USED, *_ASKED, "SETRANGE")
            await self._check_rights(connection, used, "EVAL", _RIGHTS_SCRIPT)
        except ResponseError as error:
            if refused is not None:
                raise LostError(
                    f"it lets this user run neither functions nor scripts: {RefusedError(error)}"
                ) from None

    async def _check_rights(
        self, connection: AbstractConnection, used: Command, *prefix: Argument
    ) -> None:
        """Log the rights that the user lacks; raise `ResponseError` where they cannot be asked
        for."""
        keys = self._keys
        answer = await _ask(connection, *prefix, 0, keys.meta("x"), keys.stem("x"), *used)
        missing = answer.decode().split()
        rights = [f"+{name.lower()}" for name in missing]
        # A key that may not be touched looks like a command that may not be used.
        if _WITH_KEYS.issubset(missing):
            rights.insert(0, f"~{keys.prefix}:*")
        if "PUBLISH" in missing:
            rights.append(f"&{keys.prefix}:*")
        if rights:
            self._warn("redis_rights_missing", rights=rights)

    def _say(self, event: str, *refusals: RefusedError | None) -> None:
        """Log why the next best way is taken, with the rights that are missing, if any are."""
        # One that does not know the command repeats its arguments, the library's text here.
        reasons = [str(refused)[:_SHOWN] for refused in refusals if refused is not None]
        found = map(_MISSING_RIGHT.search, reasons)
        rights = [f"+{right[1].lower()}" for right in found if right]
        self._warn(event, reasons=reasons, **{"rights": rights} if rights else {})

    def _warn(self, event: str, **fields: object) -> None:
        """Log a warning once, not at each reconnect."""
        text = f"{event} {fields}"
        if text not in self._said:
            self._said.add(text)
            self._log.warning(event, **fields)


async def _refusal(connection: AbstractConnection, *command: Argument) -> RefusedError | None:
    """Return the server's refusal; None where it carries the command out, or has before."""
    try:
        await _ask(connection, *command)
    except ResponseError as error:
        refused = RefusedError(error)
        return None if refused.code == "NOSCRIPT" or "already exists" in str(error) else refused
    return None


def _script(name: str) -> str:
    first = _NEEDS_NONE if name in _NEED_NO_ROOM else _NEEDS_ROOM
    first = _WRITES if name == "writable" else first
    return f"{_BODY}{_GUARD}{first}return {name}(KEYS, ARGV)"


def _version(info: bytes) -> str:
    """Return the version in the answer to INFO."""
    found = re.search(rb"^redis_version:(\S{1,40})", info, re.MULTILINE)
    return found[1].decode(errors="replace") if found else "unknown"


async def _ask(connection: AbstractConnection, *command: Argument) -> bytes:
    """Return the answer to a command, be it text or a number, as bytes."""
    answer = await ask(connection, *command)
    return answer if isinstance(answer, bytes) else str(answer).encode()
