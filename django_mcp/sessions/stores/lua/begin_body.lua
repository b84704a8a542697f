-- KEYS: call. ARGV: fence.
if not is_held(KEYS[1], ARGV[1]) then return false end
redis.call('HSET', KEYS[1], 'began', 1)
return true
