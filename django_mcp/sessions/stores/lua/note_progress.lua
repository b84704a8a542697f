-- KEYS: call. ARGV: fence, progress.
if not is_held(KEYS[1], ARGV[1]) then return 'lost' end
return note_progress(KEYS[1], ARGV[2]) and 'noted' or 'less'
