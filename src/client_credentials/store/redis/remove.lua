-- Removes the token if it has this tag.
local sealed = redis.pcall('GET', KEYS[1])
if type(sealed) ~= 'string' or string.sub(sealed, 5, 20) ~= ARGV[1] then
  return 0
end
return redis.call('DEL', KEYS[1])
