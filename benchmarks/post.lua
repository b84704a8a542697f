-- One POST again and again; the arguments are its body and the answer that each must get.
-- Prints the completed requests, their time in microseconds, and how many answers were not that one.
local threads = {}

function setup(thread)
  table.insert(threads, thread)
end

function init(arguments)
  wrk.method = "POST"
  wrk.body = arguments[1]
  expected = arguments[2]
  wrong = 0
end

function response(status, headers, body)
  if status ~= 200 or body ~= expected then
    wrong = wrong + 1
  end
end

function done(summary, latency, requests)
  local errors = summary.errors
  local bad = errors.connect + errors.read + errors.write + errors.timeout
  for _, thread in ipairs(threads) do
    bad = bad + thread:get("wrong")
  end
  io.write(string.format("measured %d %d %d\n", summary.requests, summary.duration, bad))
end
