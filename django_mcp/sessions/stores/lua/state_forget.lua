-- ARGV: id, '1' where nothing is to be deleted. Returns how many generations it had.
local found = record()
if found and not found.ended then return 0 end
local count = redis.call('HLEN', LINES)
if ARGV[2] == '1' then return count end
redis.call('DEL', RECORD, LINES, MANIFESTS, NOTES)
redis.call('SREM', MEMBERS, ARGV[1])
if redis.call('EXISTS', MEMBERS) == 0 and redis.call('EXISTS', BLOBS) == 0 then redis.call('DEL', SPAN) end
return count
