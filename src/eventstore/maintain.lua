#!lua flags=allow-oom
-- What shrinks Redis: states that the ledger can restore, and log entries that the ledger holds.
--
-- KEYS  1 meta, 2 log, then the states to evict
-- ARGV  1 store id, 2 epoch, 3 run id, as in commit.lua
--       4 seq up to which the ledger holds everything
--       5 epoch and 6 seq of the newest log entry to trim ('0', '0': trim nothing)
-- Returns {states evicted, log entries trimmed}. Error, nothing done: FENCED.
--
-- `meta.evicted` rises to the last seq of what is evicted: a load that found nothing must have scanned as far.
-- The newest entry is never trimmed: reconciling compares it with the ledger's head.

local call = redis.call
local meta = call('HMGET', KEYS[1], 'store', 'epoch', 'run', 'seq', 'evicted')
if meta[1] ~= ARGV[1] or meta[2] ~= ARGV[2] or meta[3] ~= ARGV[3] then
  return redis.error_reply('FENCED this partition trusts another store, epoch or server')
end

local held, head, up_to = tonumber(ARGV[4]), tonumber(meta[4]), tonumber(ARGV[6])
if up_to > held or up_to > head then
  return redis.error_reply('ERR the ledger does not hold what is to be trimmed')
end

local highest, states = tonumber(meta[5]), 0
for i = 3, #KEYS do
  local last = string.match(call('GETRANGE', KEYS[i], 0, 47), '^%d+ (%d+) ')
  if last and tonumber(last) <= held then
    call('UNLINK', KEYS[i])
    highest = math.max(highest, tonumber(last))
    states = states + 1
  end
end
if highest > tonumber(meta[5]) then call('HSET', KEYS[1], 'evicted', highest) end

local trimmed = 0
up_to = math.min(up_to, head - 1)
if up_to > 0 then trimmed = call('XTRIM', KEYS[2], 'MINID', '=', ARGV[5] .. '-' .. (up_to + 1)) end
return { states, trimmed }
