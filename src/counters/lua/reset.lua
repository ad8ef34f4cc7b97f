-- Sets slots of one subject to nothing used.
--
-- KEYS[1]    the subject's counters
-- ARGV[1]    MessagePack, a flat array of slot ids; empty: every slot
-- answer     1
-- A value is that of slots.lua; one that is something else is deleted.
--
-- Invariant: slots that are not named keep what they hold and when they expire.

local ids = cmsgpack.unpack(ARGV[1])
local raw = #ids > 0 and redis.call('GET', KEYS[1])
local value = raw and read(raw) or { 1 }

for _, id in ipairs(ids) do
  local j = position(value, id)
  if j then
    value[j + 1] = 0
  end
end
if not store(KEYS[1], value) then
  redis.call('DEL', KEYS[1])
end
return 1
