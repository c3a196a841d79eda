-- Stores a token and ends the lease, if this holder has it or its holder has failed.
local holder = redis.pcall('GET', KEYS[2])
if holder ~= ARGV[1] and holder ~= 'failed' then
  return 0
end
redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3])
redis.call('DEL', KEYS[2])
return 1
