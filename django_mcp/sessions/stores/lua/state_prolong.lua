-- ARGV: when the life of the blobs ends, '1' where these are the last of the family. Their keys follow the first seven.
-- Another prolongation may have come meanwhile, to a later time: what lives longer stays as it is.
local left = tonumber(ARGV[1]) - now
for place = 8, #KEYS do
  local life = redis.call('PTTL', KEYS[place])
  if life >= 0 and life < left then redis.call('PEXPIRE', KEYS[place], digits(left)) end
end
local reached = tonumber(redis.call('HGET', SPAN, 'reached') or '0')
if ARGV[2] == '1' and reached < tonumber(ARGV[1]) then redis.call('HSET', SPAN, 'reached', ARGV[1]) end
return true
