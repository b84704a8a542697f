-- KEYS: call, calls, running, requests, stream, events, outlet.
-- ARGV: bounds, id, fence, state, for how long it is kept; "held", or "abandoned", whether it had begun and whether it
-- was to stop; the terminal event, if it has one.
local id, fence, state, kept = ARGV[6], ARGV[7], ARGV[8], tonumber(ARGV[9])
local mine = ARGV[10] == 'held' and is_held(KEYS[1], fence)
  or ARGV[10] == 'abandoned' and is_abandoned(KEYS[1], fence, ARGV[11], ARGV[12])
if not mine then return false end
local named = redis.call('HGET', KEYS[1], 'named')
redis.call('HSET', KEYS[1], 'state', state, 'ended', now, 'payload', '')
redis.call('PEXPIRE', KEYS[1], kept)
enlist(KEYS[2], id, kept)
redis.call('ZREM', KEYS[3], id)
if string.match(redis.call('HGET', KEYS[4], named) or '', '%S+$') == id then redis.call('HDEL', KEYS[4], named) end

local row = open_stream(KEYS[5])
if row then
  local limits, bodies, counted = bounds(), rest(13), row.size
  write_events(row, KEYS[6], bodies, limits, false)
  local is_last = redis.call('HINCRBY', row.key, 'calls', -1) <= 0
  if row.is_post then
    hold_outlet(KEYS[7], limits.life)
    redis.call('HINCRBY', KEYS[7], 'bytes', whole(is_last and -counted or row.size - counted))
    if is_last then close_stream(row, KEYS[6]) end
  end
end
return now
