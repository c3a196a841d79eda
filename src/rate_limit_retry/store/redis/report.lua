-- Stores the report of a process about a quota, and returns the combined state. Must match `memory.rs`.
--
-- KEYS: the quota (hash), the time of the last report of each process (sorted set).
-- ARGV: version, process, number of the report, hold (0 without one), channel for new holds (an argument and not a key: a cluster would reject
-- the call while it migrates the slot); then for each window: name, reserved, wanted, minimum, used, and what is
-- announced: remaining (-1 without an announcement), reset, age, limit, window (-1 if unknown). Times in milliseconds.
-- Returns: 1 if an entry had an unknown format and was deleted, else 0; hold (-1 without one); number of processes; then
-- for each known window: name, granted, remaining, reserved, reset, limit, window (-1 if unknown).
--
-- Fields of the hash: `format` is the version of the newest process that has reported, `hold` the end of the hold in
-- every version, `windows` a JSON object with the reserved amount of each window and what is known of it, and each
-- process has a field with the amounts that it has reserved, in the same form, and the number of its report under the
-- empty name.
-- The cost is bounded: at most 100 expired processes are removed per call, and an entry has at most 16 windows.
local MAX_WINDOWS, MAX_PROCESSES, MAX_AMOUNT = 16, 4096, 10000000000000
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local quota, heartbeats = KEYS[1], KEYS[2]
local version, process = tonumber(ARGV[1]), ARGV[2]

local found = redis.pcall('HMGET', quota, 'format', 'hold', 'windows')
local malformed = found.err ~= nil or type(redis.pcall('ZCARD', heartbeats)) ~= 'number'
local format, hold = 0, -1
if not malformed then
  format, hold = tonumber(found[1] or 0), tonumber(found[2] or -1)
  malformed = not format or not hold or (not found[1] and redis.call('EXISTS', quota) == 1)
end
local windows = {}
if not malformed and format == version and found[3] then
  local readable, decoded = pcall(cjson.decode, found[3])
  malformed = not readable or type(decoded) ~= 'table'
  windows = malformed and {} or decoded
  for name, window in pairs(windows) do
    malformed = malformed or type(name) ~= 'string' or type(window) ~= 'table' or type(window.reserved) ~= 'number'
    if not malformed and window.remaining then
      for _, field in ipairs({'remaining', 'updated', 'resets_at', 'limit', 'window'}) do
        malformed = malformed or type(window[field]) ~= 'number'
      end
    end
  end
end
if malformed then
  redis.call('DEL', quota, heartbeats)
  return {1, -1, 0}
end

-- Only a later hold is published, so that a hold costs the fleet one message.
local new_hold = tonumber(ARGV[4])
if new_hold > 0 and now + new_hold > hold then
  hold = now + new_hold
  redis.call('PUBLISH', ARGV[5], process)
end
local answer = {0, hold > now and hold - now or -1, 0}

-- The entry of a newer version: only the hold means the same there.
if version < format then
  redis.call('HSET', quota, 'hold', hold)
  if redis.call('PTTL', quota) < hold - now then
    redis.call('PEXPIRE', quota, hold - now)
  end
  return answer
end
if version > format then
  redis.call('DEL', quota, heartbeats)
end

local function is_used(window)
  return window.remaining or window.reserved > 0
end

-- Subtracts what a process has reserved. Returns the number of its last report.
local function release(other)
  local former = redis.call('HGET', quota, other)
  local readable, amounts = pcall(cjson.decode, former or '{}')
  for name, amount in pairs(readable and type(amounts) == 'table' and amounts or {}) do
    local window = windows[name]
    if window and type(amount) == 'number' then
      window.reserved = math.max(window.reserved - amount, 0)
      if not is_used(window) then
        windows[name] = nil
      end
    end
  end
  return readable and type(amounts) == 'table' and amounts[''] or nil
end

-- The reservation of a process without reports for 1 s (`RESERVATION_TTL`) expires.
for _, other in ipairs(redis.call('ZRANGEBYSCORE', heartbeats, '-inf', now - 1000, 'LIMIT', 0, 100)) do
  release(other)
  redis.call('HDEL', quota, other)
  redis.call('ZREM', heartbeats, other)
end
local processes, known_windows = redis.call('ZCARD', heartbeats), 0
for name, window in pairs(windows) do
  -- Without processes nothing is reserved: a different amount means that one of the two keys was lost.
  if processes == 0 then
    window.reserved = 0
  end
  if window.remaining and window.resets_at <= now then
    windows[name] = {reserved = window.reserved}
  end
  if not is_used(windows[name]) then
    windows[name] = nil
  end
end
if processes >= MAX_PROCESSES and not redis.call('ZSCORE', heartbeats, process) then
  return answer
end

-- The report replaces what its process had reserved. What it says is used was counted before if it is repeated.
local former = release(process)
local is_repeated = ARGV[3] ~= '0' and former == ARGV[3]
redis.call('ZADD', heartbeats, now, process)
processes = redis.call('ZCARD', heartbeats)
for _ in pairs(windows) do
  known_windows = known_windows + 1
end
local mine, counted = {[''] = ARGV[3]}, {}
for at = 6, math.min(#ARGV, 5 + 10 * MAX_WINDOWS), 10 do
  local name, reserved, used = ARGV[at], tonumber(ARGV[at + 1]), tonumber(ARGV[at + 4])
  local window = windows[name]
  if not window and known_windows < MAX_WINDOWS then
    known_windows = known_windows + 1
    window = {reserved = 0}
    windows[name] = window
  end
  if window then
    local remaining, age, limit = tonumber(ARGV[at + 5]), tonumber(ARGV[at + 7]), tonumber(ARGV[at + 8])
    if remaining >= 0 then
      if window.remaining and age < 0 and limit >= 0 and window.limit >= 0 and limit ~= window.limit then
        -- Without an age, an announcement changes another limit only by raising it.
        local raised = math.max(limit - window.limit, 0)
        window.limit = math.max(window.limit, limit)
        window.remaining = math.min(window.remaining + raised, MAX_AMOUNT)
      elseif not window.remaining or remaining < window.remaining or (age >= 0 and now - age > window.updated) then
        -- It has less remaining, or its request was sent after the last announcement was stored.
        window.remaining, window.updated, window.resets_at = remaining, now, now + ARGV[at + 6]
        window.limit, window.window = limit, tonumber(ARGV[at + 9])
      end
    end
    if window.remaining and not is_repeated then
      window.remaining = math.max(window.remaining - used, 0)
    end
    window.reserved = window.reserved + reserved
    mine[name] = (mine[name] or 0) + reserved
    counted[#counted + 1] = at
  end
end

-- At most an equal share of what is free, or the minimum that is of use.
local granted = {}
for _, at in ipairs(counted) do
  local name, wanted, minimum = ARGV[at], tonumber(ARGV[at + 2]), math.max(tonumber(ARGV[at + 3]), 1)
  local window = windows[name]
  local free = math.max((window.remaining or 0) - window.reserved, 0)
  if minimum <= free then
    granted[name] = math.min(wanted, math.max(math.floor(free / processes), minimum))
    window.reserved = window.reserved + granted[name]
    mine[name] = mine[name] + granted[name]
  end
end

-- Both keys expire together: at the end of the last window or of the hold, and not before a minute without reports.
local left = math.max(hold - now, 60000)
answer[3] = processes
for name, window in pairs(windows) do
  if not is_used(window) then
    windows[name] = nil
  elseif window.remaining then
    left = math.max(left, window.resets_at - now)
    for _, value in ipairs({name, granted[name] or 0, window.remaining, window.reserved, window.resets_at - now,
      window.limit, window.window}) do
      answer[#answer + 1] = value
    end
  end
end
redis.call('HSET', quota, 'format', version, 'hold', hold, 'windows', cjson.encode(windows), process, cjson.encode(mine))
redis.call('PEXPIRE', quota, left)
redis.call('PEXPIRE', heartbeats, left)
return answer
