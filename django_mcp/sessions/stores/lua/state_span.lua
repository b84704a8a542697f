-- ARGV: milliseconds that the blobs of the family live from now, at the least. Returns when that is, and the digests.
local ends = math.max(tonumber(redis.call('HGET', SPAN, 'until') or '0'), now + tonumber(ARGV[1]))
redis.call('HSET', SPAN, 'until', digits(ends))
live(digits(ends - now), SPAN, BLOBS)
return {digits(ends), redis.call('ZRANGE', BLOBS, 0, -1)}
