-- ARGV: base generation, manifest, address, call, milliseconds of a touch, history, milliseconds of the record, of the
-- blobs, then each blob's digest and body. The keys after the first seven are those of the blobs.
local base, manifest, address, call, touch, history, life, blob_life = unpack(ARGV, 1, 8)
local found = record()
local why = closed(found)
if why then return refused(why, found) end
if found.generation ~= base then return refused('moved', found) end
if untouched(found, touch) then return refused('untouched', found) end
local size = #manifest + keep(9, blob_life)
push(found, size, '-', address, call, manifest, history, life)
return {'done'}
