-- What the scripts share: it stands before each of them.
--
-- A value is MessagePack, one flat array: 1, then for each slot: id, whole_at, a, b, c. Times are in microseconds by this
-- server's clock. A slot whose whole_at has come is as good as absent.

local COUNT_MAX = 9007199254740991

local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]

-- The value that stands in raw (false: none); nil where it is something else.
local function read(raw)
  if not raw then
    return { 1 }
  end
  local readable, value = pcall(cmsgpack.unpack, raw)
  if readable and type(value) == 'table' and value[1] == 1 and #value % 5 == 1 then
    return value
  end
  return nil
end

-- The position of a slot in a value; nil where it has none.
local function position(value, slot)
  for j = 2, #value, 5 do
    if value[j] == slot then
      return j
    end
  end
  return nil
end

-- Stores the slots of a value that are not whole yet, until the last of them is; false where there are none.
local function store(key, value)
  local kept, expires = { 1 }, 0
  for j = 2, #value, 5 do
    if now < value[j + 1] then
      local n = #kept
      kept[n + 1], kept[n + 2], kept[n + 3], kept[n + 4], kept[n + 5] =
        value[j], value[j + 1], value[j + 2], value[j + 3], value[j + 4]
      expires = math.max(expires, value[j + 1])
    end
  end
  if #kept == 1 then
    return false
  end
  redis.call('SET', key, cmsgpack.pack(kept), 'PX', math.ceil((expires - now) / 1000))
  return true
end

