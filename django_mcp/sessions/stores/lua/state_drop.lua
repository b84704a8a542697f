-- ARGV: a time, digests, whose keys follow the first seven. Deletes those that are not younger; returns which.
local gone = {}
for place = 2, #ARGV do
  local touched = redis.call('ZSCORE', BLOBS, ARGV[place])
  if touched and tonumber(touched) <= tonumber(ARGV[1]) then
    redis.call('DEL', KEYS[6 + place])
    redis.call('ZREM', BLOBS, ARGV[place])
    gone[#gone + 1] = ARGV[place]
  end
end
if redis.call('EXISTS', MEMBERS) == 0 and redis.call('EXISTS', BLOBS) == 0 then redis.call('DEL', SPAN) end
return gone
