-- KEYS: calls, running, requests, stream, call. ARGV: id, life, digest of the request id, whether it runs, then its
-- fields and what they hold.
local state = redis.call('HGET', KEYS[5], 'state')
if state and state ~= 'void' then return false end
redis.call('DEL', KEYS[5])
local id, life, request = ARGV[1], tonumber(ARGV[2]), ARGV[3]
redis.call('HSET', KEYS[5], 'epoch', epoch, 'named', request)
for place = 5, #ARGV, 2 do redis.call('HSET', KEYS[5], ARGV[place], ARGV[place + 1]) end
redis.call('PEXPIRE', KEYS[5], life)
enlist(KEYS[1], id, life)
if ARGV[4] == '1' then
  enlist(KEYS[2], id, life)
  local named, its = string.match(redis.call('HGET', KEYS[3], request) or '', '^(%S+) (%S+)$')
  if named ~= epoch or not redis.call('ZSCORE', KEYS[2], its) then
    redis.call('HSET', KEYS[3], request, epoch .. ' ' .. id)
  end
  redis.call('PEXPIRE', KEYS[3], life)
  if redis.call('HGET', KEYS[4], 'epoch') == epoch then redis.call('HINCRBY', KEYS[4], 'calls', 1) end
end
return true
