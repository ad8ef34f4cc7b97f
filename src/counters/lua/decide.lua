-- Decides a batch of checks: many subjects, each with several checks in order, each check all-or-nothing over its limits and
-- its concurrency slot. The same rule as src/domain/decide.rs, by the time of this server.
--
-- KEYS[1]    the marker: which batch was decided last, and what came of it, so that a lost answer can be learnt later
-- KEYS[2]    the generation: which counters these are (generation.lua)
-- KEYS[3..]  a subject's counters each, no subject twice; then for each subject: the logs beside its counters, then for
--            each check with a lease the set of leases, and for each with an identity the place where it is remembered
-- ARGV[1]    what standing.lua takes, which has begun the batch: it has read all values, and decided most subjects
-- ARGV[2]    MessagePack, one flat array of numbers:
--              plans, then for each plan: limits, then for each limit 7 numbers:
--                kind, slot id, requests (2^62 where the limit is not enforced), then for a
--                  fixed window:     period, begin of any window
--                  sliding log:      period, most entries
--                  sliding counter:  period
--                  token bucket:     period, tokens gained in it, tokens in a full one, time to fill it
--                  calendar window:  four ends of windows, one after another
--              then for each subject: checks, logs, then for each log: slot id, period; then for each check: plan (from 1),
--                cost, mode (0 charge, 1 only look, 2 charge whether there is room or not; with 4 a lease is taken, with 8
--                it is looked whether one is free, with 12 they are counted; with 16 the check has an identity), and with
--                a lease: slots there are, how long it lasts
--            Lengths and instants are microseconds.
-- ARGV[3..]  for each check in order: the secret where it takes a lease; what to remember where it has an identity
-- answer     the time (7 bytes, microseconds); for all checks a byte each: '0' denied, '1' allowed and nothing charged,
--            '2' charged, '3' decided before; then each subject's value as it was read, logs without what has left them, or
--            \0 (there was none), or \255 (foreign, and now deleted; none of its checks was decided); then for each check
--            but those of foreign subjects: with a lease slots held and when one will be free (0: unknown), 7 bytes each;
--            denied, for each log of its plan when it will have room (0: it has), 7 bytes each; decided before, the length (7 bytes) and bytes
--            of what was remembered: the time, the value before, and what was sent to be remembered.
--            Or 'W' alone: the batch was withdrawn or had run, and nothing was done. Or 'G' and the generation that
--            stands (0: none): it is another one, and nothing was done.
--
-- Invariants: what is stored is what was allowed and charged; a denied check changes nothing. A window that was begun runs
-- to its stored end, whatever the clock does. A batch runs once.

local LOOK, FORCE = 1, 2
local TAKE, COUNT, IDENTITY = 1, 3, 16
local IDENTITY_KEPT_MS = '60000'

local args = cmsgpack.unpack(ARGV[2])
local next_key, next_blob = last + 1, 3

local at = 2
local plans = {}
for p = 1, args[1] do
  local plan = {plain = true, width = 1, shapes = {}}
  local limits = args[at]
  at = at + 1
  for l = 1, limits do
    local limit
    limit, at = limit_from(args, at, now)
    plan[l], plan.width = limit, max(plan.width, limit.width)
    plan.plain = plan.plain and limit.width == 1
  end
  plans[p] = plan
end

-- What a plan's limits have used, and of buckets what is missing.
local function uses(plan, shape, counts, gone)
  local used, tokens, parts = {}, {}, {}
  for l, limit in ipairs(plan) do
    local n = shape.where[l]
    if limit.width == 1 then
      used[l] = counts[n]
    elseif limit.kind == COUNTER then
      used[l] = estimate(counts[n], counts[n + 1], shape.left[l], limit.period)
    elseif limit.kind == BUCKET then
      tokens[l], parts[l] = missing(limit, counts[n], counts[n + 1], counts[n + 2], now)
      used[l] = tokens[l] + (parts[l] > 0 and 1 or 0)
    else
      local left = gone[limit.slot]
      used[l] = counts[n] - (left and left.units or 0)
    end
  end
  return used, tokens, parts
end

-- Whether there is room for a cost in limits that are counted by one number each, or by what they have used.
local function is_room(plan, shape, counts, used, cost)
  local where = shape.where
  for l = 1, #plan do
    if (used and used[l] or counts[where[l]]) + cost > plan[l].requests then return false end
  end
  return true
end

-- When each log of a plan will have room that has none now.
local function log_rooms(plan, used, cost, logs, gone)
  local rooms = {}
  for l, limit in ipairs(plan) do
    local may = limit.most and limit.most - cost
    if may and may >= 0 and used[l] > may then
      local left = gone[limit.slot]
      rooms[l] = log_room_at(logs[limit.slot].key, left and left.number or 0, used[l], may, limit.period, now)
    end
  end
  return rooms
end

-- Charges counts of one number each.
local function charge_plainly(plan, shape, counts, cost)
  local where = shape.where
  for l = 1, #plan do
    local sum = counts[where[l]] + cost
    counts[where[l]] = sum < COUNT_MAX and sum or COUNT_MAX
  end
end

-- Charges limits of any kind, by what they have used.
local function charge(plan, shape, counts, used, tokens, parts, cost, logs, gone)
  for l, limit in ipairs(plan) do
    local n = shape.where[l]
    if limit.width == 1 or limit.kind == COUNTER then
      counts[n] = min(counts[n] + cost, COUNT_MAX)
    elseif limit.kind == BUCKET then
      counts[n], counts[n + 1] = taken(limit, tokens[l], parts[l], cost)
      counts[n + 2] = shape.fresh[l] and now or max(counts[n + 2], now)
    else
      local left = gone[limit.slot]
      local units = min(cost, COUNT_MAX - used[l])
      local slot = {fresh = shape.fresh[l], b = counts[n + 1], c = counts[n + 2]}
      local newest, number =
        log_charge(logs[limit.slot].key, limit, slot, left and left.number or 0, units, now)
      gone[limit.slot] = nil
      -- Its entries have all left when the slot is whole.
      if shape.moved[l] then call('PEXPIRE', logs[limit.slot].key, expiry(limit.ends, now) + 1000) end
      counts[n], counts[n + 1], counts[n + 2] = used[l] + units, number, newest
    end
  end
end

local extras = {}
local function tell(number)
  extras[#extras + 1] = pack('<I7', number)
end

-- The logs beside a subject's counters, by slot id.
local function logs_at(at)
  local logs = {}
  for log = 1, args[at] do
    logs[args[at + 2 * log - 1]] = {key = KEYS[next_key], period = args[at + 2 * log]}
    next_key = next_key + 1
  end
  return logs, at + 1 + 2 * args[at]
end

-- The lease that a check asks for or about, if it does, and how its slots are found.
local function lease_at(how, mode, foreign)
  local wish = floor(how / 4) % 4
  if wish == 0 then return end
  local slots, lasts = args[at], args[at + 1]
  local lease = {key = KEYS[next_key], lasts = lasts, held = 0, free_at = 0}
  at, next_key = at + 2, next_key + 1
  if wish == TAKE then lease.secret, next_blob = ARGV[next_blob], next_blob + 1 end
  if not foreign then lease.held, lease.free_at = in_use(lease.key, slots, now) end
  lease.is_full = wish ~= COUNT and mode ~= FORCE and lease.held >= slots
  return lease
end

-- Where a check with an identity is remembered, if it has one, and what is to be.
local function identity_at(how)
  if how < IDENTITY then return end
  local identity = {key = KEYS[next_key], memo = ARGV[next_blob]}
  next_key, next_blob = next_key + 1, next_blob + 1
  return identity
end

local s = 3
while true do
  -- What standing.lua has decided has no logs, and three numbers a check.
  while results[s - 2] do s, at = s + 1, at + 2 + 3 * args[at] end
  if s > last then return answer(table.concat(extras)) end

  local checks, value, outcome = args[at], values[s], ''
  local head, body, stored_head, foreign = EMPTY_HEAD, {}, nil, false
  if not value then
    values[s] = '\0'
  else
    local head_bytes, numbers = measure(value)
    if head_bytes then
      head = sub(value, 1, head_bytes)
      stored_head = head
      body = {scan(formats[numbers] or format_of(numbers), value, head_bytes + 1)}
    else
      foreign = true
    end
  end

  local logs, gone
  logs, at = logs_at(at + 1)
  if stored_head and next(logs) then
    gone = gone_from(head, body, logs, now)
    if not gone then
      foreign = true
    elseif next(gone) then
      values[s] = told(head, body, gone)
    end
  end
  gone = gone or {}

  if foreign then
    values[s] = '\255'
    call('DEL', KEYS[s])
    for _, log in pairs(logs) do call('DEL', log.key) end
  end

  local charged
  for _ = 1, checks do
    local plan, cost, how = plans[args[at]], args[at + 1], args[at + 2]
    local mode, lease, identity, found, before, rooms = how, nil, nil, nil, nil, nil
    at = at + 3
    if how > FORCE then
      mode = how % 4
      lease, identity = lease_at(how, mode, foreign), identity_at(how)
      found = identity and not foreign and call('MGET', identity.key)[1]
      before = identity and not foreign and not found and told(head, body, gone)
    end

    local result
    if foreign then
      result = '0'
    elseif found then
      result = '3'
    elseif cost == 0 or #plan == 0 then
      result = lease and lease.is_full and '0' or '1'
    else
      local shape = plan.shapes[head] or shape_of(plan, head, now)
      local counts = shape.from and turned(body, shape) or body
      local used, tokens, parts
      if not plan.plain then used, tokens, parts = uses(plan, shape, counts, gone) end
      if lease and lease.is_full or mode ~= FORCE and not is_room(plan, shape, counts, used, cost) then
        result = '0'
        rooms = used and log_rooms(plan, used, cost, logs, gone)
      elseif mode == LOOK then
        result = '1'
      else
        if used then
          charge(plan, shape, counts, used, tokens, parts, cost, logs, gone)
        else
          charge_plainly(plan, shape, counts, cost)
        end
        head, body, charged = shape.head, counts, shape
        result = '2'
      end
    end

    if before and mode ~= LOOK and result ~= '0' then
      call('SET', identity.key, pack('<I7', now) .. before .. identity.memo, 'PX', IDENTITY_KEPT_MS)
    end
    if lease and lease.secret and mode ~= LOOK and (result == '1' or result == '2') then
      hold(lease.key, lease.secret, now + lease.lasts, now)
      lease.held, charged_any, result = lease.held + 1, true, '2'
    end
    outcome = outcome .. result

    if lease and not foreign then
      tell(lease.held)
      tell(lease.free_at)
    end
    if result == '0' and not foreign then
      for l, limit in ipairs(plan) do
        if limit.kind == LOG then tell(rooms and rooms[l] or 0) end
      end
    elseif result == '3' then
      tell(#found)
      extras[#extras + 1] = found
    end
  end

  if charged then
    charged_any = true
    local stored = packed(body, charged.numbers)
    if head == stored_head then
      -- The same windows: the key keeps its expiry, at half the price of SET with PX.
      call('SETRANGE', KEYS[s], charged.head_bytes, stored)
    else
      call('SET', KEYS[s], head .. stored, 'PX', charged.expiry)
    end
  end
  results[s - 2], s = outcome, s + 1
end
