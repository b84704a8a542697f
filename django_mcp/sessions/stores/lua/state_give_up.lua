-- ARGV: what is moving.
local found = record()
if not found or found.ended then return true end
if found.moving ~= ARGV[1] then return false end
redis.call('HSET', RECORD, 'ended', '1')
return true
