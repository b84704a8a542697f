-- KEYS: call.
local found = redis.call('HMGET', KEYS[1], 'epoch', 'state')
if found[1] ~= epoch or found[2] ~= 'running' then return false end
redis.call('HSET', KEYS[1], 'cancel', 1)
return true
