-- KEYS: outlet, streams, stream, events, and of what was taken for the session's newest itself and its events.
-- ARGV: name, kind, whether it is open, first, last, reader, kept, when it goes or nothing, life, life of the session,
-- name of what was taken for the newest, then the time and the body of each event.
local is_post, is_open = ARGV[2] == 'post', ARGV[3] == '1'
local first, last, kept, life, session_life = tonumber(ARGV[4]), tonumber(ARGV[5]), ARGV[7], tonumber(ARGV[9]), tonumber(ARGV[10])
local goes = tonumber(ARGV[8])
if not is_post then
  local newest = redis.call('HGET', KEYS[1], 'standalone') or ''
  if newest ~= ARGV[11] then return {0, newest} end
end
if goes and goes <= now then return {1, 0} end
local found = redis.call('HMGET', KEYS[3], 'epoch', 'open', 'last', 'size', 'calls')
local is_there, after, before = found[1] == epoch, 0, 0
if is_there then
  after, before = tonumber(found[3]), tonumber(found[4])
  if found[2] ~= '1' or tonumber(found[5]) > 0 or last < after or (last == after and is_open) then return {1, 0} end
  if after >= first then
    local id = '0-' .. whole(after)
    local its = redis.call('XRANGE', KEYS[4], id, id)[1]
    if not its or its[2][4] ~= ARGV[13 + 2 * (after - first)] then return {1, 0} end
  end
  redis.call('XTRIM', KEYS[4], 'MINID', '=', '0-' .. whole(first))
else
  redis.call('DEL', KEYS[3], KEYS[4])
  if is_open and not is_post and ARGV[11] ~= '' and open_stream(KEYS[5]) then
    is_open, goes = false, now + tonumber(kept)
    if goes <= now then return {1, 0} end
  end
end
local size = 0
for place = 12, #ARGV, 2 do
  local number = first + (place - 12) / 2
  size = size + #ARGV[place + 1]
  if number > after then
    redis.call('XADD', KEYS[4], '0-' .. whole(number), 't', ARGV[place], 'b', ARGV[place + 1])
  end
end
hold_outlet(KEYS[1], session_life)
redis.call('HSET', KEYS[3], 'first', whole(first), 'last', whole(last), 'size', whole(size), 'open', is_open and 1 or 0)
if not is_there then
  redis.call('HSET', KEYS[3], 'epoch', epoch, 'kind', ARGV[2], 'reader', ARGV[6], 'calls', 0, 'kept', kept, 'life', life)
  if is_open and not is_post then redis.call('HSET', KEYS[1], 'standalone', ARGV[1]) end
end
if is_post then redis.call('HINCRBY', KEYS[1], 'bytes', whole((is_open and size or 0) - before)) end
local left = is_open and life or goes - now
redis.call('PEXPIRE', KEYS[3], whole(left))
redis.call('PEXPIRE', KEYS[4], whole(left))
enlist(KEYS[2], ARGV[1], session_life)
return {1, 1}
