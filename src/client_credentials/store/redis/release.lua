-- Ends a lease, if this holder has it; with a time, it is marked as failed for that long.
if redis.pcall('GET', KEYS[1]) == ARGV[1] then
  if ARGV[2] == '0' then
    redis.call('DEL', KEYS[1])
  else
    redis.call('SET', KEYS[1], 'failed', 'PX', ARGV[2])
  end
end
return 1
