-- Reserves a slot by the generic cell rate algorithm (GCRA). Must match `memory.rs`.
--
-- A request is due one emission interval after the previous one (its theoretical arrival time, TAT), and may be sent
-- earlier by the burst tolerance. A wait longer than the maximum reserves nothing.
--
-- KEYS: the TAT of the next request, in microseconds of the server's time.
-- ARGV: emission interval, burst tolerance, maximum wait; in microseconds.
-- Returns: 1 if the entry had an unknown format and was deleted, else 0; 1 if the slot is reserved, else 0; the wait.
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local emission_interval, burst_tolerance, max_wait = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local found = redis.pcall('GET', KEYS[1])
local tat = now
if type(found) == 'table' or (found and not tonumber(found)) then
  redis.call('DEL', KEYS[1])
  return {1, 0, 0}
elseif found then
  -- A TAT in the past gives no credit beyond the tolerance.
  tat = math.max(tonumber(found), now)
end
local wait = math.max(tat - now - burst_tolerance, 0)
if wait > max_wait then
  return {0, 0, wait}
end
-- '%.0f', because Lua would print a large number with an exponent. The key outlives the TAT by 1 s.
redis.call('SET', KEYS[1], string.format('%.0f', tat + emission_interval), 'PX', math.ceil((tat + emission_interval - now) / 1000) + 1000)
return {0, 1, wait}
