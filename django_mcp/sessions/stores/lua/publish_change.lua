-- KEYS: sequence, changes. ARGV: kind, URI, for how long changes are kept, life of the sequence, how many at most,
-- server.
local last = hold_sequence(KEYS[1], KEYS[2], ARGV[6], tonumber(ARGV[4]))
local number = last + 1
redis.call('XADD', KEYS[2], '0-' .. whole(number), 't', now, 'k', ARGV[1], 'u', ARGV[2])
keep(KEYS[2], tonumber(ARGV[4]))
redis.call('HSET', KEYS[1], 'last', whole(number))
local floor, oldest, over = nil, now - tonumber(ARGV[3]), redis.call('XLEN', KEYS[2]) - tonumber(ARGV[5])
for place, entry in ipairs(redis.call('XRANGE', KEYS[2], '-', '+', 'COUNT', 500)) do
  local its = tonumber(string.match(entry[1], '%d+$'))
  if its == number or (tonumber(entry[2][2]) > oldest and place > over) then break end
  floor = its
end
if floor then
  redis.call('XTRIM', KEYS[2], 'MINID', '=', '0-' .. whole(floor + 1))
  redis.call('HSET', KEYS[1], 'floor', whole(floor))
end
return true
