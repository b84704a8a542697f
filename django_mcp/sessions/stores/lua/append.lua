-- KEYS: stream, events, outlet, and the call that is held.
-- ARGV: bounds, whether to close, fence or nothing, progress or nothing, bodies.
local fence, progress = ARGV[7], ARGV[8]
local function condition()
  if fence == '' then return nil end
  if not is_held(KEYS[4], fence) then return 'lost' end
end
local last, problem = append(KEYS[1], KEYS[2], KEYS[3], rest(9), bounds(), ARGV[6] == '1', condition)
if last and fence ~= '' and progress ~= '' then note_progress(KEYS[4], progress) end
return problem or last
