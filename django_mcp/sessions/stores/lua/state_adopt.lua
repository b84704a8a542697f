-- ARGV: the epoch that it was written in, and the one that it is sound in if that is the present one.
local found = record()
if found and found.epoch == ARGV[1] and epoch == ARGV[2] then redis.call('HSET', RECORD, 'epoch', epoch) end
return true
