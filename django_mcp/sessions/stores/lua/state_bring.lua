-- ARGV: id, milliseconds of the record, then numbers, lines and manifests in turns.
local found = record()
if found and not found.ended and not found.moving then return false end
for place = 3, #ARGV, 3 do
  redis.call('HSET', LINES, ARGV[place], ARGV[place + 1])
  redis.call('HSET', MANIFESTS, ARGV[place], ARGV[place + 2])
end
live(ARGV[2], LINES, MANIFESTS)
join(ARGV[1], ARGV[2])
return true
