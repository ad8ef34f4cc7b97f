-- How limits count, by the time of this server: src/domain's fixed_window, sliding_log, sliding_counter and token_bucket,
-- exactly. This text is put after slots.lua and before the scripts that charge.
--
-- Kinds of limit: 0 fixed window, 1 sliding log, 2 sliding counter, 3 token bucket, 4 fixed window of a calendar.
-- A slot's numbers: fixed window a = units. Sliding log a = units, b = entries and c = newest instant of the list beside it.
-- Sliding counter a = current and b = previous units. Token bucket a = missing tokens, b = parts of one more (a period's
-- microseconds make one), c = since when.
--
-- Invariant: all sums and products are exact: below 2^53, or worked out digit by digit.

local FIXED, LOG, COUNTER, BUCKET, CALENDAR = 0, 1, 2, 3, 4
local WIDTH = {[FIXED] = 1, [LOG] = 3, [COUNTER] = 2, [BUCKET] = 3, [CALENDAR] = 1}

-- x * y / z, rounded down, and what is left over; x below 2^53, y and z below 2^45.
local function mul_div(x, y, z)
  local product = x * y
  if product <= COUNT_MAX then
    local rest = product % z
    return (product - rest) / z, rest
  end
  -- The digits of x to the base of 128, the highest first: no sum reaches 2^53.
  local quotient, rest, unit = 0, 0, 562949953421312
  for _ = 1, 8 do
    local digit = floor(x / unit)
    x, unit = x - digit * unit, unit / 128
    local part = rest * 128 + digit * y
    rest = part % z
    quotient = quotient * 128 + (part - rest) / z
  end
  return quotient, rest
end

local function next_multiple(now, period)
  return now - now % period + period
end

local function next_multiple_from(instant, period)
  return instant + (period - instant % period) % period
end

-- A limit as it stands in the arguments, and where the window or the slot ends that is charged now.
local function limit_from(args, at, now)
  local kind, x, y = args[at], args[at + 3], args[at + 4]
  local limit = {kind = kind, slot = args[at + 1], requests = args[at + 2], period = x, width = WIDTH[kind]}
  if kind == FIXED then
    limit.ends = next_multiple(now - y, x) + y
  elseif kind == CALENDAR then
    local before, last = args[at + 5], args[at + 6]
    limit.ends = last
    for boundary = 5, 3, -1 do
      if now < args[at + boundary] then limit.ends = args[at + boundary] end
    end
    -- Past all that was sent: this server's clock is windows ahead of who asked.
    if now >= last then limit.ends = last + next_multiple(now - last, last - before) end
  elseif kind == LOG then
    limit.most = y
    limit.ends = next_multiple_from(now + x, x)
  elseif kind == COUNTER then
    limit.ends = next_multiple(now, x) + x
  else
    local fill = args[at + 6]
    limit.rate, limit.burst = y, args[at + 5]
    limit.ends = next_multiple_from(now + fill, fill)
  end
  return limit, at + 7
end

-- The estimate of a sliding counter, rounded up.
local function estimate(current, previous, left, period)
  local whole, rest = mul_div(previous, left, period)
  if rest > 0 then whole = whole + 1 end
  return min(current + whole, COUNT_MAX)
end

-- What a bucket misses now: tokens, and parts of one more.
local function missing(limit, a, b, c, now)
  if a >= limit.burst then a, b = limit.burst, 0 end
  if now > c then
    local whole, parts = mul_div(now - c, limit.rate, limit.period)
    if a < whole or (a == whole and b <= parts) then return 0, 0 end
    a, b = a - whole, b - parts
    if b < 0 then a, b = a - 1, b + limit.period end
  end
  return a, b
end

-- What a bucket misses when tokens have been taken out: it can't hold less than none.
local function taken(limit, a, b, tokens)
  a = a + tokens
  if a >= limit.burst then return limit.burst, 0 end
  return a, b
end

-- Entries of a log, so many from one on: instants, then units, in turn. Nothing where it is no log.
local function entries(key, first, number)
  local list = pcall_redis('LRANGE', key, first, first + number - 1)
  if list.err then return end
  local numbers = {}
  for e, entry in ipairs(list) do
    if #entry ~= 14 then return end
    numbers[2 * e - 1], numbers[2 * e] = scan('<I7I7', entry)
  end
  return numbers
end

-- The units and the number of a log's entries that have left: those of a period ago and before. Nothing where it is no log.
local function left_of(key, count, period, now)
  local units, number, chunk = 0, 0, 4
  while number < count do
    local numbers = entries(key, number, chunk)
    if not numbers then return end
    if #numbers == 0 then return units, number end
    for e = 1, #numbers, 2 do
      if now < numbers[e] + period then return units, number end
      units, number = units + numbers[e + 1], number + 1
    end
    chunk = 64
  end
  return units, number
end

-- When so few units are left in a log that there is room; `first` is the first entry that has not left.
local function log_room_at(key, first, used, room, period, now)
  local chunk = 4
  while true do
    local numbers = entries(key, first, chunk)
    if not numbers or #numbers == 0 then return now end
    for e = 1, #numbers, 2 do
      used = used - numbers[e + 1]
      if used <= room then return numbers[e] + period end
    end
    first, chunk = first + chunk, 64
  end
end

-- Adds an entry to a log, and drops those that are gone; what is full takes it into its newest. The instant and number of
-- entries that then stand. What is added comes first: a server without memory refuses it, and then nothing was changed.
local function log_charge(key, limit, slot, gone, units, now)
  if slot.fresh then call('DEL', key) end
  local count, newest = slot.b - gone, slot.c
  local at = slot.fresh and now or max(newest, now)
  local full = count >= max(limit.most, 1) and call('LINDEX', key, -1)
  if full and #full == 14 then
    local instant, sum = scan('<I7I7', full)
    call('LSET', key, -1, pack('<I7I7', instant, sum + units))
    at = newest
  else
    call('RPUSH', key, pack('<I7I7', at, units))
    count = count + 1
  end
  if gone > 0 and not slot.fresh then call('LTRIM', key, gone, -1) end
  return at, count
end
