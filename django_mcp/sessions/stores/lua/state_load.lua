-- ARGV: the number of a generation, '' for the head.
return told(record(), ARGV[1] ~= '' and ARGV[1] or nil)
