-- KEYS: sequence, changes. ARGV: cursor or nothing, how many at most, life of the sequence, server.
-- Return the last number, whether what is behind the cursor is kept, and it. It may be sent again: what it begins is
-- begun once.
local last = hold_sequence(KEYS[1], KEYS[2], ARGV[4], tonumber(ARGV[3]))
if ARGV[1] == '' then return {last, true, {}} end
local cursor, floor = tonumber(ARGV[1]), tonumber(redis.call('HGET', KEYS[1], 'floor'))
if cursor < floor or cursor > last then return {last, false, {}} end
return {last, true, redis.call('XRANGE', KEYS[2], '0-' .. whole(cursor + 1), '+', 'COUNT', ARGV[2])}
