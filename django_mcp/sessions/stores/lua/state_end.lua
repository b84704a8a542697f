-- ARGV: milliseconds that an ended record lives.
if redis.call('EXISTS', RECORD) == 0 then return false end
redis.call('HSET', RECORD, 'ended', '1')
for _, key in ipairs({RECORD, LINES, MANIFESTS, NOTES}) do
  local left = redis.call('PTTL', key)
  if left == -1 or left > tonumber(ARGV[1]) then redis.call('PEXPIRE', key, ARGV[1]) end
end
return true
