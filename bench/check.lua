-- Checks for wrk, by environment: of BENCH_USERS random users, after a Zipf law where BENCH_ZIPF is set, BENCH_BATCH of them
-- in a body where it is more than 1, and a pause of BENCH_PAUSE_MS between two requests of a connection.
local batch = tonumber(os.getenv("BENCH_BATCH") or "1")
local users = tonumber(os.getenv("BENCH_USERS") or "10000")
local pause = tonumber(os.getenv("BENCH_PAUSE_MS") or "0")
local shares, bodies = {}, {}

-- The user of rank k is asked for as often as 1/k.
local function by_rank()
  local wanted, low, high = math.random() * shares[users], 1, users
  while low < high do
    local middle = math.floor((low + high) / 2)
    if shares[middle] < wanted then low = middle + 1 else high = middle end
  end
  return low
end

local function anyone()
  return math.random(users)
end

local choose = os.getenv("BENCH_ZIPF") and by_rank or anyone

local function check(user)
  return '{"user_id":"u' .. user .. '","tier":"enterprise"}'
end

function init()
  math.randomseed(42)
  local sum = 0
  for rank = 1, users do
    sum = sum + 1 / rank
    shares[rank] = sum
  end
  wrk.headers["Content-Type"] = "application/json"
  wrk.headers["X-API-Key"] = os.getenv("BENCH_KEY")
  for n = 1, batch > 1 and 500 or users do
    local checks = {}
    for c = 1, batch > 1 and batch or 0 do checks[c] = check(choose()) end
    local body = batch > 1 and '{"checks":[' .. table.concat(checks, ",") .. "]}" or check(n)
    bodies[n] = wrk.format("POST", nil, nil, body)
  end
end

function request()
  return bodies[batch > 1 and math.random(#bodies) or choose()]
end

if pause > 0 then
  function delay()
    return pause
  end
end

function done(summary, latency)
  local refused = summary.errors.status + summary.errors.connect + summary.errors.read + summary.errors.timeout
  io.write(string.format("RESULT %d %d %d %d %d %d\n", summary.requests, summary.duration, latency:percentile(50),
    latency:percentile(99), latency:percentile(99.9), refused))
end
