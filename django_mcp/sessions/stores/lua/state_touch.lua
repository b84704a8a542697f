-- ARGV: when the index recorded the use, '1' where it knows of more than generation 0, milliseconds of the record, of
-- the blobs. Returns whether the blobs have to live longer.
local at, foreseen, life, blob_life = unpack(ARGV)
local found = record()
if closed(found) then return false end
if tonumber(found.touched) < tonumber(at) then redis.call('HSET', RECORD, 'touched', at) end
if foreseen == '1' then redis.call('HSET', RECORD, 'foreseen', '1') end
redis.call('HDEL', RECORD, 'garbage')
live(life, RECORD, LINES, MANIFESTS, NOTES)
if life == '' then
  live(life, MEMBERS)
elseif redis.call('PTTL', MEMBERS) < tonumber(life) then
  live(life, MEMBERS)
end
if blob_life == '' or redis.call('ZCARD', BLOBS) == 0 then return false end
return tonumber(redis.call('HGET', SPAN, 'reached') or '0') + 60000 < now + tonumber(blob_life)
