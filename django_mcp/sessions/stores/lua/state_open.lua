-- ARGV: the arrival.
local found = record()
if found and found.moving == ARGV[1] then
  redis.call('HDEL', RECORD, 'moving')
  redis.call('HSET', RECORD, 'epoch', epoch)
end
return true
