-- Lines of replication history, and their terms: which server's numbers go on.
--
-- A server cannot know that others went on without it. Sentinel makes B the master, B takes
-- publications, and four seconds later A is the master again: A was never demoted, so its name
-- is the old one, and its channels lack what B took. So a line also has a term, kept in a key of
-- its own (`line`): an epoch begins with the term of its line, `<term>-<random>`, and ends with
-- it. A node shows the newest term that it has met when it connects (`enter_line`), and what the
-- sentinels say, and either can begin another term. Terms are seconds since 1970 or more, so that
-- a server that lost everything begins a later one. A line that nodes have left says so
-- (`leave_line`) and takes no calls of those who have not noticed.

local function info(section, name)
  return string.match(redis.call('INFO', section), name .. ':(%w+)')
end

-- Whether the replication history got another name although nothing of it can have been lost:
-- Redis renames it when the first replica comes and when the last one has been gone for
-- `repl-backlog-ttl`, and forgets the former name then. A promotion keeps the former name.
local function renamed_only(run)
  return run == info('server', 'run_id')
    and string.match(info('replication', 'master_replid2'), '^0+$') ~= nil
end

local function random(...)
  local now = redis.call('TIME')
  return string.sub(redis.sha1hex(table.concat({ now[1], now[2], ... }, ' ')), 1, 8)
end

local function milliseconds(time)
  return time[1] * 1000 + math.floor(time[2] / 1000)
end

local function seconds()
  return tonumber(redis.call('TIME')[1])
end

local function is_cluster()
  return info('cluster', 'cluster_enabled') == '1'
end

-- The term that an epoch, or a line's name, begins with; nil for an epoch of a version before.
local function term_of(name)
  local digits = name and string.match(name, '^(%x+)-')
  return digits and tonumber(digits, 16)
end

-- A line's record: name (`<term>-<random>`), the replication history and run that it is, when it
-- began, the name of the first line that was noted in this data (epochs of versions before belong
-- to it), the sentinels' config epoch, and whether its nodes have left it: for which config epoch,
-- until when.
local function read_line(key)
  local state = redis.call('HMGET', key, 'name', 'history', 'run', 'since', 'first', 'config',
    'left', 'until')
  return {
    name = state[1] or nil, history = state[2], run = state[3], since = tonumber(state[4] or nil),
    first = state[5], config = tonumber(state[6] or nil), left = tonumber(state[7] or nil),
    up_to = tonumber(state[8] or nil),
  }
end

-- Begin a term that is later than this server's last one and than `known`.
local function begin_term(key, line, known)
  local history = info('replication', 'master_replid')
  local term = math.max(seconds(), (term_of(line.name) or 0) + 1, (known or 0) + 1)
  local name = string.format('%08x-', term) .. random(history)
  line.first = line.name and line.first or name
  line.name, line.history, line.config, line.left = name, history, nil, nil
  line.since = milliseconds(redis.call('TIME'))
  redis.call('HSET', key, 'name', name, 'history', history, 'run', info('server', 'run_id'),
    'first', line.first, 'since', string.format('%.0f', line.since))
  redis.call('HDEL', key, 'config', 'left', 'until')
end

local function has_been_left(line)
  return line.left and seconds() < line.up_to
end

local LEFT = 'LEFT another server took over from this one'

-- The line that this server is in now; begins a term where it is another one than was noted.
-- Returns nil and an error where others have left it.
local function current_line(key)
  local line = read_line(key)
  if has_been_left(line) then
    return nil, redis.error_reply(LEFT)
  end
  local history = info('replication', 'master_replid')
  if not line.name or line.left then
    begin_term(key, line)
  elseif line.history ~= history then
    if renamed_only(line.run) then
      redis.call('HSET', key, 'history', history)
      line.history = history
    else
      begin_term(key, line)
    end
  end
  return line
end

-- keys: line, line
-- args: position TTL, the newest name of a line that the caller has met ('' for none), the
--       sentinels' config epoch ('' for none)
-- returns: the name of the line
local function enter_line(keys, args)
  local key, met, config = keys[1], args[2], tonumber(args[3])
  local line, known = read_line(key), term_of(args[2]) or 0
  if has_been_left(line) then
    -- Made the master once more by the sentinels, or not yet left by all.
    if not (config and config > line.left) then
      return redis.error_reply(LEFT)
    end
    begin_term(key, line, known)
  else
    line = current_line(key)
  end
  -- The caller was in a later one, or in another one that began at the same time elsewhere; or
  -- there was a failover that this server has not noticed.
  local term = term_of(line.name)
  local elsewhere = known > term or known == term and met ~= line.name
  local failed_over = config and line.config and config > line.config
  if elsewhere or failed_over then
    begin_term(key, line, known)
  end
  if config and config > (line.config or -1) then
    redis.call('HSET', key, 'config', config)
  end
  redis.call('PEXPIRE', key, args[1])
  return line.name
end

-- keys: line, line
-- args: the config epoch that made another server the master, for how many seconds to say so
local function leave_line(keys, args)
  local line, config = read_line(keys[1]), tonumber(args[1])
  if line.name and config > (line.config or -1) then
    redis.call('HSET', keys[1], 'left', config, 'until', seconds() + args[2])
  end
  return redis.status_reply('OK')
end

