-- Appends to one partition's log, with all that must happen beside it. Several commits may travel in one call; each
-- is all or nothing, and has a result of its own. A later one sees what an earlier one did. Callers number their
-- calls and send the next only when they know about the last: a call that is sent again after a lost reply gets the
-- reply of the first, and one that arrives late, after its successor, does nothing.
--
-- The body is loaded twice, headed `#!lua` for commands and `#!lua flags=allow-oom` for completions: Redis decides by
-- the header, before anything runs, whether the call may start while memory is short.
--
-- KEYS  1 meta, 2 log, 3 the caller's last call, then for each commit in order:
--         lease (with a lease), cursor (with a cursor), claim (with a claim), state of each append,
--         ticks (only with ticks), stream of each work entry,
--         timers and timers:work (only with keyed work) and the stream of each keyed entry,
--         timers and timers:work (only with timers), the same (only with timers taken away), stream of each
--         finished entry, blocked, parked and stream of each lane that is freed
-- ARGV  1 store id, 2 epoch, 3 run id of the server that this connection speaks to,
--       4 number of this call, 5 how long it is remembered, in ms, 6 number of commits, then for each commit:
--         number of its KEYS, number of its ARGV after these two
--         shape: letters for the parts it has: l lease, u cursor, c claim, s ticks of
--         schedules, w work, k work with an ordering key, t timers, x timers taken away, f finished, r lanes freed
--         l: lease token
--         u: where a reactor's cursor must be ('': nowhere yet), where it is to be
--         c: fingerprint (no spaces), answer, retention in ms
--         number of appends; each: expected version ('-': minted), seq up to which absence was
--           proven ('-': was not), version after, '<fold> <state JSON>', number of events;
--           each: its text, as a log entry has it
--         s: number of schedules; each: schedule id, its next tick in ms ('-': it has none any more)
--         w: number of work entries; each: '<job id> <type> <due> <lane> <traceparent>', as a work entry has it
--         k: number of keyed entries; each: job id, '<queue> <priority>', '<type> <due> <lane> <traceparent>'
--         t: number of timers; each: job id, due in ms, '<queue> <priority> <type> <due> <lane> <traceparent>'
--         x: number of timers taken away; each: job id
--         f: number of finished entries; each: entry id
--         r: number of lanes; each: lane, job id, due of the entry by which it must be held ('': by any)
--
-- Keyed work is not added while a timer of the partition is due that nobody has promoted yet: it may be of its lane,
-- and became due first. It becomes a timer then, behind all those: one look, however many they are.
--
-- Returns the epoch, then two items for each commit:
--   0, seq of its last event (without events: of the partition)   committed
--   1, '<epoch> <seq> <answer>'                                    replayed: claimed before, same fingerprint
--   2, 0                                                           claim reused with another fingerprint
--   3, index of the append, from 0                                 conflict
--   4, 0                                                           lease lost, or the cursor is elsewhere
-- Errors, nothing done: FENCED (store id, epoch or run id differ), STALE (a later call was here), OOM, NOSCRIPT.

local call, find, match, sub, format = redis.call, string.find, string.match, string.sub, string.format
local KEYS, ARGV = KEYS, ARGV

-- Timers of one time are promoted in the order of their positions. A job has one timer at most.
local function take_timer_away(timers, work, job)
  local old = call('HGET', work, job)
  if old then
    call('ZREM', timers, sub(old, 1, 14) .. ' ' .. job)
    call('HDEL', work, job)
  end
end
local function set_timer(timers, work, position, due, job, line)
  take_timer_away(timers, work, job)
  local at = format('%014d', position)
  call('ZADD', timers, due, at .. ' ' .. job)
  call('HSET', work, job, at .. ' ' .. line)
end
-- Now, if a timer is due that was not promoted yet.
local function overdue(timers)
  local first = call('ZRANGE', timers, 0, 0, 'WITHSCORES')
  if not first[2] then return false end
  local time = call('TIME')
  local now = time[1] * 1000 + math.floor(time[2] / 1000)
  return tonumber(first[2]) <= now and now
end

local meta = call('HMGET', KEYS[1], 'store', 'epoch', 'run', 'seq', 'recovery', 'evicted')
if meta[1] ~= ARGV[1] or meta[2] ~= ARGV[2] or meta[3] ~= ARGV[3] then
  return redis.error_reply('FENCED this partition trusts another store, epoch or server')
end
local last = call('GET', KEYS[3])
if last then
  local space = find(last, ' ', 1, true)
  local number = sub(last, 1, space - 1)
  if number == ARGV[4] then return cmsgpack.unpack(sub(last, space + 1)) end
  if tonumber(number) > tonumber(ARGV[4]) then return redis.error_reply('STALE a later call was here') end
end

local log, epoch, recovery = KEYS[2], meta[2], meta[5]
local seq, evicted = tonumber(meta[4]), tonumber(meta[6])
local first_seq, wrote = seq, false
local out, o = { tonumber(epoch) }, 1
local k, a = 4, 7
-- Texts of the last seq of each append. Numbers become text once: that costs as much as a lookup.
local last_seqs, text = {}, meta[4]
-- Entries that are finished, by stream: a call for each would cost as much as an event.
local done = {}
-- Of leases, by key: commits of a call have few.
local tokens = {}

for _ = 1, ARGV[6] do
  local next_k, next_a = k + ARGV[a], a + 2 + ARGV[a + 1]
  local shape = ARGV[a + 2]
  local plain = shape == ''
  a = a + 3
  local code, value = 0, 0

  if not plain and find(shape, 'l', 1, true) then
    local lease = KEYS[k]
    tokens[lease] = tokens[lease] or call('HGET', lease, 'token')
    if tokens[lease] ~= ARGV[a] then code = 4 end
    k, a = k + 1, a + 1
  end

  local cursor_key, cursor_to
  if not plain and find(shape, 'u', 1, true) then
    cursor_key, cursor_to = KEYS[k], ARGV[a + 1]
    if (call('GET', cursor_key) or '') ~= ARGV[a] then code = 4 end
    k, a = k + 1, a + 2
  end

  local claim_key, claim_a
  if not plain and find(shape, 'c', 1, true) then
    claim_key, claim_a = KEYS[k], a
    k, a = k + 1, a + 3
    local claim = code == 0 and call('GET', claim_key)
    if claim then
      local space = find(claim, ' ', 1, true)
      if sub(claim, 1, space - 1) == ARGV[claim_a] then
        code, value = 1, sub(claim, space + 1)
      else
        code = 2
      end
    end
  end

  local appends = tonumber(ARGV[a])
  a = a + 1
  local start_k, start_a = k, a
  if code == 0 then
    for i = 1, appends do
      local expected, scanned = ARGV[a], ARGV[a + 1]
      -- A state from before the last recovery says nothing: then the version is unknown, never 0.
      local version, of
      -- As texts: numbers are printed as floats for each call.
      local head = call('GETRANGE', KEYS[k], '0', '47')
      if head ~= '' then version, of = match(head, '^(%d+) %d+ (%d+) ') end
      local right
      if of == recovery then
        right = version == expected
      else
        right = expected == '-' or (scanned ~= '-' and tonumber(scanned) >= evicted)
      end
      if not right then
        code, value = 3, i - 1
        break
      end
      k, a = k + 1, a + 5 + ARGV[a + 4]
    end
  end

  if code == 0 then
    -- The first write is an XADD: where memory is short, Redis refuses it with nothing done.
    wrote = true
    k, a = start_k, start_a
    for i = 1, appends do
      local events = ARGV[a + 4]
      a = a + 5
      for _ = 1, events do
        seq = seq + 1
        text = seq .. ''
        call('XADD', log, epoch .. '-' .. text, 'e', ARGV[a])
        a = a + 1
      end
      last_seqs[i] = text
    end

    local after = a
    a = start_a
    for i = 1, appends do
      call('SET', KEYS[k], ARGV[a + 2] .. ' ' .. last_seqs[i] .. ' ' .. recovery .. ' ' .. ARGV[a + 3])
      k, a = k + 1, a + 5 + ARGV[a + 4]
    end
    a = after

    if not plain then
      if find(shape, 's', 1, true) then
        local schedules = ARGV[a]
        a = a + 1
        for _ = 1, schedules do
          if ARGV[a + 1] == '-' then
            call('ZREM', KEYS[k], ARGV[a])
          else
            call('ZADD', KEYS[k], ARGV[a + 1], ARGV[a])
          end
          a = a + 2
        end
        k = k + 1
      end
      if find(shape, 'w', 1, true) then
        local work = ARGV[a]
        a = a + 1
        for _ = 1, work do
          call('XADD', KEYS[k], '*', 'w', ARGV[a])
          k, a = k + 1, a + 1
        end
      end
      if find(shape, 'k', 1, true) then
        local timers, timer_work, work = KEYS[k], KEYS[k + 1], tonumber(ARGV[a])
        k, a = k + 2, a + 1
        local now = overdue(timers)
        for i = 1, work do
          if now then
            set_timer(timers, timer_work, seq - work + i, now, ARGV[a], ARGV[a + 1] .. ' ' .. ARGV[a + 2])
          else
            call('XADD', KEYS[k], '*', 'w', ARGV[a] .. ' ' .. ARGV[a + 2])
          end
          k, a = k + 1, a + 3
        end
      end
      if find(shape, 't', 1, true) then
        local timers = tonumber(ARGV[a])
        a = a + 1
        for i = 1, timers do
          set_timer(KEYS[k], KEYS[k + 1], seq - timers + i, ARGV[a + 1], ARGV[a], ARGV[a + 2])
          a = a + 3
        end
        k = k + 2
      end
      if find(shape, 'x', 1, true) then
        local away = ARGV[a]
        a = a + 1
        for _ = 1, away do
          take_timer_away(KEYS[k], KEYS[k + 1], ARGV[a])
          a = a + 1
        end
        k = k + 2
      end
      if find(shape, 'f', 1, true) then
        local finished = ARGV[a]
        a = a + 1
        for _ = 1, finished do
          local entries = done[KEYS[k]]
          if entries then
            entries[#entries + 1] = ARGV[a]
          else
            done[KEYS[k]] = { ARGV[a] }
          end
          k, a = k + 1, a + 1
        end
      end
      if find(shape, 'r', 1, true) then
        local lanes = ARGV[a]
        a = a + 1
        for _ = 1, lanes do
          local lane, job, due = ARGV[a], ARGV[a + 1], ARGV[a + 2]
          local held_by, by = match(call('HGET', KEYS[k], lane) or '', '^(%S+) (%S+)$')
          if held_by == job and (due == '' or due == by) then
            -- Who is next holds the lane from now on, or one that was not parked yet could take it first.
            local next = call('LPOP', KEYS[k + 1])
            if next then
              local id, at = match(next, '^(%S+) %S+ (%S+)')
              call('HSET', KEYS[k], lane, id .. ' ' .. at)
              call('XADD', KEYS[k + 2], '*', 'w', next)
            else
              call('HDEL', KEYS[k], lane)
            end
          end
          k, a = k + 3, a + 3
        end
      end
      if cursor_key then call('SET', cursor_key, cursor_to) end
      if claim_key then
        call('SET', claim_key, ARGV[claim_a] .. ' ' .. epoch .. ' ' .. text .. ' ' .. ARGV[claim_a + 1],
          'PX', ARGV[claim_a + 2])
      end
    end
    value = seq
  end

  out[o + 1], out[o + 2] = code, value
  o = o + 2
  k, a = next_k, next_a
end

for stream, entries in pairs(done) do
  call('XACK', stream, 'lane', unpack(entries))
  call('XDEL', stream, unpack(entries))
end
if wrote then
  if seq > first_seq then call('HSET', KEYS[1], 'seq', text) end
  call('SET', KEYS[3], ARGV[4] .. ' ' .. cmsgpack.pack(out), 'PX', ARGV[5])
end
return out
