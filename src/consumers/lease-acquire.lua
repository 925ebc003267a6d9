#!lua flags=allow-oom
-- Takes a lease that is free, our own, or a dead predecessor's (same instance id, another nonce).
-- KEYS[1]  lease:<group>, hash {owner, token}, expiring
-- KEYS[2]  meta: keeps the highest token that each group ever had here, for a Postgres that is set back
-- ARGV[1]  owner: <instanceId>#<nonce>
-- ARGV[2]  fencing token, minted in Postgres
-- ARGV[3]  lease time, ms
-- ARGV[4]  token:<group>, the field in meta
-- Returns  1 taken · 0 another holds it · -1 the token is not above the one that is or was there
local held = redis.call('HMGET', KEYS[1], 'owner', 'token')
local function instance(name) return string.match(name, '^(.*)#') end
if held[1] and instance(held[1]) ~= instance(ARGV[1]) then return 0 end
if held[2] and tonumber(held[2]) >= tonumber(ARGV[2]) then return -1 end
if redis.call('EXISTS', KEYS[2]) == 1 then
  if tonumber(redis.call('HGET', KEYS[2], ARGV[4]) or 0) >= tonumber(ARGV[2]) then return -1 end
  redis.call('HSET', KEYS[2], ARGV[4], ARGV[2])
end
redis.call('HSET', KEYS[1], 'owner', ARGV[1], 'token', ARGV[2])
redis.call('PEXPIRE', KEYS[1], ARGV[3])
return 1
