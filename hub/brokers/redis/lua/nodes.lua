-- What nodes say of themselves, which a Redis that is full takes all the same, and whether it takes
-- anything else. `hub.brokers.redis.link.library` adds this to library.lua.

-- keys: a node's record, the tags of all nodes
-- args: the record, its lease in milliseconds, the node's tag
local function register(keys, args)
  redis.call('SET', keys[1], args[1], 'PX', args[2])
  redis.call('SADD', keys[2], args[3])
  redis.call('PEXPIRE', keys[2], 10 * args[2])
  return 1
end

-- As `publish`, for the channels of the hub itself: figures of a full Redis are wanted most.
local tell = publish

-- keys: none
-- args: a key that scripts may look at
-- Nothing, but with the rights of what may write: so Redis refuses it in the place of publications,
-- where memory is full (OOM), nothing can be saved (MISCONF) or replicas are missing (NOREPLICAS).
local function writable()
  return 1
end
