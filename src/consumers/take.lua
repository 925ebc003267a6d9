#!lua
-- Takes work from the streams of one queue in one partition, under the lease. Never blocks.
-- KEYS[1]   lease:<group>
-- KEYS[2]   blocked:<queue>: lane → '<job id> <due>' of the entry by which the job holds it
-- KEYS[3]   parked:<queue>: a lane's own list has the lane behind it, and lies in the same slot
-- KEYS[4]   state: what the names of jobs' states begin with, which lie in the same slot
-- KEYS[5…]  work streams, in the order in which they are to be emptied
-- ARGV[1]   fencing token
-- ARGV[2]   consumer: one fixed name per partition, so that a new owner finds what the old one had
-- ARGV[3]   how many entries at most
-- ARGV[4]   'new' | 'pending'
-- ARGV[5…]  'pending' only: for each stream, the id after which to go on in the pending list
-- Returns   0 the lease is not ours
--           {entries, ids}
--           entries: two items for each, as a reply of many small ones costs the caller more than the work itself:
--                    its stream (from 1), id and text, a line each; the state of its job, '' where there is none
--           ids: 'new': empty where there may be more. Else there was no more at this moment: for each stream the last
--                       id that was found in it, '' where there was none; of all streams their last ids, where
--                       nothing was found in any
--                'pending': for each stream the id to go on after; '' at the end of its pending list
-- A pending entry without fields was removed by a commit: it is acked here and never given out.
--
-- A new entry with an ordering key is given out to hold its lane; one whose lane another job holds is parked, so that
-- pending lists hold nothing that waits for something else. What is pending was given out before, and is again: its
-- job holds its lane, or has ended and its entry is to be finished.
if redis.call('HGET', KEYS[1], 'token') ~= ARGV[1] then return 0 end
local consumer, count, pending = ARGV[2], tonumber(ARGV[3]), ARGV[4] == 'pending'
local FIRST, PARK_AT_MOST = 5, 200
local entries, given, ids, parked = {}, 0, {}, 0

-- Whether another job holds the lane of an entry; if none does, this one holds it from now on.
local function has_to_wait(fields)
  local job, due, lane = string.match(fields[2], '^(%S+) %S+ (%-?%d+%.?%d*) (%S+)')
  if not lane or lane == '-' then return false end
  local holder, by = string.match(redis.call('HGET', KEYS[2], lane) or '', '^(%S+) (%S+)$')
  if holder and holder ~= job then return true end
  -- An entry that a cancellation left behind may come up after that of a retry: the later one is what it is held by.
  if not holder or tonumber(by) < tonumber(due) then redis.call('HSET', KEYS[2], lane, job .. ' ' .. due) end
  return false
end

local function give(stream, entry)
  local text = entry[2][2]
  local job = string.match(text, '^%S+')
  entries[#entries + 1] = stream .. '\n' .. entry[1] .. '\n' .. text
  entries[#entries + 1] = job and redis.call('GET', KEYS[4] .. job) or ''
  given = given + 1
end

local function park(key, id, fields)
  local text = fields[2]
  redis.call('RPUSH', KEYS[3] .. ':' .. string.match(text, '^%S+ %S+ %S+ (%S+)'), text)
  redis.call('XACK', key, 'lane', id)
  redis.call('XDEL', key, id)
  parked = parked + 1
end

local function read(key, left, after)
  local reply = redis.call('XREADGROUP', 'GROUP', 'lane', consumer, 'COUNT', left, 'STREAMS', key, after)
  return reply and reply[1] and reply[1][2] or {}
end

for i = FIRST, #KEYS do
  local key, stream = KEYS[i], i - FIRST + 1
  if pending then
    redis.pcall('XGROUP', 'CREATE', key, 'lane', '0', 'MKSTREAM')
    local left, after = count - given, ARGV[4 + stream]
    ids[stream] = after
    if left > 0 and after ~= '' then
      local found = read(key, left, after)
      for _, entry in ipairs(found) do
        ids[stream] = entry[1]
        if entry[2] then
          give(stream, entry)
        else
          redis.call('XACK', key, 'lane', entry[1])
        end
      end
      if #found < left then ids[stream] = '' end
    end
  else
    local left = count - given
    while left > 0 and parked < PARK_AT_MOST do
      local found = read(key, left, '>')
      for _, entry in ipairs(found) do
        if has_to_wait(entry[2]) then
          park(key, entry[1], entry[2])
        else
          give(stream, entry)
        end
        ids[stream] = entry[1]
      end
      if #found < left then break end
      left = count - given
    end
  end
end

if pending then return { entries, ids } end
if given >= count or parked >= PARK_AT_MOST then return { entries, {} } end
for i = FIRST, #KEYS do
  local stream = i - FIRST + 1
  if given == 0 and parked == 0 then
    local info = redis.call('XINFO', 'STREAM', KEYS[i])
    for f = 1, #info, 2 do
      if info[f] == 'last-generated-id' then ids[stream] = info[f + 1] end
    end
  end
  ids[stream] = ids[stream] or ''
end
return { entries, ids }
