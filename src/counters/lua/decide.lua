-- Decides a batch of checks: many subjects, each with several checks in order, each check all-or-nothing over its limits.
-- The same rule as src/domain/decide.rs and src/domain/fixed_window.rs, by the time of this server.
--
-- KEYS[1]    the marker: which batch was decided last, and what came of it, so that a lost answer can be learnt later
-- KEYS[2..]  a subject's counters each, no subject twice
-- ARGV[1]    MessagePack, one flat array of numbers:
--              the sequence number of the batch; plans, then for each plan: limits, then for each limit:
--                slot id, requests, period, anchor
--              then for each subject: checks, then for each check: plan (from 1), cost, mode
--            requests is 2^62 where the limit is not enforced. Windows begin at anchor plus multiples of period, in
--            microseconds. mode: 0 charge, 1 only look, 2 charge whether there is room or not
-- answer     the time (7 bytes, microseconds); for all checks a byte each: '0' denied, '1' allowed and nothing charged,
--            '2' charged; then each subject's value as it was read, or \0 (there was none), or \255 (foreign, and now
--            deleted; none of its checks was decided). Or 'W' alone: the batch was withdrawn or had run, and nothing was done.
--
-- Invariants: what is stored is what was allowed and charged; a denied check changes nothing. A window that was begun runs
-- to its stored end, whatever the clock does. A batch runs once.

local LOOK, FORCE = 1, 2
local MARKER_KEPT_MS = '7200000'

local args = cmsgpack.unpack(ARGV[1])
local subjects = #KEYS - 1
local values = call('MGET', unpack(KEYS))

local sequence, marker = args[1], values[1]
if marker and #marker >= 7 and scan('<I7', marker) >= sequence then return 'W' end

local now = redis_time()
local at = 3
local plans = {}
for p = 1, args[2] do
  local limits = args[at]
  local plan = {limits = limits, slots = {}, requests = {}, ends = {}, shapes = {}}
  for l = 1, limits do
    local period, anchor = args[at + 3], args[at + 4]
    plan.slots[l], plan.requests[l] = args[at + 1], args[at + 2]
    plan.ends[l] = now - (now - anchor) % period + period
    at = at + 4
  end
  plans[p] = plan
  at = at + 1
end

-- What becomes of a value with this head when the plan is charged: its new head, without slots that are whole and with
-- every slot of the plan; `from`, which slot of the old body each one comes (nil: the head stays); `where` in the body each
-- limit is counted; and the expiry. Worked out once for all subjects with the same head.
local function shape_of(plan, head)
  local count, width = byte(head, 2, 3)
  local old = {scan(format_of(2 * count), head, 4)}
  local heads, from, slot_of = {}, {}, {}
  local kept, same, last = 0, true, 0
  for s = 1, count do
    local id, whole_at = old[2 * s - 1], old[2 * s]
    if now < whole_at and not slot_of[id] then
      kept = kept + 1
      slot_of[id], from[kept] = kept, s
      heads[2 * kept - 1], heads[2 * kept] = id, whole_at
    else
      same = false
    end
  end
  local where = {}
  for l = 1, plan.limits do
    local id, ends = plan.slots[l], plan.ends[l]
    local s = slot_of[id]
    if not s then
      kept, same = kept + 1, false
      s = kept
      slot_of[id] = s
      heads[2 * s - 1], heads[2 * s] = id, ends
    elseif heads[2 * s] < ends then
      heads[2 * s], same = ends, false
    end
    where[l] = (s - 1) * width + 1
  end
  for s = 1, kept do last = max(last, heads[2 * s]) end
  local shape = {where = where, numbers = kept * width, width = width, expiry = expiry(last, now)}
  if same then
    shape.head = head
  else
    shape.head, shape.from = pack('<BBB' .. rep('I7', 2 * kept), 1, kept, width, unpack(heads)), from
  end
  plan.shapes[head] = shape
  return shape
end

-- A body in the order of the new head.
local function turned(body, shape)
  local new, width, from = {}, shape.width, shape.from
  for n = 0, shape.numbers - 1 do
    local s = from[(n - n % width) / width + 1]
    new[n + 1] = s and body[(s - 1) * width + n % width + 1] or 0
  end
  return new
end

local results, asked, charged_any = {}, 0, false
for s = 2, subjects + 1 do
  local value = values[s]
  local head, body, stored_head, foreign = EMPTY_HEAD, nil, nil, false
  if not value then
    values[s], body = '\0', {}
  else
    local head_bytes, numbers = measure(value)
    if head_bytes then
      head = sub(value, 1, head_bytes)
      stored_head = head
      body = {scan(formats[numbers] or format_of(numbers), value, head_bytes + 1)}
    else
      foreign = true
      values[s] = '\255'
      call('DEL', KEYS[s])
    end
  end

  local charged
  for _ = 1, args[at] do
    local plan, cost, mode = plans[args[at + 1]], args[at + 2], args[at + 3]
    at = at + 3
    asked = asked + 1
    if foreign then
      results[asked] = '0'
    elseif cost == 0 or plan.limits == 0 then
      results[asked] = '1'
    else
      local shape = plan.shapes[head] or shape_of(plan, head)
      local counts = shape.from and turned(body, shape) or body
      local where, requests = shape.where, plan.requests
      local room = true
      if mode ~= FORCE then
        for l = 1, plan.limits do
          if counts[where[l]] + cost > requests[l] then
            room = false
            break
          end
        end
      end
      if not room then
        results[asked] = '0'
      elseif mode == LOOK then
        results[asked] = '1'
      else
        for l = 1, plan.limits do
          local n = where[l]
          local sum = counts[n] + cost
          counts[n] = sum < COUNT_MAX and sum or COUNT_MAX
        end
        head, body, charged = shape.head, counts, shape
        results[asked] = '2'
      end
    end
  end
  at = at + 1

  if charged then
    charged_any = true
    local numbers = charged.numbers
    local packed = pack(formats[numbers] or format_of(numbers), unpack(body, 1, numbers))
    if head == stored_head then
      -- The same windows: the key keeps its expiry, at half the price of SET with PX.
      call('SETRANGE', KEYS[s], #head, packed)
    else
      call('SET', KEYS[s], head .. packed, 'PX', charged.expiry)
    end
  end
end

local outcome = table.concat(results)
if charged_any then call('SET', KEYS[1], pack('<I7', sequence) .. outcome, 'PX', MARKER_KEPT_MS) end
return pack('<I7', now) .. outcome .. table.concat(values, '', 2, subjects + 1)
