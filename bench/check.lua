-- Checks of 10,000 random users for wrk; BENCH_BATCH of them in a body where it is more than 1.
local batch = tonumber(os.getenv("BENCH_BATCH") or "1")
local users, bodies = 10000, {}

local function check()
  return '{"user_id":"u' .. math.random(users) .. '","tier":"enterprise"}'
end

function init()
  math.randomseed(42)
  wrk.headers["Content-Type"] = "application/json"
  wrk.headers["X-API-Key"] = os.getenv("BENCH_KEY")
  for n = 1, batch > 1 and 500 or users do
    local checks = {}
    for c = 1, batch do checks[c] = check() end
    local body = batch > 1 and '{"checks":[' .. table.concat(checks, ",") .. "]}" or checks[1]
    bodies[n] = wrk.format("POST", nil, nil, body)
  end
end

function request()
  return bodies[math.random(#bodies)]
end

function done(summary, latency)
  local refused = summary.errors.status + summary.errors.connect + summary.errors.read + summary.errors.timeout
  io.write(string.format("RESULT %d %d %d %d %d\n", summary.requests, summary.duration, latency:percentile(50),
    latency:percentile(99), refused))
end
