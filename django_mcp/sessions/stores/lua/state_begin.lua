-- ARGV: id, identity, touched, milliseconds of the record.
if redis.call('EXISTS', RECORD) == 1 then return false end
redis.call('HSET', RECORD, 'identity', ARGV[2], 'generation', '0', 'revoked_up_to', '-1', 'revoked_tokens', '[]',
  'touched', ARGV[3], 'epoch', epoch)
live(ARGV[4], RECORD)
join(ARGV[1], ARGV[4])
return true
