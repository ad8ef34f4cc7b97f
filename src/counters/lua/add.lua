-- Adds what was granted while this server could not be reached. Room is not asked for: it was given already.
--
-- KEYS[1]    a mark that this was done, kept for a minute: a call that is repeated adds nothing
-- KEYS[2..]  a subject's counters each, no subject twice
-- ARGV[1]    MessagePack, one flat array, for each subject: slots, then for each slot: id, whole_at, units
-- answer     1 where it was added, 0 where it had been already
-- A value is that of slots.lua; one that is something else is replaced.
--
-- Invariant: units are added to the window in which they were granted, or to none once that window is over.

local MARK_KEPT_MS = 60000

if not redis.call('SET', KEYS[1], '', 'PX', MARK_KEPT_MS, 'NX') then
  return 0
end

local args = cmsgpack.unpack(ARGV[1])
local values = redis.call('MGET', unpack(KEYS, 2))
local at = 1

for s = 1, #KEYS - 1 do
  local value = read(values[s]) or { 1 }
  local slots = args[at]
  at = at + 1
  for _ = 1, slots do
    local id, whole_at, units = args[at], args[at + 1], args[at + 2]
    at = at + 3
    if now < whole_at then
      local j = position(value, id) or #value + 1
      local live = value[j] and now < value[j + 1]
      local used = live and value[j + 2] or 0
      local ends = live and math.max(value[j + 1], whole_at) or whole_at
      value[j], value[j + 1], value[j + 2], value[j + 3], value[j + 4] =
        id, ends, math.min(used + units, COUNT_MAX), 0, 0
    end
  end
  store(KEYS[s + 1], value)
end
return 1
