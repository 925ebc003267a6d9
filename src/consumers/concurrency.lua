#!lua flags=allow-oom
-- Slots of a concurrency limit, which run out unless they are renewed: none is lost with the process that had it. By
-- Redis' clock. Who is granted one while waiting is told by the caller.
-- KEYS[1]  slots:<name>, zset: job → when its slot runs out, in ms
-- KEYS[2]  slots:<name>:runs, hash: job → the run that has taken its slot; none as long as it is only granted
-- KEYS[3]  slots:<name>:waiting, zset: '<limit> <job>', in the order in which they came
-- ARGV[1]  'try': take a slot · 'wait': or wait for one · 'enlist': be granted one, or wait, to take it later
--          'renew' · 'release': give the slot back, or wait no more
-- ARGV[2]  job   ARGV[3]  run; to 'release' a slot that was only granted: ''
-- ARGV[4]  limit, as this job has it   ARGV[5]  how long a slot lasts, in ms
-- Returns  {1 the job has a slot, else 0; how many wait before it; jobs that were granted one}
--
-- A job that has a slot gets it again: its run before ended without a word, or it was granted while the job waited.
local call = redis.call
local SLOTS, RUNS, WAITING = KEYS[1], KEYS[2], KEYS[3]
local mode, job, run, limit, lasts = ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[4]), tonumber(ARGV[5])
local WAITING_LASTS = 900000
local time = call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local place = ARGV[4] .. ' ' .. job
local acquires = mode == 'try' or mode == 'wait' or mode == 'enlist'

for _, gone in ipairs(call('ZRANGEBYSCORE', SLOTS, '-inf', now)) do
  call('ZREM', SLOTS, gone)
  call('HDEL', RUNS, gone)
end

local has, granted = false, {}
if mode == 'renew' then
  -- One that ran out, as while Redis was away, counts again: the job runs, whatever the limit says.
  local by = call('HGET', RUNS, job)
  has = not by or by == run
elseif mode == 'release' then
  if (call('HGET', RUNS, job) or '') == run then
    call('ZREM', SLOTS, job)
    call('HDEL', RUNS, job)
  end
  call('ZREM', WAITING, place)
else
  has = call('ZSCORE', SLOTS, job) and true
end

-- Who came first is first, also where a later one's limit would leave room.
while true do
  local first = call('ZRANGE', WAITING, 0, 0)[1]
  if not first then break end
  local its_limit, its_job = string.match(first, '^(%d+) (.+)$')
  if first ~= place or not has then
    if call('ZCARD', SLOTS) >= tonumber(its_limit) then break end
    call('ZADD', SLOTS, now + lasts, its_job)
    if acquires and its_job == job then has = true else granted[#granted + 1] = its_job end
  end
  call('ZREM', WAITING, first)
end

if acquires and not has and call('ZCARD', WAITING) == 0 and call('ZCARD', SLOTS) < limit then has = true end
local ahead = 0
if has then
  call('ZADD', SLOTS, now + lasts, job)
  if mode ~= 'enlist' then call('HSET', RUNS, job, run) end
  call('ZREM', WAITING, place)
elseif acquires then
  if mode ~= 'try' and not call('ZSCORE', WAITING, place) then
    local last = call('ZRANGE', WAITING, -1, -1, 'WITHSCORES')[2] or 0
    call('ZADD', WAITING, last + 1, place)
  end
  ahead = call('ZRANK', WAITING, place) or call('ZCARD', WAITING)
end
call('PEXPIRE', SLOTS, 2 * lasts)
call('PEXPIRE', RUNS, 2 * lasts)
call('PEXPIRE', WAITING, WAITING_LASTS)
return { has and 1 or 0, ahead, granted }
