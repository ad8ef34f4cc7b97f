-- Decides a batch of checks: many subjects, each with several checks in order, each check all-or-nothing over its limits and
-- its concurrency slot. The same rule as src/domain/decide.rs, by the time of this server.
--
-- KEYS[1]    the marker: which batch was decided last, and what came of it, so that a lost answer can be learnt later
-- KEYS[2..]  a subject's counters each, no subject twice; then for each subject: the logs beside its counters, then for
--            each check with a lease the set of leases, and for each with an identity the place where it is remembered
-- ARGV[1]    MessagePack, one flat array of numbers:
--              the sequence number of the batch; subjects; plans, then for each plan: limits, then for each limit 7 numbers:
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
-- ARGV[2..]  for each check in order: the secret where it takes a lease; what to remember where it has an identity
-- answer     the time (7 bytes, microseconds); for all checks a byte each: '0' denied, '1' allowed and nothing charged,
--            '2' charged, '3' decided before; then each subject's value as it was read, logs without what has left them, or
--            \0 (there was none), or \255 (foreign, and now deleted; none of its checks was decided); then for each check
--            but those of foreign subjects: with a lease slots held and when one will be free (0: unknown), 7 bytes each;
--            denied, for each log of its plan when it will have room (0: it has), 7 bytes each; decided before, the length (7 bytes) and bytes
--            of what was remembered: the time, the value before, and what was sent to be remembered.
--            Or 'W' alone: the batch was withdrawn or had run, and nothing was done.
--
-- Invariants: what is stored is what was allowed and charged; a denied check changes nothing. A window that was begun runs
-- to its stored end, whatever the clock does. A batch runs once.

local LOOK, FORCE = 1, 2
local TAKE, COUNT = 1, 3
local MARKER_KEPT_MS = '7200000'
local IDENTITY_KEPT_MS = '60000'

local args = cmsgpack.unpack(ARGV[1])
local subjects = args[2]
local next_key, next_blob = subjects + 2, 2
local values = call('MGET', unpack(KEYS, 1, subjects + 1))

local sequence, marker = args[1], values[1]
if marker and #marker >= 7 and scan('<I7', marker) >= sequence then return 'W' end

local now = redis_time()
local at = 4
local plans = {}
for p = 1, args[3] do
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
      call('PEXPIRE', logs[limit.slot].key, expiry(max(limit.ends, newest + limit.period), now) + 1000)
      counts[n], counts[n + 1], counts[n + 2] = used[l] + units, number, newest
    end
  end
end

local results, extras, asked, charged_any = {}, {}, 0, false
local function tell(number)
  extras[#extras + 1] = pack('<I7', number)
end

for s = 2, subjects + 1 do
  local checks = args[at]
  local value = values[s]
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

  local logs, gone = {}, {}
  if args[at + 1] > 0 then
    for log = 1, args[at + 1] do
      logs[args[at + 2 * log]] = {key = KEYS[next_key], period = args[at + 2 * log + 1]}
      next_key = next_key + 1
    end
    if stored_head and not foreign then
      gone = gone_from(head, body, logs, now)
      if not gone then
        foreign = true
      elseif next(gone) then
        values[s] = told(head, body, gone)
      end
    end
  end
  at = at + 2 + 2 * args[at + 1]

  if foreign then
    values[s] = '\255'
    call('DEL', KEYS[s])
    for _, log in pairs(logs) do call('DEL', log.key) end
  end

  local charged
  for _ = 1, checks do
    local plan, cost, how = plans[args[at]], args[at + 1], args[at + 2]
    local mode = how % 4
    at, asked = at + 3, asked + 1
    local lease, slot_free, held, free_at = 0, true, 0, 0
    local lease_key, lasts, secret, place, memo, found, before, rooms
    if how > FORCE then
      lease = floor(how / 4) % 4
      if lease > 0 then
        local slots = args[at]
        lasts, at = args[at + 1], at + 2
        lease_key, next_key = KEYS[next_key], next_key + 1
        if lease == TAKE then secret, next_blob = ARGV[next_blob], next_blob + 1 end
        if not foreign then held, free_at = in_use(lease_key, slots, now) end
        slot_free = lease == COUNT or mode == FORCE or held < slots
      end
      if how >= 16 then
        place, next_key = KEYS[next_key], next_key + 1
        memo, next_blob = ARGV[next_blob], next_blob + 1
        found = not foreign and call('MGET', place)[1]
        before = not (foreign or found) and told(head, body, gone)
      end
    end

    if foreign then
      results[asked] = '0'
    elseif found then
      results[asked] = '3'
    elseif cost == 0 or #plan == 0 then
      results[asked] = slot_free and '1' or '0'
    else
      local shape = plan.shapes[head] or shape_of(plan, head, now)
      local counts = shape.from and turned(body, shape) or body
      local room, used, tokens, parts = slot_free, nil, nil, nil
      if plan.plain then
        if mode ~= FORCE then
          local where = shape.where
          for l = 1, #plan do
            if counts[where[l]] + cost > plan[l].requests then
              room = false
              break
            end
          end
        end
      else
        used, tokens, parts = uses(plan, shape, counts, gone)
        for l = 1, #plan do
          if mode ~= FORCE and used[l] + cost > plan[l].requests then room = false end
        end
      end
      if not room then
        results[asked] = '0'
      elseif mode == LOOK then
        results[asked] = '1'
      else
        if plan.plain then
          for l = 1, #plan do
            local n = shape.where[l]
            local sum = counts[n] + cost
            counts[n] = sum < COUNT_MAX and sum or COUNT_MAX
          end
        else
          charge(plan, shape, counts, used, tokens, parts, cost, logs, gone)
        end
        head, body, charged = shape.head, counts, shape
        results[asked] = '2'
      end
      if not room and not plan.plain then
        rooms = {}
        for l, limit in ipairs(plan) do
          if limit.kind == LOG then
            local left = gone[limit.slot]
            local may = limit.most - cost
            local full = may >= 0 and used[l] > may
            rooms[l] = full
              and log_room_at(logs[limit.slot].key, left and left.number or 0, used[l], may, limit.period, now)
          end
        end
      end
    end

    local result = results[asked]
    if lease == TAKE and mode ~= LOOK and (result == '1' or result == '2') then
      hold(lease_key, secret, now + lasts, now)
      held, charged_any, results[asked] = held + 1, true, '2'
    end
    if not foreign then
      if lease > 0 then
        tell(held)
        tell(free_at)
      end
      if result == '0' then
        for l, limit in ipairs(plan) do
          if limit.kind == LOG then tell(rooms and rooms[l] or 0) end
        end
      elseif result == '3' then
        tell(#found)
        extras[#extras + 1] = found
      elseif before and mode ~= LOOK then
        call('SET', place, pack('<I7', now) .. before .. memo, 'PX', IDENTITY_KEPT_MS)
      end
    end
  end

  if charged then
    charged_any = true
    local numbers = charged.numbers
    local stored = packed(body, numbers)
    if head == stored_head then
      -- The same windows: the key keeps its expiry, at half the price of SET with PX.
      call('SETRANGE', KEYS[s], #head, stored)
    else
      call('SET', KEYS[s], head .. stored, 'PX', charged.expiry)
    end
  end
end

local outcome = table.concat(results)
if charged_any then call('SET', KEYS[1], pack('<I7', sequence) .. outcome, 'PX', MARKER_KEPT_MS) end
return pack('<I7', now) .. outcome .. table.concat(values, '', 2, subjects + 1) .. table.concat(extras)
