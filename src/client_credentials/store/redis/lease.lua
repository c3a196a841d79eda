-- Takes or renews a lease. 0: held, 1: another has it, 2: another had it and failed. What has no end within a day,
-- or is no string, is none of ours.
local holder = redis.pcall('GET', KEYS[1])
local left = redis.call('PTTL', KEYS[1])
if type(holder) == 'string' and holder ~= ARGV[1] and left >= 0 and left <= 86400000 then
  return holder == 'failed' and 2 or 1
end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return 0
