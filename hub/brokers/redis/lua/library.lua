-- One publication, one page of history, or one look at a channel's head, each in one atomic call.
--
-- `hub.brokers.redis.link.library` makes a Redis function library of this text (7.0 and later), or
-- one script of it per function (before). Every key is passed as a key and lies in its
-- channel's slot: meta (epoch, offset, who counted, settings), log (the history as a stream,
-- IDs are `<offset>-0`), once (what an idempotency key stands for). All of them expire.
-- Of a keyed channel nodes pass three more, behind the line's and named after meta: rows (a hash: the newest message of each
-- key), keys (a sorted set: their order), ages (a sorted set: by the offset of their last change).
--
-- An epoch belongs to one line of replication history. What answers after a restart or a
-- failover may lack the tail of what was given out, so it must not go on counting where others
-- already read. That line's name is the server's `master_replid`: it is new after every restart
-- and every promotion, also when a former master comes back with its old `run_id`. Asking for it
-- costs 2 us a call (measured on 7.0.15). Caching it in a local of the library was rejected: two
-- versions of the library would cache different ones and take turns in beginning epochs.
--
-- Nor must it where others went on in between without its knowledge: see lines.lua.
--
-- A cluster has no key for a line, as each channel has a slot of its own. There a former master is a
-- replica before it leads again, which gives it another name; but channels come from servers with
-- another name in order, when their slot moves. The name that counted there says nothing here,
-- so a node asks around whether that line still lives (`STRAY`, `adopt`). And a replica may be elected
-- in vain: a slot that comes to its master at the same moment takes that one to a greater config
-- epoch, and it leads on without ever having been a replica. So a node that looks at a channel shows
-- the epoch that it is in: where that one has a later term, the one that is stored here was left.

-- History size, history TTL, position TTL, idempotency TTL (milliseconds), for channels that no
-- hub node has used: the hub's own defaults. No node writes a number with a zero before it.
local DEFAULTS = '0100 300000 604800000 300000'

-- The same of a channel in which others publish rows before any hub node has used it. Whether it is
-- to be keyed only a node knows, so rows are kept until one comes: 10,000, for as long as positions.
local UNDECIDED = DEFAULTS .. ' 10000 604800000'

-- How long a channel that nobody has published in is kept at most (milliseconds): whoever subscribes
-- to names without end must not fill Redis for days. Nodes renew it while they listen.
local UNUSED = 7200000

local function parse(settings)
  -- Of a keyed channel two more: how many keys, and how long a row lives (0: for ever).
  local size, history, position, once, keys, life =
    string.match(settings, '^(%d+) (%d+) (%d+) (%d+) ?(%d*) ?(%d*)$')
  if not size then
    error('settings are not four numbers: ' .. settings)
  end
  return { size = tonumber(size), history = history, position = position, once = once,
    keys = tonumber(keys), life = tonumber(life) }
end

-- The line's key, which is the third where there is one.
local function line_among(keys, count)
  local third = count > 2 and keys[3]
  return third and string.sub(third, -5) == ':line' and third or nil
end

-- Where the rows of a channel are, their keys in order, and their ages.
local function places(meta)
  local stem = string.match(meta, '^(.*):meta$')
  return stem .. ':rows', stem .. ':keys', stem .. ':ages'
end

local function forget_row(meta, key)
  local rows, order, ages = places(meta)
  redis.call('HDEL', rows, key)
  redis.call('ZREM', order, key)
  redis.call('ZREM', ages, key)
end

local function keep_for(life, ...)
  for _, each in ipairs({ ... }) do
    if life > 0 then
      redis.call('PEXPIRE', each, life)
    else
      redis.call('PERSIST', each)
    end
  end
end

-- Takes what was published as the row of its key, or the row away.
local function keep_row(meta, envelope, number, message, options)
  local said = envelope ~= '' and cjson.decode(envelope) or {}
  local key, marks = said[1], tonumber(said[5]) or 0
  if type(key) ~= 'string' then
    return
  end
  if marks % 2 == 1 then
    return forget_row(meta, key)
  end
  local rows, order, ages = places(meta)
  redis.call('HSET', rows, key, message)
  redis.call('ZADD', order, 0, key)
  redis.call('ZADD', ages, number, key)
  local over = redis.call('HLEN', rows) - options.keys
  if over > 0 then
    -- Not all at once where the limit was lowered.
    local oldest = redis.call('ZRANGE', ages, 0, math.min(over, 100) - 1)
    for _, each in ipairs(oldest) do
      forget_row(meta, each)
    end
    local dropped = tonumber(redis.call('HGET', meta, 'dropped') or '0') + #oldest
    redis.call('HSET', meta, 'dropped', string.format('%.0f', dropped))
  end
  keep_for(options.life, rows, order, ages)
end

-- A node has come to a channel that was UNDECIDED: its rows stay as long as it says, or go.
local function decide(meta, options)
  local rows, order, ages = places(meta)
  if options.keys then
    keep_for(options.life, rows, order, ages)
  else
    -- In a cluster a node that keeps no rows passes no keys of theirs: they may be elsewhere, and expire.
    redis.pcall('DEL', rows, order, ages)
  end
end

-- Rows of epochs that have ended are older than all of the one that begins.
local function make_old(meta)
  local _, _, ages = places(meta)
  for _, key in ipairs(redis.call('ZRANGE', ages, 0, -1)) do
    redis.call('ZADD', ages, 0, key)
  end
  redis.call('HDEL', meta, 'dropped')
end

-- Whether `epoch` goes on. `state` is what is stored beside the channel.
-- Returns nil and an error where that cannot be told here.
local function goes_on(epoch, state, history, line)
  if line then
    -- Begun by a publisher who may not reach the line's key: in this one, if later than that.
    local loose, since = string.match(state.loose or '', '^(%S+) (%d+)$')
    if loose == epoch then
      return state.history == history and tonumber(since) >= (line.since or 0)
    end
    if term_of(epoch) then
      return term_of(epoch) == term_of(line.name)
    end
    -- Of a version before, that knew no terms.
    return line.name == line.first and (state.history == history or renamed_only(state.run))
  end
  if state.history == history or renamed_only(state.run) then
    return true
  end
  if state.history == info('replication', 'master_replid2') or not is_cluster() then
    return false
  end
  return nil, redis.error_reply('STRAY ' .. state.history .. ' ' .. state.run)
end

-- Whether the caller is in an epoch that was begun after `epoch`, at another server of a cluster.
local function was_left(epoch, seen_epoch)
  local term, seen = term_of(epoch), term_of(seen_epoch)
  return term and seen and epoch ~= seen_epoch and seen >= term and is_cluster()
end

-- The state of a channel; begins a new epoch where no server of this line counted so far, and
-- where the caller has already seen more than is stored, or a later epoch. Returns nil and an error where there is
-- none to be had.
local function head(meta, log, line_key, settings, seen_epoch, seen_offset)
  local stored = redis.call('HMGET', meta, 'epoch', 'offset', 'history', 'run', 'settings', 'loose', 'ended')
  local state = { history = stored[3], run = stored[4], loose = stored[6] or nil }
  local epoch, offset, chosen = stored[1], stored[2], settings or stored[5] or DEFAULTS
  local line, refused
  if line_key then
    line, refused = current_line(line_key)
    if not line then
      return nil, refused
    end
  end
  local history = line and line.history or info('replication', 'master_replid')
  local valid = false
  local left = was_left(epoch, seen_epoch)
  if epoch and not left and not (seen_epoch == epoch and tonumber(seen_offset or 0) > tonumber(offset or 0)) then
    valid, refused = goes_on(epoch, state, history, line)
    if valid == nil then
      return nil, refused
    end
  end
  if not valid then
    local before = math.max(term_of(epoch) or 0, term_of(seen_epoch) or 0)
    local term = line and term_of(line.name) or math.max(seconds(), before + 1)
    epoch, offset = string.format('%08x-', term) .. random(history, meta), '0'
    redis.call('DEL', log)
    if parse(chosen).keys then
      make_old(meta)
    end
    if not line and not is_cluster() then
      local now = string.format('%.0f', milliseconds(redis.call('TIME')))
      redis.call('HSET', meta, 'loose', epoch .. ' ' .. now)
    end
  end
  if epoch ~= stored[1] or state.history ~= history or chosen ~= stored[5] then
    local run = info('server', 'run_id')
    redis.call('HSET', meta, 'epoch', epoch, 'offset', offset, 'history', history, 'run', run,
      'settings', chosen)
  end
  local options = parse(chosen)
  if stored[5] == UNDECIDED and chosen ~= UNDECIDED then
    decide(meta, options)
  end
  options.follows_end = stored[7] and stored[7] == offset
  local life = offset == '0' and math.min(options.position, UNUSED) or options.position
  redis.call('PEXPIRE', meta, life)
  offset = tonumber(offset)
  -- Not in each call: a microsecond. Nodes look at heads (`open`) all the time.
  if line_key and (seen_epoch or offset % 16 == 0) then
    redis.call('PEXPIRE', line_key, options.position)
  end
  return epoch, offset, options
end

-- keys: meta, log
-- args: the line that counted where the channel came from, 1 where that line lives: the channel
--       came in order, and goes on; else 0
local function adopt(keys, args)
  if redis.call('HGET', keys[1], 'history') == args[1] then
    -- The former name of this server's own line: the next call begins anew.
    local name = args[2] == '1' and 'master_replid' or 'master_replid2'
    local run = args[2] == '1' and info('server', 'run_id') or 'none'
    redis.call('HSET', keys[1], 'history', info('replication', name), 'run', run)
    redis.call('HDEL', keys[1], 'stray')
  end
  return redis.status_reply('OK')
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
  local found, now = {}, milliseconds(redis.call('TIME'))
  while limit > 0 do
    local asked = math.min(limit, 16)
    local entries = redis.call('XRANGE', log, from, '+', 'COUNT', asked)
    for _, entry in ipairs(entries) do
      from = '(' .. entry[1]
      -- The moment from which on it is not to be held, where it has one of its own.
      if tonumber(entry[2][4] or now + 1) > now then
        bytes = bytes - #entry[2][2]
        if bytes < 0 and found[1] then
          return found, 0
        end
        found[#found + 1], found[#found + 2] = entry[1], entry[2][2]
        limit = limit - 1
      end
    end
    if #entries < asked then
      return found, 1
    end
  end
  return found, 0
end

-- keys: meta, log, line (nowhere in a cluster)
-- args: settings, then where the caller stands in the channel, if it does: epoch, offset
-- returns: epoch, offset
local function open(keys, args)
  local epoch, offset = head(keys[1], keys[2], line_among(keys, #keys), args[1], args[2], args[3])
  return epoch and { epoch, offset } or offset
end

-- keys: meta, log, line (nowhere in a cluster)
-- args: settings, offset after which to begin, how many at most, how many bytes (one at least), '1'
--       where the caller listens to the channel, and then the epoch that it is in
-- returns: epoch, offset, first offset kept (offset + 1 for none), messages, 1 where nothing is
--          kept beyond them
-- Reading makes nothing: a channel that nobody used has the epoch 'none', which no channel has once
-- it is used, and whose position therefore leads to a reset and never to a false place.
local function page(keys, args)
  if args[5] ~= '1' and not redis.call('HMGET', keys[1], 'epoch')[1] then
    return { 'none', 0, 1, {}, 1 }
  end
  local epoch, offset, options = head(keys[1], keys[2], line_among(keys, #keys), args[1], args[6])
  if not epoch then
    return offset
  end
  local first = oldest(keys[2], options)
  local messages, complete = {}, 1
  if first then
    local from = string.format('%.0f-0', tonumber(args[2]) + 1)
    messages, complete = within(keys[2], from, tonumber(args[3]), tonumber(args[4]))
  end
  return { epoch, offset, first or offset + 1, messages, complete }
end

-- keys: meta, log
-- Nothing that was published before is kept; numbers go on.
local function clear(keys)
  redis.call('DEL', keys[2])
  return redis.status_reply('OK')
end

-- keys: meta, log, line (nowhere in a cluster)
-- args: settings, key after which to begin, how many at most, how many bytes (one row at least), the
--       offset up to which rows count ('' for any)
-- returns: epoch, offset, messages, the key after which there may be more ('' for none), how many rows
--          went for want of room
-- A row of an epoch that has ended counts as offset 0.
local function rows(keys, args)
  local held, order = places(keys[1])
  if redis.call('EXISTS', held) == 0 and not redis.call('HGET', keys[1], 'epoch') then
    return { 'none', 0, {}, '', 0 }
  end
  local epoch, offset, options = head(keys[1], keys[2], line_among(keys, #keys), args[1])
  if not epoch then
    return offset
  end
  local limit, bytes, upto = tonumber(args[3]), tonumber(args[4]), tonumber(args[5])
  local born = 0
  if (options.life or 0) > 0 then
    born = milliseconds(redis.call('TIME')) - options.life
  end
  local dropped = tonumber(redis.call('HGET', keys[1], 'dropped') or '0')
  local found, from, last, seen = {}, args[2] == '' and '-' or '(' .. args[2], args[2], 0
  while true do
    local page = redis.call('ZRANGEBYLEX', order, from, '+', 'LIMIT', 0, 64)
    for _, key in ipairs(page) do
      local message = redis.call('HGET', held, key)
      if message then
        local of, number, time = string.match(message, '^([^\n]*)\n(%d+)\n(%d+)\n')
        local at = of == epoch and tonumber(number) or 0
        if tonumber(time) >= born and (not upto or at <= upto) then
          bytes = bytes - #message
          if #found == limit or (bytes < 0 and found[1]) then
            return { epoch, offset, found, last, dropped }
          end
          found[#found + 1] = message
        end
      end
      last, from = key, '(' .. key
    end
    seen = seen + #page
    if #page < 64 then
      return { epoch, offset, found, '', dropped }
    end
    if seen >= 2048 then
      return { epoch, offset, found, last, dropped }
    end
  end
end

-- keys: meta, log, line (nowhere in a cluster), the table's, and the idempotency key's where there is one
-- args: data, envelope ('' for none), digest of what the idempotency key stands for ('' for
--       none), settings (nil for those of the last hub node), trace (nil or '' for most), how many
--       milliseconds history may hold it (nil for as long as the channel's; 0 for not at all)
-- returns: epoch, offset, 1 for a duplicate; or 'conflict'
local function publish(keys, args)
  local meta, log, once, count = keys[1], keys[2], nil, #keys
  if args[3] ~= '' then
    once, count = keys[count], count - 1
  end
  local line_key = line_among(keys, count)
  local epoch, offset, options = head(meta, log, line_key, args[4])
  if not epoch then
    return offset
  end
  if once then
    local made = redis.call('HMGET', once, 'digest', 'epoch', 'offset')
    -- What was answered in an epoch that has ended reaches nobody any more: no history has it,
    -- and who comes from there is set back. So it is published again.
    if made[2] == epoch then
      return made[1] == args[3] and { made[2], tonumber(made[3]), 1 } or { 'conflict' }
    end
  end
  offset = offset + 1
  local number = string.format('%.0f', offset)
  local time = string.format('%.0f', milliseconds(redis.call('TIME')))
  local message = table.concat({ epoch, number, time, args[2], args[1] }, '\n')
  -- The envelope's last field are marks, where it has any: 2 for the last one of its channel.
  if string.find(args[2], ',[23]%]$') then
    redis.call('HSET', meta, 'offset', number, 'ended', number)
  else
    redis.call('HSET', meta, 'offset', number)
  end
  if offset == 1 then
    redis.call('PEXPIRE', meta, options.position)
  end
  if options.size > 0 and options.history ~= '0' and args[6] ~= '0' then
    local entry = { 'm', message }
    if args[6] then
      entry[3], entry[4] = 'x', string.format('%.0f', tonumber(time) + tonumber(args[6]))
    end
    redis.call('XADD', log, 'MAXLEN', options.size, number .. '-0', unpack(entry))
    redis.call('PEXPIRE', log, options.history)
  end
  if options.keys then
    keep_row(meta, args[2], number, message, options)
  end
  if once then
    redis.call('HSET', once, 'digest', args[3], 'epoch', epoch, 'offset', number)
    redis.call('PEXPIRE', once, options.once)
  end
  local name = string.match(meta, '^(.*):meta$')
  if offset == 1 or options.follows_end then
    -- For nodes that have patterns. Who may publish in this channel alone says nothing: they look
    -- for what they were not told of from time to time.
    local prefix, channel = string.match(name, '^([^:]+):{(.*)}$')
    redis.pcall('PUBLISH', prefix .. ':born', channel)
  end
  if args[5] and args[5] ~= '' then
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

-- Whether only the hub itself publishes there: `hub.core.options` knows the namespace too.
local function is_reserved(meta)
  return string.find(meta, '{hub:', 1, true) ~= nil
end

-- How long a channel that came from elsewhere waits for a node that knows whether in order.
local STRAY_SECONDS = 3

-- Nodes ask around (see `adopt`). Whoever is none may try again, until it is clear that no node
-- has the channel; then it begins anew.
local function without_stray(meta, answer)
  if not (answer.err and string.find(answer.err, '^STRAY ')) then
    return answer
  end
  local history = info('replication', 'master_replid')
  local noted = redis.call('HGET', meta, 'stray') or ''
  local here, since = string.match(noted, '^(%w+) (%d+)$')
  if here ~= history then
    redis.call('HSET', meta, 'stray', history .. ' ' .. seconds())
  elseif seconds() > since + STRAY_SECONDS then
    adopt({ meta }, { redis.call('HGET', meta, 'history'), '0' })
    return nil
  end
  return redis.error_reply('TRYAGAIN the channel has just come from another server')
end

-- Whether rows may be written. In a cluster not while their slot moves and they are still, or already,
-- elsewhere: a function gets at keys that were not passed only where they are all here.
local function reaches_rows(meta, settings)
  if not parse(settings).keys or not is_cluster() then
    return true
  end
  local found = redis.pcall('EXISTS', places(meta))
  return type(found) == 'number' or not string.find(found.err, 'non local key', 1, true)
end

-- For any Redis client, see `hub.brokers.redis.link.library`.
-- keys: meta, log, and the idempotency key's where there is one; args: data, message key (optional),
--       'remove' to take the key's row away (optional)
local function publish_from_outside(keys, args)
  local data, key, remove = args[1], args[2], args[3]
  if not data or (remove and remove ~= 'remove') or args[4] or keys[4] or not belong_together(keys) then
    return redis.error_reply('ERR use: FCALL hub_publish 2 hub:{CHANNEL}:meta hub:{CHANNEL}:log'
      .. ' JSON [KEY [remove]], or 3 with hub:{CHANNEL}:once:ID to publish once')
  end
  if is_reserved(keys[1]) then
    return redis.error_reply('NOPERM only the hub itself publishes on channels that begin with hub:')
  end
  local said = { key, cjson.null, cjson.null }
  if remove then
    said[4], said[5] = cjson.null, 1
  end
  local envelope = key and cjson.encode(said) or ''
  local digest = keys[3] and redis.sha1hex(data .. '\0' .. (key or '') .. (remove and '\0' or '')) or ''
  local settings = redis.call('HGET', keys[1], 'settings')
  if key and (not settings or settings == DEFAULTS) then
    settings = UNDECIDED
  end
  if key and not reaches_rows(keys[1], settings) then
    return redis.error_reply('TRYAGAIN the table of the channel is on its way to another server')
  end
  local line = string.match(keys[1], '^[^:]+') .. ':{/nodes}:line'
  local all = { keys[1], keys[2] }
  -- Where the caller may reach nothing but channels, nodes begin the epochs alone.
  if not is_cluster() and type(redis.pcall('EXISTS', line)) == 'number' then
    all[3] = line
  end
  all[#all + 1] = keys[3]
  local request = { data, envelope, digest, settings or nil }
  return without_stray(keys[1], publish(all, request)) or publish(all, request)
end
