-- KEYS: stream, events. Return the fields of the stream, when it goes and its events; false where there is none.
local found = redis.call('HMGET', KEYS[1], 'epoch', 'kind', 'open', 'first', 'last', 'reader', 'kept')
if found[1] ~= epoch then return false end
local events = redis.call('XRANGE', KEYS[2], '-', '+')
if #events < found[5] - found[4] + 1 then return false end
return {found, whole(now + redis.call('PTTL', KEYS[1])), events}
