-- Takes in what a process says about a quota, and answers with what all know; the same as `ledger.rs`.
-- KEYS: the quota, when each process was last heard. ARGV: process, reserved, wanted, hold, channel of the news (no key, so
-- that a cluster does not look for it while it moves the slot); then, if the API has said something: remaining, reset, age (-1 if not known), limit (-1 if not known). Times in milliseconds.
-- Answers: 1 if something else stood there, granted, hold (-1 without one); then, if a window is known: remaining,
-- reserved, processes, reset, limit.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local quota, seen, process = KEYS[1], KEYS[2], ARGV[1]
local strange = 0
local found = redis.pcall('HMGET', quota, 'format', 'remaining', 'at', 'ends', 'hold', 'reserved', 'limit')
if found.err or (found[1] and found[1] ~= '1') then
  strange, found = 1, {}
end
local known = {}
for index = 2, 7 do
  known[index] = tonumber(found[index] or -1)
  if not known[index] then
    strange = 1
  end
end
if strange == 1 or type(redis.pcall('ZCARD', seen)) ~= 'number' then
  redis.call('DEL', quota, seen)
  return {1, 0, -1}
end
local remaining, at, ends, hold, total, limit = known[2], known[3], known[4], known[5], math.max(known[6], 0), known[7]

-- Who has said nothing for so long has nothing reserved any more.
local gone = redis.call('ZRANGEBYSCORE', seen, '-inf', now - 1000, 'LIMIT', 0, 100)
for _, other in ipairs(gone) do
  total = total - (tonumber(redis.call('HGET', quota, other)) or 0)
  redis.call('HDEL', quota, other)
  redis.call('ZREM', seen, other)
end
if redis.call('ZCARD', seen) == 0 and total ~= 0 then
  redis.call('DEL', quota)
  total = 0
end

if ends <= now then
  remaining = -1
end
if ARGV[6] then
  local told, age = tonumber(ARGV[6]), tonumber(ARGV[8])
  if remaining < 0 or told < remaining or (age >= 0 and now - age > at) then
    remaining, at, ends, limit = told, now, now + ARGV[7], tonumber(ARGV[9])
  end
end
local news = now + ARGV[4]
if tonumber(ARGV[4]) > 0 and news > hold then
  hold = news
  redis.call('PUBLISH', ARGV[5], process)
end

redis.call('ZADD', seen, now, process)
local reserved = tonumber(ARGV[2])
total = total - (tonumber(redis.call('HGET', quota, process)) or 0) + reserved
local processes = redis.call('ZCARD', seen)
local granted = 0
if remaining >= 0 then
  local free = math.max(remaining - total, 0)
  local fair = math.min(math.max(math.floor(free / processes), 1), free)
  granted = math.min(tonumber(ARGV[3]), fair)
  total = total + granted
end
redis.call('HSET', quota, 'format', '1', 'remaining', remaining, 'at', at, 'ends', ends, 'hold', hold,
  'reserved', total, 'limit', limit, process, reserved + granted)
local left = math.max(hold - now, ends - now, 60000)
redis.call('PEXPIRE', quota, left)
redis.call('PEXPIRE', seen, left)

local answer = {0, granted, hold > now and hold - now or -1}
if remaining >= 0 then
  answer[4], answer[5], answer[6], answer[7], answer[8] = remaining, total, processes, ends - now, limit
end
return answer
