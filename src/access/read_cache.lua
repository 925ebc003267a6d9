#!lua
-- Keeps what was read, if nobody has taken the lease away since: whoever changes what was read, does.
-- KEYS[1]  the entry
-- ARGV[1]  the lease
-- ARGV[2]  what was read; '': nothing to keep, the lease is given back
-- ARGV[3]  for how long, ms
-- Returns  1 kept · 0 not
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
if ARGV[2] == '' then
  redis.call('DEL', KEYS[1])
  return 0
end
redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3])
return 1
