-- Load for wrk: posts the lines of a file in turn, again and again.
--
-- BODIES   the file, a request's body a line
-- PREFIX   optional: a format for a number that is new each time, put before the line
-- HEADERS  optional: "Name: value" pairs, separated by "|"
-- RESULT   the file that the numbers are written to, as JSON

local requests, bodies = {}, {}
local prefix = os.getenv("PREFIX")
local turn = 0

function init(args)
  wrk.method = "POST"
  for name, value in (os.getenv("HEADERS") or ""):gmatch("([^:|]+): ([^|]+)") do
    wrk.headers[name] = value
  end
  for line in io.lines(os.getenv("BODIES")) do
    bodies[#bodies + 1] = line
    if not prefix then
      requests[#requests + 1] = wrk.format(nil, nil, nil, line)
    end
  end
end

function request()
  turn = turn + 1
  local place = (turn - 1) % #bodies + 1
  if prefix then
    return wrk.format(nil, nil, nil, prefix:format(turn) .. bodies[place])
  end
  return requests[place]
end

function done(summary, latency, _)
  local errors = summary.errors
  local file = io.open(os.getenv("RESULT"), "w")
  file:write(string.format(
    '{"requests":%d,"seconds":%.6f,"p50_ms":%.4f,"p99_ms":%.4f,"errors":%d}',
    summary.requests, summary.duration / 1e6,
    latency:percentile(50) / 1e3, latency:percentile(99) / 1e3,
    errors.connect + errors.read + errors.write + errors.status + errors.timeout))
  file:close()
end
