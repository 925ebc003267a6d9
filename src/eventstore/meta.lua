#!lua flags=allow-oom
-- Sets what a partition trusts, if nothing has changed since it was read: a new partition's meta, or, after a
-- restart of Redis, a new run id and a new epoch of positions.
--
-- KEYS  1 meta
-- ARGV  1 epoch and 2 run id as they were read ('': there was no meta)
--       3 store id, 4 number of partitions, 5 new epoch, 6 new run id
-- Returns 1; 0: something has changed, nothing done.

local call = redis.call
local epoch, run = unpack(call('HMGET', KEYS[1], 'epoch', 'run'))
if (epoch or '') ~= ARGV[1] or (run or '') ~= ARGV[2] then return 0 end
if not epoch then call('HSET', KEYS[1], 'seq', 0, 'recovery', 0, 'evicted', 0) end
call('HSET', KEYS[1], 'store', ARGV[3], 'partitions', ARGV[4], 'epoch', ARGV[5], 'run', ARGV[6])
return 1
