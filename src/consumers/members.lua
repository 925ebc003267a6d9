#!lua flags=allow-oom
-- Says that a member is alive and what it can do, and answers who else is and what they can. By Redis' clock: those of
-- processes differ.
-- KEYS[1]  members zset of a role: member → when it was last heard of, ms
-- KEYS[2]  hash: member → its groups, joined by spaces
-- ARGV[1]  member
-- ARGV[2]  ms of silence after which a member is dead
-- ARGV[3]  'beat' | 'leave' | 'look' | 'join': a member that joins ends its predecessors of the same instance
-- ARGV[4]  its groups; with 'join' and 'beat'
-- Returns  the members alive, each followed by its groups
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local member, mode = ARGV[1], ARGV[3]
local function instance(name) return string.match(name, '^(.*)#') end
local function remove(name)
  redis.call('ZREM', KEYS[1], name)
  redis.call('HDEL', KEYS[2], name)
end

if mode == 'join' then
  for _, other in ipairs(redis.call('ZRANGE', KEYS[1], 0, -1)) do
    if other ~= member and instance(other) == instance(member) then remove(other) end
  end
end
if mode == 'join' or mode == 'beat' then
  for _, dead in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now - ARGV[2])) do remove(dead) end
  redis.call('ZADD', KEYS[1], now, member)
  redis.call('HSET', KEYS[2], member, ARGV[4])
elseif mode == 'leave' then
  remove(member)
end
local alive = {}
for _, name in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], '(' .. (now - ARGV[2]), '+inf')) do
  alive[#alive + 1] = name
  alive[#alive + 1] = redis.call('HGET', KEYS[2], name) or ''
end
return alive
