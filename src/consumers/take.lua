#!lua
-- Takes work from the streams of one queue in one partition, under the lease. Never blocks.
-- KEYS[1]   lease:<group>
-- KEYS[2…]  work streams, in the order in which they are to be emptied
-- ARGV[1]   fencing token
-- ARGV[2]   consumer: one fixed name per partition, so that a new owner finds what the old one had
-- ARGV[3]   how many entries at most
-- ARGV[4]   'new' | 'pending'
-- ARGV[5…]  'pending' only: for each stream, the id after which to go on in the pending list
-- Returns   0 the lease is not ours
--           {entries {stream, from 1; id; fields}, ids}
--           ids: 'new': the last id of each stream, as of this moment, when nothing was taken, else empty
--                'pending': for each stream the id to go on after; '' at the end of its pending list
-- A pending entry without fields was removed by a commit: it is acked here and never given out.
if redis.call('HGET', KEYS[1], 'token') ~= ARGV[1] then return 0 end
local consumer, count, pending = ARGV[2], tonumber(ARGV[3]), ARGV[4] == 'pending'
local entries, ids = {}, {}

for i = 2, #KEYS do
  local key, left = KEYS[i], count - #entries
  if pending then
    redis.pcall('XGROUP', 'CREATE', key, 'lane', '0', 'MKSTREAM')
  end
  local after = pending and ARGV[3 + i] or '>'
  ids[i - 1] = after
  if left > 0 and after ~= '' then
    local reply = redis.call('XREADGROUP', 'GROUP', 'lane', consumer, 'COUNT', left, 'STREAMS', key, after)
    local found = reply and reply[1] and reply[1][2] or {}
    for _, entry in ipairs(found) do
      ids[i - 1] = entry[1]
      if entry[2] then
        entries[#entries + 1] = { i - 1, entry[1], entry[2] }
      else
        redis.call('XACK', key, 'lane', entry[1])
      end
    end
    if pending and #found < left then ids[i - 1] = '' end
  end
end

if not pending then
  ids = {}
  if #entries == 0 then
    for i = 2, #KEYS do
      local info = redis.call('XINFO', 'STREAM', KEYS[i])
      for f = 1, #info, 2 do
        if info[f] == 'last-generated-id' then ids[i - 1] = info[f + 1] end
      end
    end
  end
end
return { entries, ids }
