-- One publication, or one look at a channel's head, in one atomic call.
--
-- Loaded as the body of a Redis function (7.0 and later) and of a script (before). Every key
-- is passed as a key and lies in its channel's slot. An epoch belongs to one run of one
-- server: what answers after a restart or a failover may lack the tail of what was given out,
-- so it must not go on counting where others already read.

local run_id = nil

-- Who answers: this process, since it started. Cached for as long as the library is loaded.
local function server()
  if not run_id then
    run_id = string.match(redis.call('INFO', 'server'), 'run_id:(%x+)')
  end
  return run_id
end

-- The epoch and newest offset of a channel; begins a new epoch where none of this server is.
-- keys: meta, log. new_epoch: what to call it then.
local function head(meta, log, new_epoch, position_ttl)
  local state = redis.call('HMGET', meta, 'epoch', 'offset', 'server')
  local epoch, offset = state[1], state[2]
  if not epoch or state[3] ~= server() then
    epoch, offset = new_epoch, '0'
    redis.call('DEL', log)
    redis.call('HSET', meta, 'epoch', epoch, 'offset', offset, 'server', server())
  end
  redis.call('EXPIRE', meta, position_ttl)
  return epoch, offset
end

-- keys: meta, log
-- args: new epoch, position TTL in seconds
-- returns: epoch, offset, oldest offset kept or 0
local function open(keys, args)
  local epoch, offset = head(keys[1], keys[2], args[1], args[2])
  local first = redis.call('XRANGE', keys[2], '-', '+', 'COUNT', 1)
  local oldest = 0
  if first[1] then
    oldest = string.match(first[1][1], '^(%d+)')
  end
  return { epoch, offset, oldest }
end

-- keys: meta, log, and the idempotency key's where there is one
-- args: pub/sub channel, data, then all optional: envelope ('' for none), new epoch,
--       position TTL, history size, history TTL (seconds), digest of what the idempotency key
--       stands for, its TTL in seconds
-- returns: epoch, offset, 1 for a duplicate; or 'conflict'
local function publish(keys, args)
  local meta, log, once = keys[1], keys[2], keys[3]
  local now = redis.call('TIME')
  local new_epoch = args[4] or (now[1] .. 'x' .. now[2])
  local digest = args[8] or ''
  if once then
    local made = redis.call('HMGET', once, 'digest', 'epoch', 'offset')
    if made[1] then
      if made[1] ~= digest then
        return { 'conflict' }
      end
      return { made[2], made[3], 1 }
    end
  end
  local epoch = head(meta, log, new_epoch, args[5] or 604800)
  local offset = redis.call('HINCRBY', meta, 'offset', 1)
  local time_ms = now[1] * 1000 + math.floor(now[2] / 1000)
  local message = table.concat({ epoch, offset, string.format('%.0f', time_ms), args[3] or '', args[2] }, '\n')
  local size = tonumber(args[6] or 100)
  if size > 0 then
    redis.call('XADD', log, 'MAXLEN', size, offset .. '-0', 'm', message)
    redis.call('EXPIRE', log, args[7] or 300)
  end
  if once then
    redis.call('HSET', once, 'digest', digest, 'epoch', epoch, 'offset', offset)
    redis.call('EXPIRE', once, args[9] or 300)
  end
  redis.call('PUBLISH', args[1], message)
  return { epoch, offset, 0 }
end
