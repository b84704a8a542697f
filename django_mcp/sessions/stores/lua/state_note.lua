-- ARGV: the call, how many are kept, when it was, or ''.
local found = record()
local why = closed(found)
if why and not (why == 'moving' and string.sub(found.moving, 1, 1) == 'l') then return false end
local order = redis.call('HINCRBY', RECORD, 'order', 1)
local created = ARGV[3] ~= '' and ARGV[3] or digits(now)
redis.call('LPUSH', NOTES, table.concat({created, digits(order), ARGV[1]}, ' '))
redis.call('LTRIM', NOTES, 0, tonumber(ARGV[2]) - 1)
local left = redis.call('PTTL', RECORD)
if left > 0 then redis.call('PEXPIRE', NOTES, left) end
return true
