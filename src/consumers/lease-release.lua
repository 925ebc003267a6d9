#!lua flags=allow-oom
-- KEYS[1]  lease:<group>
-- ARGV[1]  'token' | 'predecessor'
-- ARGV[2]  the fencing token · or the owner (<instanceId>#<nonce>) whose dead predecessor's lease is to end
-- Returns  1 released · 0 not so held
if ARGV[1] == 'token' then
  if redis.call('HGET', KEYS[1], 'token') ~= ARGV[2] then return 0 end
else
  local owner = redis.call('HGET', KEYS[1], 'owner')
  local function instance(name) return string.match(name, '^(.*)#') end
  if not owner or owner == ARGV[2] or instance(owner) ~= instance(ARGV[2]) then return 0 end
end
return redis.call('DEL', KEYS[1])
