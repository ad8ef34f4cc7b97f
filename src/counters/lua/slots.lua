-- How a subject's counters stand in Redis: this text is put after server.lua and before what reads or writes any of them.
--
-- Value: a head and a body, all integers unsigned and little-endian.
--   head: version (1 byte: 1), slots (1 byte), width (1 byte: numbers a slot, 1 to 3), then id and whole_at
--         (microseconds since 1970) of each slot, 7 bytes each
--   body: a, or a b, or a b c, of each slot, 7 bytes each
-- Seven bytes hold 2^53, up to where Lua's doubles are exact. Subjects of one tier in the same windows have the same
-- head, byte for byte, so a script reads it once for all of them.
-- Any other value is foreign: something else has put it there. Whatever stands in a value of the right length reads as
-- numbers, so no value can make a script fail.
-- A slot whose whole_at has come is as good as absent. MGET reads, since it takes a key of another type for none.
--
-- Invariant: a key is written with an expiry at the time when the last of its slots is whole.
local ceil, floor, max, min = math.ceil, math.floor, math.max, math.min
local pcall_redis = redis.pcall

local COUNT_MAX = 9007199254740991
local EMPTY_HEAD = '\1\0\1'

-- The format of so many numbers. Made once a call: a table that outlives the call can't be had.
local formats = {}
local function format_of(numbers)
  local format = formats[numbers] or '<' .. rep('I7', numbers)
  formats[numbers] = format
  return format
end

-- The length of the head, and how many numbers the body holds; nothing where the value is foreign.
local function measure(value)
  local version, slots, width = byte(value, 1, 3)
  if version ~= 1 or not width or width < 1 or width > 3 then return end
  local head_bytes, numbers = 3 + 14 * slots, slots * width
  if #value ~= head_bytes + 7 * numbers then return end
  return head_bytes, numbers
end

-- A whole number as text: Lua's own loses digits past the fourteenth.
local function whole(number)
  return string.format('%.0f', number)
end

-- The milliseconds until then, as text; at least 1.
local function expiry(whole_at, now)
  return whole(max(ceil((whole_at - now) / 1000), 1))
end

-- The slots of a value that are not whole yet, each {id, whole_at, a, b, c}; none where there is no value or a foreign one.
local function read(value, now)
  local slots = {}
  local head_bytes, numbers
  if value then head_bytes, numbers = measure(value) end
  if not head_bytes then return slots end
  local count, width = byte(value, 2, 3)
  local heads = {scan(format_of(2 * count), value, 4)}
  local body = {scan(format_of(numbers), value, head_bytes + 1)}
  for s = 1, count do
    if now < heads[2 * s] then
      local from = (s - 1) * width
      slots[#slots + 1] = {heads[2 * s - 1], heads[2 * s], 0, 0, 0}
      for n = 1, width do slots[#slots][2 + n] = body[from + n] end
    end
  end
  return slots
end

-- Stores slots in the place of what is there; no slots are no key.
local function store(key, slots, now)
  if #slots == 0 then
    call('DEL', key)
    return
  end
  local heads, body, width, last = {}, {}, 1, 0
  for _, slot in ipairs(slots) do
    if slot[5] ~= 0 then width = 3 elseif slot[4] ~= 0 then width = max(width, 2) end
    last = max(last, slot[2])
  end
  for s, slot in ipairs(slots) do
    heads[2 * s - 1], heads[2 * s] = slot[1], slot[2]
    for n = 1, width do body[(s - 1) * width + n] = slot[2 + n] end
  end
  local head = pack('<BBB' .. rep('I7', 2 * #slots), 1, #slots, width, unpack(heads))
  call('SET', key, head .. pack(format_of(#body), unpack(body)), 'PX', expiry(last, now))
end
