-- Who is present in a channel, on any node. Follows library.lua in one text.
--
-- here: a hash, by member: the tags of the nodes where it is, when it came (microseconds), and
-- the member as JSON, one a line. leases: a sorted set of node tags, by the millisecond until
-- which what they said holds. A node's word is renewed for all its members at once, so that
-- renewing costs the same whether one is present or ten thousand. Both keys expire.
--
-- A lease that has ended means a dead node, unless nobody could renew: Redis stood still, its clock
-- was set, or the whole machine slept. Nodes renew after a third of a lease, so where none has for
-- half of one, that is so, or all are dead. The first that writes then notes that nobody is judged for
-- as long as a lease lasts (`NOBODY_JUDGES` in leases), and who only asks judges nobody. For example,
-- nodes A and B have leases until second 9 and 11, and Redis stands still from second 4 to 10. A
-- member that asks at second 10 is told those of both. B renews at 10.1, notes second 20.1, and A
-- renews at 10.2.

local function announce(here, change, member)
  local name = string.match(here, '^(.*):here$')
  redis.call('PUBLISH', name, table.concat({ 'presence', change, member }, '\n'))
end

-- No node's tag.
local NOBODY_JUDGES = '-'

local function is_noted(keys, now)
  return tonumber(redis.call('ZSCORE', keys[2], NOBODY_JUDGES) or 0) > now
end

-- Whether some node has renewed within half a lease. Only where nothing is noted: that has a score, too.
local function somebody_renewed(keys, lease_ms, now)
  local newest = redis.call('ZRANGE', keys[2], -1, -1, 'WITHSCORES')[2]
  return newest and tonumber(newest) > now + lease_ms / 2
end

-- Whether nodes may be taken for dead by their leases.
local function may_judge(keys, lease_ms)
  local now = milliseconds(redis.call('TIME'))
  return not is_noted(keys, now) and somebody_renewed(keys, lease_ms, now)
end

-- Behind what makes the keys: what is not there cannot be made to expire.
local function lease(keys, tag, lease_ms)
  local now = milliseconds(redis.call('TIME'))
  local ends = string.format('%.0f', now + lease_ms)
  if redis.call('EXISTS', keys[2]) == 1 and not is_noted(keys, now)
    and not somebody_renewed(keys, lease_ms, now) then
    redis.call('ZADD', keys[2], ends, NOBODY_JUDGES)
  end
  redis.call('ZADD', keys[2], ends, tag)
  -- Some longer than the leases: the leaves of those that end are still to be announced.
  redis.call('PEXPIRE', keys[1], 3 * lease_ms)
  redis.call('PEXPIRE', keys[2], 3 * lease_ms)
end

-- When a member said something of itself (milliseconds), 0 where it never did.
local function said_ms(member)
  return tonumber(cjson.decode(member)[5]) or 0
end

-- A member that is there and says something newer of itself is written anew.
local function enter(keys, tag, id, member)
  local entry = redis.call('HGET', keys[1], id)
  if not entry then
    local now = redis.call('TIME')
    local came = string.format('%.0f', now[1] * 1000000 + now[2])
    redis.call('HSET', keys[1], id, table.concat({ tag, came, member }, '\n'))
    announce(keys[1], 'join', member)
    return
  end
  local tags, came, before = string.match(entry, '^([^\n]*)\n([^\n]*)\n(.*)$')
  local is_new = not string.find(' ' .. tags .. ' ', ' ' .. tag .. ' ', 1, true)
  local is_newer = member ~= before and said_ms(member) > said_ms(before)
  if is_new then
    tags = tag .. ' ' .. tags
  end
  if is_new or is_newer then
    local now_is = is_newer and member or before
    redis.call('HSET', keys[1], id, table.concat({ tags, came, now_is }, '\n'))
  end
  if is_newer then
    announce(keys[1], 'update', member)
  end
end

-- Keeps a member only where `stays` says so of one of its nodes; returns whether it is kept.
local function withdraw(keys, id, entry, stays)
  local tags, rest = string.match(entry, '^([^\n]*)(\n.*)$')
  local left, gone = {}, false
  for tag in string.gmatch(tags, '%S+') do
    if stays(tag) then
      left[#left + 1] = tag
    else
      gone = true
    end
  end
  if gone and left[1] then
    redis.call('HSET', keys[1], id, table.concat(left, ' ') .. rest)
  elseif gone then
    redis.call('HDEL', keys[1], id)
    announce(keys[1], 'leave', string.match(rest, '^\n[^\n]*\n(.*)$'))
  end
  return left[1] ~= nil
end

-- Lets go of nodes whose leases have ended, and of members that were only there. Atomic, so
-- each leave is announced once, whichever node comes first.
local function sweep(keys, lease_ms)
  local now = string.format('%.0f', milliseconds(redis.call('TIME')))
  if not may_judge(keys, lease_ms) or redis.call('ZREMRANGEBYSCORE', keys[2], '-inf', now) == 0 then
    return
  end
  local lives = {}
  for _, tag in ipairs(redis.call('ZRANGE', keys[2], 0, -1)) do
    lives[tag] = true
  end
  local place, stays = '0', function(tag) return lives[tag] end
  repeat
    local part = redis.call('HSCAN', keys[1], place, 'COUNT', 100)
    place = part[1]
    for i = 1, #part[2], 2 do
      withdraw(keys, part[2][i], part[2][i + 1], stays)
    end
  until place == '0'
end

-- keys of all of these: here, leases

-- args: node tag, lease (milliseconds), member id, member
local function join(keys, args)
  enter(keys, args[1], args[3], args[4])
  lease(keys, args[1], args[2])
end

-- args: node tag, member id, 1 where it was the node's last
local function leave(keys, args)
  local entry = redis.call('HGET', keys[1], args[2])
  if entry then
    withdraw(keys, args[2], entry, function(tag) return tag ~= args[1] end)
  end
  if args[3] == '1' then
    redis.call('ZREM', keys[2], args[1])
  end
end

-- args: node tag, lease (milliseconds), 1 where it may sweep
-- returns: 1; 0 where another node has let go of this one: what it said holds no more; 2 where its
--          lease had ended and nobody has
-- A node that finds its own lease ended judges nobody either: what the others said while it was held up
-- is still to be read.
local function renew(keys, args)
  local now = milliseconds(redis.call('TIME'))
  local ends = redis.call('ZSCORE', keys[2], args[1])
  local late = ends and tonumber(ends) <= now
  if ends then
    lease(keys, args[1], args[2])
  end
  if args[3] == '1' and not late then
    sweep(keys, args[2])
  end
  return ends and (late and 2 or 1) or 0
end

-- args: node tag, lease (milliseconds), then id and member of some who are there
local function present(keys, args)
  for i = 3, #args, 2 do
    enter(keys, args[1], args[i], args[i + 1])
  end
  lease(keys, args[1], args[2])
end

-- args: node tag, then ids of members that are not there, whoever said so
local function absent(keys, args)
  for i = 2, #args do
    local entry = redis.call('HGET', keys[1], args[i])
    if entry then
      withdraw(keys, args[i], entry, function(tag) return tag ~= args[1] end)
    end
  end
end

-- args: where to go on, '0' at first; about how many entries to look at; lease (milliseconds); after how
--       many bytes to look at no more
-- returns: where to go on, '0' at the end; entries of the hash. Who is there from the first call to
--          the last is in one of them at least.
-- Members whose nodes have no lease are let go of as they are met, where that may be judged. Leases that
-- have ended stay, for the sweep of whoever renews: it looks at all members, not at a part of them.
local function members(keys, args)
  local now = milliseconds(redis.call('TIME'))
  local judges = may_judge(keys, args[3])
  local lives, leases = {}, redis.call('ZRANGE', keys[2], 0, -1, 'WITHSCORES')
  for i = 1, #leases, 2 do
    lives[leases[i]] = tonumber(leases[i + 1]) > now
  end
  local stays = function(tag) return lives[tag] or not judges end
  local place, found, count, bytes = args[1], {}, 0, 0
  -- A few at a time: a member may be 4 KiB, and what is too much is not read.
  repeat
    local part = redis.call('HSCAN', keys[1], place, 'COUNT', 32)
    local entries = part[2]
    place, count = part[1], count + 32
    for i = 1, #entries, 2 do
      if withdraw(keys, entries[i], entries[i + 1], stays) then
        found[#found + 1] = entries[i + 1]
        bytes = bytes + #entries[i + 1]
      end
    end
  until place == '0' or count >= tonumber(args[2]) or bytes >= tonumber(args[4])
  return { place, found }
end
