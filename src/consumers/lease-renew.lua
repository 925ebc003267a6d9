#!lua flags=allow-oom
-- KEYS[1]  lease:<group>
-- ARGV[1]  fencing token
-- ARGV[2]  lease time, ms
-- Returns  1 renewed · 0 no longer ours
if redis.call('HGET', KEYS[1], 'token') ~= ARGV[1] then return 0 end
return redis.call('PEXPIRE', KEYS[1], ARGV[2])
