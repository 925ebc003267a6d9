#!lua flags=no-writes
-- Schedules that are due to tick, by Redis' clock, under the lease.
-- KEYS[1]  lease:<group>   KEYS[2]  ticks, zset
-- ARGV[1]  fencing token   ARGV[2]  how many at most
-- Returns  0 the lease is not ours
--          {now in ms, ms until the next one is due: 0 now, -1 there is none, schedule ids, those due for longest first}
if redis.call('HGET', KEYS[1], 'token') ~= ARGV[1] then return 0 end
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local due = redis.call('ZRANGEBYSCORE', KEYS[2], '-inf', now, 'LIMIT', 0, ARGV[2])
if #due > 0 then return { now, 0, due } end
local next = redis.call('ZRANGEBYSCORE', KEYS[2], '(' .. now, '+inf', 'WITHSCORES', 'LIMIT', 0, 1)
return { now, next[2] and math.max(1, next[2] - now) or -1, due }
