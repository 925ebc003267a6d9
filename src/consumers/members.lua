#!lua flags=allow-oom
-- Says that a member is alive and answers who else is. By Redis' clock: those of processes differ.
-- KEYS[1]  members zset of a role: member → when it was last heard of, ms
-- ARGV[1]  member
-- ARGV[2]  ms of silence after which a member is dead
-- ARGV[3]  'beat' | 'leave' | 'look' | 'join': a member that joins ends its predecessors of the same instance
-- Returns  the members alive
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local member, mode = ARGV[1], ARGV[3]
local function instance(name) return string.match(name, '^(.*)#') end

if mode == 'join' then
  for _, other in ipairs(redis.call('ZRANGE', KEYS[1], 0, -1)) do
    if other ~= member and instance(other) == instance(member) then
      redis.call('ZREM', KEYS[1], other)
    end
  end
end
if mode == 'join' or mode == 'beat' then
  redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now - ARGV[2])
  redis.call('ZADD', KEYS[1], now, member)
elseif mode == 'leave' then
  redis.call('ZREM', KEYS[1], member)
end
return redis.call('ZRANGEBYSCORE', KEYS[1], '(' .. (now - ARGV[2]), '+inf')
