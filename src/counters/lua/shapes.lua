-- How a value turns from one form into another when a plan is charged. This text is put after algorithms.lua.

-- What becomes of a value with this head when the plan is charged: its new head, without slots that are whole and with
-- every slot of the plan; `from`, which slot of the old body each one comes (nil: the head stays); `where` in the body each
-- limit is counted; `left` of each sliding counter's window, and whether it has `rolled` into the next; which slots are
-- `fresh`, and whose end has `moved`; and as text its length and the expiry. Worked out once for all subjects with the same
-- head.
local function shape_of(plan, head, now)
  local count, old_width = byte(head, 2, 3)
  local old = {scan(format_of(2 * count), head, 4)}
  local heads, from, slot_of = {}, {}, {}
  local kept, width, last = 0, max(old_width, plan.width), 0
  local same = width == old_width
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
  local shape = {where = {}, left = {}, rolled = {}, fresh = {}, moved = {}, old_width = old_width, width = width}
  for l, limit in ipairs(plan) do
    local s, ends, period = slot_of[limit.slot], limit.ends, limit.period
    if not s then
      kept, same, s = kept + 1, false, kept + 1
      slot_of[limit.slot] = s
      heads[2 * s - 1], heads[2 * s] = limit.slot, 0
      shape.fresh[l] = true
    end
    local whole_at = heads[2 * s]
    if limit.kind == COUNTER then
      local window_ends = ends - period
      if whole_at > 0 and now < whole_at - period then
        window_ends = whole_at - period
      elseif whole_at > 0 then
        window_ends, shape.rolled[l] = whole_at, true
      end
      shape.left[l] = min(window_ends - now, period)
    end
    if whole_at < ends then heads[2 * s], shape.moved[l], same = ends, true, false end
    shape.where[l] = (s - 1) * width + 1
  end
  for s = 1, kept do last = max(last, heads[2 * s]) end
  shape.numbers, shape.expiry = kept * width, expiry(last, now)
  if same then
    shape.head = head
  else
    shape.head, shape.from = pack('<BBB' .. rep('I7', 2 * kept), 1, kept, width, unpack(heads)), from
  end
  shape.head_bytes = tostring(#shape.head)
  plan.shapes[head] = shape
  return shape
end

-- A body in the order of the new head.
local function turned(body, shape)
  local new, width, old_width, from = {}, shape.width, shape.old_width, shape.from
  for n = 0, shape.numbers - 1 do
    local part = n % width
    local s = part < old_width and from[(n - part) / width + 1]
    new[n + 1] = s and body[(s - 1) * old_width + part + 1] or 0
  end
  for l in pairs(shape.rolled) do
    local n = shape.where[l]
    new[n], new[n + 1] = 0, new[n]
  end
  return new
end

local function packed(body, numbers)
  return pack(formats[numbers] or format_of(numbers), unpack(body, 1, numbers))
end

-- What has left each of a subject's logs: units and number by slot id. Nothing where one is no log.
local function gone_from(head, body, logs, now)
  local gone = {}
  local count, width = byte(head, 2, 3)
  local heads = {scan(format_of(2 * count), head, 4)}
  for s = 1, count do
    local log = logs[heads[2 * s - 1]]
    if log and now < heads[2 * s] then
      local units, number = left_of(log.key, body[(s - 1) * width + 2] or 0, log.period, now)
      if not units then return end
      gone[heads[2 * s - 1]] = {units = units, number = number}
    end
  end
  return gone
end

-- The value as it is told: logs without what has left them.
local function told(head, body, gone)
  local count, width = byte(head, 2, 3)
  if count == 0 then return '\0' end
  local heads = {scan(format_of(2 * count), head, 4)}
  local shown = {unpack(body)}
  for s = 1, count do
    local left = gone[heads[2 * s - 1]]
    local n = (s - 1) * width + 1
    if left and width == 3 then shown[n], shown[n + 1] = shown[n] - left.units, shown[n + 1] - left.number end
  end
  return head .. packed(shown, count * width)
end
