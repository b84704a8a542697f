-- Answer or withdraw those questions that wait, and return how many did. KEYS: waiting, questions.
-- ARGV: the state they go into, the answer, their ids.
local count = 0
for place = 2, #KEYS do
  local found = redis.call('HMGET', KEYS[place], 'epoch', 'state', 'expires')
  if found[1] == epoch and found[2] == 'waiting' and tonumber(found[3]) > now then
    redis.call('HSET', KEYS[place], 'state', ARGV[1], 'answer', ARGV[2])
    redis.call('ZREM', KEYS[1], ARGV[place + 1])
    count = count + 1
  end
end
return count
