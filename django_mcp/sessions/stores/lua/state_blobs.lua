-- ARGV: digests, whose keys follow the first seven; none for a list of all. Returns the time, and of each the digest
-- (or the size, where digests were given) and when a commit last had it along.
if #ARGV == 0 then return {digits(now), redis.call('ZRANGE', BLOBS, 0, -1, 'WITHSCORES')} end
local sizes = {}
for place = 1, #ARGV do sizes[place] = redis.call('STRLEN', KEYS[7 + place]) end
return {digits(now), sizes}
