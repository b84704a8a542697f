-- Keep a standalone stream that is open and watched. KEYS: stream, events, outlet, streams.
-- ARGV: name, life of the session.
local row = open_stream(KEYS[1])
if not row or row.is_post then return false end
keep(KEYS[1], row.life)
keep(KEYS[2], row.life)
hold_outlet(KEYS[3], tonumber(ARGV[2]))
enlist(KEYS[4], ARGV[1], tonumber(ARGV[2]))
return true
