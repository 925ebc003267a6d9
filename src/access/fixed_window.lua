-- Counts takes of one subject in windows of fixed length, by Redis' own clock. A refused take is not counted;
-- one of several is refused only where nothing is left.
--
-- KEYS[1]  the subject's counter: hash {window, taken}
-- ARGV[1]  takes per window
-- ARGV[2]  length of a window, milliseconds
-- ARGV[3]  how many are taken; negative: given back
-- Returns  {1 allowed | 0 refused, takes left, milliseconds until the window ends}
local limit = tonumber(ARGV[1])
local length = tonumber(ARGV[2])
local count = tonumber(ARGV[3])
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local window = math.floor(now / length)
local ends = (window + 1) * length - now
local kept = redis.call('HMGET', KEYS[1], 'window', 'taken')
local taken = 0
if kept[1] and tonumber(kept[1]) == window then
  taken = tonumber(kept[2])
end
if count > 0 and taken >= limit then
  return { 0, 0, ends }
end
taken = math.max(0, math.min(limit, taken + count))
redis.call('HSET', KEYS[1], 'window', string.format('%.0f', window), 'taken', taken)
redis.call('PEXPIRE', KEYS[1], ends)
return { 1, limit - taken, ends }
