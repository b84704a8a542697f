-- Count again what the open post streams of a session hold. KEYS: outlet, streams, each of the streams.
-- ARGV: the life of the session, the names of the streams.
local named = {}
for place = 2, #ARGV do named[ARGV[place]] = KEYS[place + 1] end
local bytes = 0
for _, name in ipairs(redis.call('ZRANGE', KEYS[2], 0, -1)) do
  if not named[name] then return false end
end
for _, stream in pairs(named) do
  local row = open_stream(stream)
  if row and row.is_post then bytes = bytes + row.size end
end
hold_outlet(KEYS[1], tonumber(ARGV[1]))
local before = tonumber(redis.call('HGET', KEYS[1], 'bytes'))
redis.call('HSET', KEYS[1], 'bytes', whole(bytes))
return before - bytes
