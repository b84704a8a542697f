-- KEYS: stream, events. ARGV: the number from which on to read, how many at most.
-- A stream of which Redis has let go of events, since it had no room, is as if there were none.
local found = redis.call('HMGET', KEYS[1], 'epoch', 'first', 'last', 'open', 'reader')
if found[1] ~= epoch then return false end
local first, last = tonumber(found[2]), tonumber(found[3])
local events = redis.call('XRANGE', KEYS[2], '0-' .. ARGV[1], '+', 'COUNT', ARGV[2])
if #events < math.min(tonumber(ARGV[2]), last + 1 - math.max(tonumber(ARGV[1]), first)) then return false end
return {first, last, found[4] == '1', tonumber(found[5]), events}
