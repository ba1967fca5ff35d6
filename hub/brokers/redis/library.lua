-- One publication, one page of history, or one look at a channel's head, each in one atomic call.
--
-- `hub.brokers.redis.library` makes a Redis function library of this text (7.0 and later), or
-- one script of it per function (before). Every key is passed as a key and lies in its
-- channel's slot: meta (epoch, offset, who counted, settings), log (the history as a stream,
-- IDs are `<offset>-0`), once (what an idempotency key stands for). All of them expire.
--
-- An epoch belongs to one line of replication history. What answers after a restart or a
-- failover may lack the tail of what was given out, so it must not go on counting where others
-- already read. That line's name is the server's `master_replid`: it is new after every restart
-- and every promotion, also when a former master comes back with its old `run_id`. Asking for it
-- costs 2 us a call (measured on 7.0.15). Caching it in a local of the library was rejected: two
-- versions of the library would cache different ones and take turns in beginning epochs.

-- History size, history TTL, position TTL, idempotency TTL (milliseconds), for channels that no
-- hub node has used: the hub's own defaults.
local DEFAULTS = '100 300000 604800000 300000'

-- How long a channel that nobody has published in is kept at most (milliseconds): whoever subscribes
-- to names without end must not fill Redis for days. Nodes renew it while they listen.
local UNUSED = 7200000

local function info(section, name)
  return string.match(redis.call('INFO', section), name .. ':(%w+)')
end

local function parse(settings)
  local size, history, position, once =
    string.match(settings, '^(%d+) (%d+) (%d+) (%d+)$')
  if not size then
    error('settings are not four numbers: ' .. settings)
  end
  return { size = tonumber(size), history = history, position = position, once = once }
end

-- Whether the replication history got another name although nothing of it can have been lost:
-- Redis renames it when the first replica comes and when the last one has been gone for
-- `repl-backlog-ttl`, and forgets the former name then. A promotion keeps the former name.
local function renamed_only(run)
  return run == info('server', 'run_id')
    and string.match(info('replication', 'master_replid2'), '^0+$') ~= nil
end

-- The state of a channel; begins a new epoch where no server of this history counted so far,
-- and where the caller has already seen more than is stored.
local function head(meta, log, settings, seen_epoch, seen_offset)
  local state = redis.call('HMGET', meta, 'epoch', 'offset', 'history', 'run', 'settings')
  local epoch, offset, chosen = state[1], state[2], settings or state[5] or DEFAULTS
  local history = info('replication', 'master_replid')
  local lost = seen_epoch == epoch and tonumber(seen_offset or 0) > tonumber(offset or 0)
  if not epoch or lost or (state[3] ~= history and not renamed_only(state[4])) then
    local now = redis.call('TIME')
    epoch, offset = string.sub(redis.sha1hex(history .. meta .. now[1] .. '.' .. now[2]), 1, 12), '0'
    redis.call('DEL', log)
  end
  if epoch ~= state[1] or state[3] ~= history or chosen ~= state[5] then
    local run = info('server', 'run_id')
    redis.call('HSET', meta, 'epoch', epoch, 'offset', offset, 'history', history, 'run', run,
      'settings', chosen)
  end
  local options = parse(chosen)
  local life = offset == '0' and math.min(options.position, UNUSED) or options.position
  redis.call('PEXPIRE', meta, life)
  return epoch, tonumber(offset), options
end

local function milliseconds(time)
  return time[1] * 1000 + math.floor(time[2] / 1000)
end

-- The first offset in the log that is not too old, or nil; lets go of what is.
local function oldest(log, options)
  local limit = milliseconds(redis.call('TIME')) - options.history
  local from, expired = '-', false
  while true do
    local entries = redis.call('XRANGE', log, from, '+', 'COUNT', expired and 100 or 1)
    for _, entry in ipairs(entries) do
      local time = string.match(entry[2][2], '^[^\n]*\n[^\n]*\n(%d+)\n')
      if time and tonumber(time) >= limit then
        if expired then
          redis.call('XTRIM', log, 'MINID', entry[1])
        end
        return tonumber(string.match(entry[1], '^%d+'))
      end
      expired, from = true, '(' .. entry[1]
    end
    if not entries[1] then
      if expired then
        redis.call('DEL', log)
      end
      return nil
    end
  end
end

-- What the log holds from `from` on, as IDs and messages in turn: at most `limit` messages of
-- `bytes` together, or one; and 1 where it holds nothing beyond them. Read a few at a time, so
-- that what is too much is not read.
local function within(log, from, limit, bytes)
  local found = {}
  while limit > 0 do
    local asked = math.min(limit, 16)
    local entries = redis.call('XRANGE', log, from, '+', 'COUNT', asked)
    for _, entry in ipairs(entries) do
      bytes = bytes - #entry[2][2]
      if bytes < 0 and found[1] then
        return found, 0
      end
      found[#found + 1], found[#found + 2] = entry[1], entry[2][2]
      from = '(' .. entry[1]
    end
    if #entries < asked then
      return found, 1
    end
    limit = limit - asked
  end
  return found, 0
end

-- keys: meta, log
-- args: settings, then where the caller stands in the channel, if it does: epoch, offset
-- returns: epoch, offset
local function open(keys, args)
  local epoch, offset = head(keys[1], keys[2], args[1], args[2], args[3])
  return { epoch, offset }
end

-- keys: meta, log
-- args: settings, offset after which to begin, how many at most, how many bytes (one at least), '1'
--       where the caller listens to the channel
-- returns: epoch, offset, first offset kept (offset + 1 for none), messages, 1 where nothing is
--          kept beyond them
-- Reading makes nothing: a channel that nobody used has the epoch 'none', which no channel has once
-- it is used, and whose position therefore leads to a reset and never to a false place.
local function page(keys, args)
  if args[5] ~= '1' and not redis.call('HMGET', keys[1], 'epoch')[1] then
    return { 'none', 0, 1, {}, 1 }
  end
  local epoch, offset, options = head(keys[1], keys[2], args[1])
  local first = oldest(keys[2], options)
  local messages, complete = {}, 1
  if first then
    local from = string.format('%.0f-0', tonumber(args[2]) + 1)
    messages, complete = within(keys[2], from, tonumber(args[3]), tonumber(args[4]))
  end
  return { epoch, offset, first or offset + 1, messages, complete }
end

-- keys: meta, log, and the idempotency key's where there is one
-- args: data, envelope ('' for none), digest of what the idempotency key stands for ('' for
--       none), settings (nil for those of the last hub node), trace (nil for most)
-- returns: epoch, offset, 1 for a duplicate; or 'conflict'
local function publish(keys, args)
  local meta, log, once = keys[1], keys[2], keys[3]
  if once then
    local made = redis.call('HMGET', once, 'digest', 'epoch', 'offset')
    if made[1] then
      return made[1] == args[3] and { made[2], tonumber(made[3]), 1 } or { 'conflict' }
    end
  end
  local epoch, offset, options = head(meta, log, args[4])
  offset = offset + 1
  local number = string.format('%.0f', offset)
  local time = string.format('%.0f', milliseconds(redis.call('TIME')))
  local message = table.concat({ epoch, number, time, args[2], args[1] }, '\n')
  redis.call('HSET', meta, 'offset', number)
  if offset == 1 then
    redis.call('PEXPIRE', meta, options.position)
  end
  if options.size > 0 and options.history ~= '0' then
    redis.call('XADD', log, 'MAXLEN', options.size, number .. '-0', 'm', message)
    redis.call('PEXPIRE', log, options.history)
  end
  if once then
    redis.call('HSET', once, 'digest', args[3], 'epoch', epoch, 'offset', number)
    redis.call('PEXPIRE', once, options.once)
  end
  local name = string.match(meta, '^(.*):meta$')
  if args[5] then
    -- Before the message and beside it: a node of a version that knows no traces passes over it.
    local mark = { 'presence', 'trace', epoch, number, args[5] }
    redis.call('PUBLISH', name, table.concat(mark, '\n'))
  end
  redis.call('PUBLISH', name, message)
  return { epoch, offset, 0 }
end

-- Whether these are the keys of one channel that a hub of some prefix can subscribe to. Another
-- channel's log would lose its history to this one.
local function belong_together(keys)
  local stem, prefix, channel =
    string.match(keys[1] or '', '^(([%w_.-]+):{([%w_.:@~+-]+)}):meta$')
  local once = stem and stem .. ':once:'
  return stem and #prefix <= 32 and #channel <= 200 and keys[2] == stem .. ':log'
    and (not keys[3] or #keys[3] > #once and string.sub(keys[3], 1, #once) == once)
end

-- Whether only the hub itself publishes there: `hub.core.reserved` knows the namespace too.
local function is_reserved(meta)
  return string.find(meta, '{hub:', 1, true) ~= nil
end

-- For any Redis client, see `hub.brokers.redis.library`.
-- keys: as above; args: data, message key (optional)
local function publish_from_outside(keys, args)
  local data, key = args[1], args[2]
  if not data or args[3] or keys[4] or not belong_together(keys) then
    return redis.error_reply('ERR use: FCALL hub_publish 2 hub:{CHANNEL}:meta hub:{CHANNEL}:log'
      .. ' JSON [KEY], or 3 with hub:{CHANNEL}:once:ID to publish once')
  end
  if is_reserved(keys[1]) then
    return redis.error_reply('NOPERM only the hub itself publishes on channels that begin with hub:')
  end
  local envelope = key and cjson.encode({ key, cjson.null, cjson.null }) or ''
  return publish(keys, { data, envelope, redis.sha1hex(data .. '\0' .. (key or '')) })
end
