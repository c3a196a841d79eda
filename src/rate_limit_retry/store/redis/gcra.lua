-- Takes a slot, by the generic cell rate algorithm: requests are tat one emission_interval after the other, and may come before that
-- by the burst_tolerance. KEYS: when the next one is tat, in microseconds of the server's time. ARGV: emission_interval, burst_tolerance, max_wait
-- wait, in microseconds. Answers: 1 if something else stood there, 1 if the slot is taken, the wait.
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local emission_interval, burst_tolerance, max_wait = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local found = redis.pcall('GET', KEYS[1])
local tat = now
if type(found) == 'table' or (found and not tonumber(found)) then
  redis.call('DEL', KEYS[1])
  return {1, 0, 0}
elseif found then
  tat = math.max(tonumber(found), now)
end
local wait = math.max(tat - now - burst_tolerance, 0)
if wait > max_wait then
  return {0, 0, wait}
end
redis.call('SET', KEYS[1], string.format('%.0f', tat + emission_interval), 'PX', math.ceil((tat + emission_interval - now) / 1000) + 1000)
return {0, 1, wait}
