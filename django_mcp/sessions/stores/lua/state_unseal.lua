-- ARGV: the departure.
if redis.call('HGET', RECORD, 'moving') == ARGV[1] then redis.call('HDEL', RECORD, 'moving') end
return true
