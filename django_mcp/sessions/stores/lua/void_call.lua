-- Leave word that a call which was announced is not to come any more. KEYS: call. ARGV: for how long.
if redis.call('EXISTS', KEYS[1]) == 1 then return false end
redis.call('HSET', KEYS[1], 'epoch', epoch, 'state', 'void')
redis.call('PEXPIRE', KEYS[1], ARGV[1])
return true
