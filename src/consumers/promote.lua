#!lua
-- Moves timers that are due to work, by Redis' clock, under the lease, in the order of their times and positions.
-- Refused by Redis while memory is short.
-- KEYS[1]  lease:<group>   KEYS[2]  timers, zset   KEYS[3]  timers:work, hash   KEYS[4…]  work streams
-- ARGV[1]  fencing token   ARGV[2]  how many at most   ARGV[3…]  '<queue> <priority>' of each work stream
-- Returns  0 the lease is not ours
--          {now in ms, ms until the next is due: 0 now, -1 there is none, how late each was that was moved, in ms}
-- A timer of a queue that this code doesn't know is left to code that does; it is looked at again in a minute, as
-- many of them would hide all others.
if redis.call('HGET', KEYS[1], 'token') ~= ARGV[1] then return 0 end
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local most, late, later = tonumber(ARGV[2]), {}, now + 60000
local streams = {}
for i = 4, #KEYS do streams[ARGV[i - 1]] = KEYS[i] end

local due_now = redis.call('ZRANGEBYSCORE', KEYS[2], '-inf', now, 'WITHSCORES', 'LIMIT', 0, most)
for i = 1, #due_now, 2 do
  local member = due_now[i]
  local job = string.sub(member, 16)
  local work = redis.call('HGET', KEYS[3], job)
  local goal, rest = string.match(work or '', '^%d+ (%S+ %S+) (%S+ %S+ %S+ ?%S*)$')
  local stream = goal and streams[goal]
  if stream then redis.call('XADD', stream, '*', 'w', job .. ' ' .. rest) end
  if stream or not goal then
    redis.call('ZREM', KEYS[2], member)
    redis.call('HDEL', KEYS[3], job)
    late[#late + 1] = now - due_now[i + 1]
  else
    redis.call('ZADD', KEYS[2], later, member)
  end
end

if #due_now == 2 * most then return { now, 0, late } end
local next = redis.call('ZRANGEBYSCORE', KEYS[2], '(' .. now, '+inf', 'WITHSCORES', 'LIMIT', 0, 1)
return { now, next[2] and math.max(1, next[2] - now) or -1, late }
