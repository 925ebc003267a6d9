-- Appends to one partition's log, with all that must happen beside it. Several commits may travel in one call; each
-- is all or nothing, and has a result of its own. A later one sees what an earlier one did.
--
-- The body is loaded twice, headed `#!lua` for commands and `#!lua flags=allow-oom` for completions: Redis decides by
-- the header, before anything runs, whether the call may start while memory is short.
--
-- KEYS  1 meta, 2 log, then for each commit in order:
--         lease (only with a token), claim,
--         state of each append, stream of each work entry, timers and timers:work (only with timers),
--         stream of each finished entry
-- ARGV  1 store id, 2 epoch, 3 run id of the server that this connection speaks to, 4 number of commits,
--       then for each commit:
--         number of its KEYS, number of its ARGV after these two
--         lease token ('': acts for no group)
--         claim: fingerprint (no spaces), answer, retention in ms
--         number of appends; each: stream id, expected version ('-': minted), seq up to which absence was
--           proven ('-': was not), '<fold> <state JSON>', number of events; each: id, type, data, meta
--         number of work entries; each: job id, type, due in ms, traceparent
--         number of timers; each: job id, due in ms, '<queue> <priority> <type> <due> <traceparent>'
--         number of finished entries; each: entry id
--
-- Returns two items for each commit:
--   0, seq of its last event (without events: of the partition)   committed
--   1, '<epoch> <seq> <answer>'                                    replayed: claimed before, same fingerprint
--   2, 0                                                           claim reused with another fingerprint
--   3, index of the append, from 0                                 conflict
--   4, 0                                                           lease lost
-- Errors, nothing done: FENCED (store id, epoch or run id differ), OOM, NOSCRIPT.

local call, find, match = redis.call, string.find, string.match
local KEYS, ARGV = KEYS, ARGV

local meta = call('HMGET', KEYS[1], 'store', 'epoch', 'run', 'seq', 'recovery', 'evicted')
if meta[1] ~= ARGV[1] or meta[2] ~= ARGV[2] or meta[3] ~= ARGV[3] then
  return redis.error_reply('FENCED this partition trusts another store, epoch or server')
end
local log, epoch, recovery = KEYS[2], meta[2], meta[5]
local seq, evicted = tonumber(meta[4]), tonumber(meta[6])
local first_seq = seq
local out, o = {}, 0
local k, a = 3, 5

-- Version of a stream by its state in Redis; nil: unknown. A state from before the last recovery says nothing.
local function current(key)
  local head = call('GETRANGE', key, 0, 47)
  if head == '' then return nil end
  local version, of = match(head, '^(%d+) %d+ (%d+) ')
  if of ~= recovery then return nil end
  return tonumber(version)
end

for _ = 1, tonumber(ARGV[4]) do
  local next_k, next_a = k + ARGV[a], a + 2 + ARGV[a + 1]
  a = a + 2
  local code, value = 0, 0

  local token = ARGV[a]
  if token ~= '' then
    if call('HGET', KEYS[k], 'token') ~= token then code = 4 end
    k = k + 1
  end

  local claim_key, fingerprint, answer, retention = KEYS[k], ARGV[a + 1], ARGV[a + 2], ARGV[a + 3]
  k, a = k + 1, a + 4
  if code == 0 then
    local claim = call('GET', claim_key)
    if claim then
      local space = find(claim, ' ', 1, true)
      if string.sub(claim, 1, space - 1) == fingerprint then
        code, value = 1, string.sub(claim, space + 1)
      else
        code = 2
      end
    end
  end

  local appends = tonumber(ARGV[a])
  a = a + 1
  local start_k, start_a = k, a
  local versions = {}
  if code == 0 then
    for i = 1, appends do
      local expected, scanned = ARGV[a + 1], ARGV[a + 2]
      local version = current(KEYS[k])
      if version == nil then
        if expected == '-' then
          version = 0
        elseif scanned ~= '-' and tonumber(scanned) >= evicted then
          version = tonumber(expected)
        end
      elseif expected == '-' or tonumber(expected) ~= version then
        version = nil
      end
      if version == nil then
        code, value = 3, i - 1
        break
      end
      versions[i] = version
      k, a = k + 1, a + 5 + 4 * ARGV[a + 4]
    end
  end

  if code == 0 then
    -- The first write is an XADD: where memory is short, Redis refuses it with nothing done.
    k, a = start_k, start_a
    local last_seqs = {}
    for i = 1, appends do
      local stream, version, events = ARGV[a], versions[i], tonumber(ARGV[a + 4])
      a = a + 5
      for _ = 1, events do
        seq, version = seq + 1, version + 1
        call('XADD', log, epoch .. '-' .. seq, 'i', ARGV[a], 's', stream, 'v', version,
          't', ARGV[a + 1], 'd', ARGV[a + 2], 'm', ARGV[a + 3])
        a = a + 4
      end
      versions[i], last_seqs[i] = version, seq
    end

    local after = a
    a = start_a
    for i = 1, appends do
      call('SET', KEYS[k], versions[i] .. ' ' .. last_seqs[i] .. ' ' .. recovery .. ' ' .. ARGV[a + 3])
      k, a = k + 1, a + 5 + 4 * ARGV[a + 4]
    end
    a = after

    local work = tonumber(ARGV[a])
    a = a + 1
    for _ = 1, work do
      call('XADD', KEYS[k], '*', 'j', ARGV[a], 't', ARGV[a + 1], 'at', ARGV[a + 2], 'tp', ARGV[a + 3])
      k, a = k + 1, a + 4
    end

    local timers = tonumber(ARGV[a])
    a = a + 1
    for _ = 1, timers do
      call('ZADD', KEYS[k], ARGV[a + 1], ARGV[a])
      call('HSET', KEYS[k + 1], ARGV[a], ARGV[a + 2])
      a = a + 3
    end
    if timers > 0 then k = k + 2 end

    local finished = tonumber(ARGV[a])
    a = a + 1
    for _ = 1, finished do
      call('XACK', KEYS[k], 'lane', ARGV[a])
      call('XDEL', KEYS[k], ARGV[a])
      k, a = k + 1, a + 1
    end

    call('SET', claim_key, fingerprint .. ' ' .. epoch .. ' ' .. seq .. ' ' .. answer, 'PX', retention)
    value = seq
  end

  out[o + 1], out[o + 2] = code, value
  o = o + 2
  k, a = next_k, next_a
end

if seq > first_seq then call('HSET', KEYS[1], 'seq', seq) end
return out
