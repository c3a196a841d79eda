-- Takes a slot, by the generic cell rate algorithm: requests are due one space after the other, and may come before that
-- by the tolerance. KEYS: when the next one is due, in microseconds of the server's time. ARGV: space, tolerance, longest
-- wait, in microseconds. Answers: 1 if something else stood there, 1 if the slot is taken, the wait.
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local space, tolerance, longest = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local found = redis.pcall('GET', KEYS[1])
local due = now
if type(found) == 'table' or (found and not tonumber(found)) then
  redis.call('DEL', KEYS[1])
  return {1, 0, 0}
elseif found then
  due = math.max(tonumber(found), now)
end
local wait = math.max(due - now - tolerance, 0)
if wait > longest then
  return {0, 0, wait}
end
redis.call('SET', KEYS[1], string.format('%.0f', due + space), 'PX', math.ceil((due + space - now) / 1000) + 1000)
return {0, 1, wait}
