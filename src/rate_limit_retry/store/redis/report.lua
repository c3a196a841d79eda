-- Stores the report of a process about a quota, and returns the combined state. Must match `memory.rs`.
--
-- KEYS: the quota (hash), the time of the last report of each process (sorted set).
-- ARGV: process, reserved, wanted, hold (0 without one), channel for new holds (an argument and not a key: a cluster would
-- reject the call while it migrates the slot); then, if the API has announced a window: remaining, reset, age (-1 if
-- unknown), limit (-1 if unknown). Times in milliseconds.
-- Returns: 1 if an entry had an unknown format and was deleted, else 0; granted; hold (-1 without one); then, if a window
-- is known: remaining, reserved, processes, reset, limit (-1 if unknown).
-- The cost is bounded: at most 100 expired processes are removed per call.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local quota, heartbeats, process = KEYS[1], KEYS[2], ARGV[1]
local malformed = 0
local found = redis.pcall('HMGET', quota, 'format', 'remaining', 'updated', 'resets_at', 'hold', 'reserved', 'limit')
if found.err or (found[1] and found[1] ~= '1') then
  malformed, found = 1, {}
end
local known = {}
for index = 2, 7 do
  known[index] = tonumber(found[index] or -1)
  if not known[index] then
    malformed = 1
  end
end
if malformed == 1 or type(redis.pcall('ZCARD', heartbeats)) ~= 'number' then
  redis.call('DEL', quota, heartbeats)
  return {1, 0, -1}
end
local remaining, updated, resets_at, hold, total, limit = known[2], known[3], known[4], known[5], math.max(known[6], 0), known[7]

-- The reservation of a process without reports for 1 s (`RESERVATION_TTL`) expires.
local expired = redis.call('ZRANGEBYSCORE', heartbeats, '-inf', now - 1000, 'LIMIT', 0, 100)
for _, other in ipairs(expired) do
  total = total - (tonumber(redis.call('HGET', quota, other)) or 0)
  redis.call('HDEL', quota, other)
  redis.call('ZREM', heartbeats, other)
end
-- Without processes nothing is reserved: a different total means that one of the two keys was lost.
if redis.call('ZCARD', heartbeats) == 0 and total ~= 0 then
  redis.call('DEL', quota)
  total = 0
end

if resets_at <= now then
  remaining = -1
end
-- An announcement is stored if it has fewer remaining requests, or if its request was sent after the last announcement
-- was stored.
if ARGV[6] then
  local announced, age = tonumber(ARGV[6]), tonumber(ARGV[8])
  if remaining < 0 or announced < remaining or (age >= 0 and now - age > updated) then
    remaining, updated, resets_at, limit = announced, now, now + ARGV[7], tonumber(ARGV[9])
  end
end
-- Only a later hold is published, so that a hold costs the fleet one message.
local new_hold = now + ARGV[4]
if tonumber(ARGV[4]) > 0 and new_hold > hold then
  hold = new_hold
  redis.call('PUBLISH', ARGV[5], process)
end

-- The new reservation replaces the previous one of this process. `total` is the sum over all processes.
redis.call('ZADD', heartbeats, now, process)
local reserved = tonumber(ARGV[2])
total = total - (tonumber(redis.call('HGET', quota, process)) or 0) + reserved
local processes = redis.call('ZCARD', heartbeats)
local granted = 0
if remaining >= 0 then
  -- At most an equal share of the free requests, but at least one while any are free.
  local free = math.max(remaining - total, 0)
  local fair = math.min(math.max(math.floor(free / processes), 1), free)
  granted = math.min(tonumber(ARGV[3]), fair)
  total = total + granted
end
redis.call('HSET', quota, 'format', '1', 'remaining', remaining, 'updated', updated, 'resets_at', resets_at, 'hold', hold,
  'reserved', total, 'limit', limit, process, reserved + granted)
-- Both keys expire together: at the end of the window or of the hold, and not before a minute without reports.
local left = math.max(hold - now, resets_at - now, 60000)
redis.call('PEXPIRE', quota, left)
redis.call('PEXPIRE', heartbeats, left)

local answer = {0, granted, hold > now and hold - now or -1}
if remaining >= 0 then
  answer[4], answer[5], answer[6], answer[7], answer[8] = remaining, total, processes, resets_at - now, limit
end
return answer
