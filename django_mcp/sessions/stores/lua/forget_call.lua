-- Delete a call that runs, and leave its stream open. KEYS: call, calls, running, requests, stream. ARGV: id, fence.
if not is_held(KEYS[1], ARGV[2]) then return false end
local named = redis.call('HGET', KEYS[1], 'named')
redis.call('DEL', KEYS[1])
redis.call('ZREM', KEYS[2], ARGV[1])
redis.call('ZREM', KEYS[3], ARGV[1])
if string.match(redis.call('HGET', KEYS[4], named) or '', '%S+$') == ARGV[1] then redis.call('HDEL', KEYS[4], named) end
if open_stream(KEYS[5]) then redis.call('HINCRBY', KEYS[5], 'calls', -1) end
return true
