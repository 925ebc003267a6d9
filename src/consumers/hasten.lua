#!lua flags=allow-oom
-- Makes a timer due now whose job has been due before, and only waited for something else. Others stay as they are.
-- KEYS[1]  timers, zset   KEYS[2]  timers:work, hash
-- ARGV[1]  job
-- Returns  1 it is due now · 0 there is no such timer
local work = redis.call('HGET', KEYS[2], ARGV[1])
local due = work and string.match(work, '^%d+ %S+ %S+ %S+ (%d+) ')
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
if not due or tonumber(due) > now then return 0 end
redis.call('ZADD', KEYS[1], 'XX', 'LT', now, string.sub(work, 1, 14) .. ' ' .. ARGV[1])
return 1
