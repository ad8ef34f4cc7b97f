-- Adds what was granted while this server could not be reached, or raises what is counted to what it was before it was
-- lost. Room is not asked for: it was given already.
--
-- KEYS[1]    a mark that this was done: a call that is repeated adds nothing. What is raised needs none
-- KEYS[2..]  a subject's counters each, no subject twice; then the logs beside them, in the order of the arguments
-- ARGV[1]    MessagePack, one flat array: how (0 add, 1 raise to at least); subjects; then for each: limits, then for each limit: its 7 numbers as decide.lua
--            takes them, whole_at, and what was granted: of a sliding log entries, then instant and units of each; of a
--            sliding counter current and previous units; of a token bucket missing tokens, parts of one more, since when;
--            of a fixed window units
-- answer     1 where it was added, 0 where it had been already
--
-- Invariants: units are added to the window in which they were granted, or to none once that window is over. The mark is
-- kept for as long as any unit could be added twice. A foreign value is replaced.

local args = cmsgpack.unpack(ARGV[1])
local now = redis_time()
local adds = args[1] == 0
if adds and call('EXISTS', KEYS[1]) == 1 then
  return 0
end

-- What is counted then.
local function merged(counted, more)
  return adds and min(counted + more, COUNT_MAX) or max(counted, more)
end

-- The units of a counter's two windows, of which the later ends then.
local function rolled(whole_at, current, previous, then_whole_at, period)
  if whole_at >= then_whole_at then return current, previous end
  if whole_at + period >= then_whole_at then return 0, current end
  return 0, 0
end

local function add_entries(limit, slot, key, number, at, args)
  for _ = 1, number do
    local instant, units = args[at], args[at + 1]
    at = at + 2
    local gone_units, gone = left_of(key, slot[4], limit.period, now)
    if not adds then units = units - (slot[4] > 0 and gone and slot[3] - gone_units or 0) end
    if units > 0 and now < instant + limit.period then
      local log = {fresh = slot[4] == 0 or not gone, b = slot[4], c = slot[5]}
      slot[5], slot[4] = log_charge(key, limit, log, gone or 0, units, instant)
      slot[3] = min((log.fresh and 0 or slot[3] - gone_units) + units, COUNT_MAX)
      slot[2] = max(slot[2], next_multiple_from(slot[5] + limit.period, limit.period))
      call('PEXPIRE', key, expiry(slot[2], now))
    end
  end
  return at
end

local subjects = args[2]
local values = call('MGET', unpack(KEYS, 1, subjects + 1))
local at, next_key, last = 3, subjects + 2, now
for s = 2, subjects + 1 do
  local slots = read(values[s], now)
  local limits = args[at]
  at = at + 1
  for _ = 1, limits do
    local limit
    limit, at = limit_from(args, at, now)
    local whole_at, x, y, z = args[at], args[at + 1], args[at + 2], args[at + 3]
    local slot
    for _, known in ipairs(slots) do
      if known[1] == limit.slot then slot = known end
    end
    if not slot then
      slot = {limit.slot, 0, 0, 0, 0}
      slots[#slots + 1] = slot
    end
    if limit.kind == LOG then
      at = add_entries(limit, slot, KEYS[next_key], x, at + 2, args)
      next_key = next_key + 1
    elseif limit.kind == COUNTER then
      local ends = max(slot[2], whole_at)
      local current, previous = rolled(slot[2], slot[3], slot[4], ends, limit.period)
      local more, more_before = rolled(whole_at, x, y, ends, limit.period)
      slot[2], slot[3], slot[4] = ends, merged(current, more), merged(previous, more_before)
      at = at + 3
    elseif limit.kind == BUCKET then
      local a, b = missing(limit, slot[3], slot[4], slot[5], now)
      local more, parts = missing(limit, x, y, z, now)
      if adds then
        b = b + parts
        if b >= limit.period then a, b = a + 1, b - limit.period end
        slot[3], slot[4] = taken(limit, a, b, more)
      elseif more > a or more == a and parts > b then
        slot[3], slot[4] = more, parts
      else
        slot[3], slot[4] = a, b
      end
      slot[2], slot[5] = max(slot[2], whole_at, limit.ends), now
      at = at + 4
    else
      if now < whole_at then slot[2], slot[3] = max(slot[2], whole_at), merged(slot[3], x) end
      at = at + 2
    end
    last = max(last, slot[2])
  end
  local kept = {}
  for _, slot in ipairs(slots) do
    if now < slot[2] then kept[#kept + 1] = slot end
  end
  store(KEYS[s], kept, now)
end
if adds then call('SET', KEYS[1], '', 'PX', expiry(last, now)) end
return 1
