-- KEYS: results, result. ARGV: its name, when it was made in microseconds, when it goes, then its fields and what they
-- hold.
local left = tonumber(ARGV[3]) - now
if left <= 0 or redis.call('EXISTS', KEYS[2]) == 1 then return false end
for place = 4, #ARGV, 2 do redis.call('HSET', KEYS[2], ARGV[place], ARGV[place + 1]) end
redis.call('PEXPIRE', KEYS[2], left)
redis.call('ZADD', KEYS[1], ARGV[2], ARGV[1])
if redis.call('PTTL', KEYS[1]) < left then redis.call('PEXPIRE', KEYS[1], left) end
return true
