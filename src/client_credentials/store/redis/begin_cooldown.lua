-- Begins a cooldown, if there is none. What has no end within a day is none of ours.
local left = redis.call('PTTL', KEYS[1])
if left >= 0 and left <= 86400000 then
  return 0
end
redis.call('SET', KEYS[1], '1', 'PX', ARGV[1])
return 1
