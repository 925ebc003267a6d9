-- Takes tokens from a subject's bucket, which refills steadily by Redis' own clock: bursts up to its
-- capacity, and the refill rate in the long run. Several are refused only where not even one is left.
--
-- KEYS[1]  the subject's bucket: hash {tokens, at (microseconds)}
-- ARGV[1]  capacity
-- ARGV[2]  tokens per second
-- ARGV[3]  how many are taken; negative: given back
-- Returns  {1 allowed | 0 refused, whole tokens left,
--           milliseconds until the bucket is full (allowed) or holds one token again (refused)}
local capacity = tonumber(ARGV[1])
local rate = tonumber(ARGV[2])
local count = tonumber(ARGV[3])
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local kept = redis.call('HMGET', KEYS[1], 'tokens', 'at')
local tokens = capacity
if kept[1] then
  -- A clock that goes back (failover) must not drain the bucket.
  local elapsed = math.max(0, now - tonumber(kept[2]))
  tokens = math.min(capacity, tonumber(kept[1]) + elapsed * rate / 1000000)
end
local allowed = 0
local wait
if count < 0 or tokens >= 1 then
  allowed = 1
  tokens = math.max(0, math.min(capacity, tokens - count))
  wait = (capacity - tokens) / rate
else
  wait = (1 - tokens) / rate
end
redis.call('HSET', KEYS[1], 'tokens', string.format('%.6f', tokens), 'at', string.format('%.0f', now))
redis.call('PEXPIRE', KEYS[1], math.ceil((capacity - tokens) / rate * 1000) + 1000)
return { allowed, math.floor(tokens), math.ceil(wait * 1000) }
