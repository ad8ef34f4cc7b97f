-- Adds what was granted while this server could not be reached. Room is not asked for: it was given already.
--
-- KEYS[1]    a mark that this was done: a call that is repeated adds nothing
-- KEYS[2..]  a subject's counters each, no subject twice
-- ARGV[1]    MessagePack, one flat array, for each subject: slots, then for each slot: id, whole_at, units
-- answer     1 where it was added, 0 where it had been already
--
-- Invariants: units are added to the window in which they were granted, or to none once that window is over. The mark is
-- kept for as long as any unit could be added twice. A foreign value is replaced.

local args = cmsgpack.unpack(ARGV[1])
local now = redis_time()
if call('EXISTS', KEYS[1]) == 1 then
  return 0
end

local values = call('MGET', unpack(KEYS))
local at, last = 1, now
for s = 2, #KEYS do
  local slots = read(values[s], now)
  local changed = false
  for _ = 1, args[at] do
    local id, whole_at, units = args[at + 1], args[at + 2], args[at + 3]
    at = at + 3
    if now < whole_at then
      local found
      for _, slot in ipairs(slots) do
        if slot[1] == id then found = slot end
      end
      if found then
        found[2], found[3] = max(found[2], whole_at), min(found[3] + units, COUNT_MAX)
      else
        slots[#slots + 1] = {id, whole_at, units, 0, 0}
      end
      last, changed = max(last, whole_at), true
    end
  end
  at = at + 1
  if changed then store(KEYS[s], slots, now) end
end
call('SET', KEYS[1], '', 'PX', expiry(last, now))
return 1
