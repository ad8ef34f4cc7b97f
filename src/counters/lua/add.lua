-- Adds what was granted while this server could not be reached. Room is not asked for: it was given already.
--
-- KEYS[1]    a mark that this was done, kept for a minute: a call that is repeated adds nothing
-- KEYS[2..]  a subject's counters each, no subject twice
-- ARGV[1]    MessagePack, one flat array, for each subject: slots, then for each slot: id, whole_at, units
-- answer     1 where it was added, 0 where it had been already
-- The value is that of decide.lua.
--
-- Invariant: units are added to the window in which they were granted, or to none once that window is over.

local COUNT_MAX = 9007199254740991
local MARK_KEPT_MS = 60000

if not redis.call('SET', KEYS[1], '', 'PX', MARK_KEPT_MS, 'NX') then
  return 0
end

local args = cmsgpack.unpack(ARGV[1])
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local values = redis.call('MGET', unpack(KEYS, 2))
local at = 1

for s = 1, #KEYS - 1 do
  local readable, value = true, { 1 }
  if values[s] then
    readable, value = pcall(cmsgpack.unpack, values[s])
    if not (readable and type(value) == 'table' and value[1] == 1 and #value % 5 == 1) then
      value = { 1 }
    end
  end
  local slots = args[at]
  at = at + 1
  for _ = 1, slots do
    local id, whole_at, units = args[at], args[at + 1], args[at + 2]
    at = at + 3
    if now < whole_at then
      local position = #value + 1
      for j = 2, #value, 5 do
        if value[j] == id then
          position = j
        end
      end
      local live = value[position] and now < value[position + 1]
      local used = live and value[position + 2] or 0
      local ends = live and math.max(value[position + 1], whole_at) or whole_at
      value[position], value[position + 1], value[position + 2], value[position + 3], value[position + 4] =
        id, ends, math.min(used + units, COUNT_MAX), 0, 0
    end
  end
  local kept, expires = { 1 }, 0
  for j = 2, #value, 5 do
    if now < value[j + 1] then
      for k = j, j + 4 do
        kept[#kept + 1] = value[k]
      end
      expires = math.max(expires, value[j + 1])
    end
  end
  if #kept > 1 then
    redis.call('SET', KEYS[s + 1], cmsgpack.pack(kept), 'PX', math.ceil((expires - now) / 1000))
  end
end
return 1
