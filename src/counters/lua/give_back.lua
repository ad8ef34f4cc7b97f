-- Takes back what was charged beforehand and not used.
--
-- KEYS[1]    a mark that this was done: a call that is repeated takes nothing out
-- KEYS[2..]  a subject's counters each
-- ARGV[1]    MessagePack, one flat array, for each subject: windows, then for each: slot id, its end (microseconds), units
-- answer     1 where it was done, 0 where it had been already
--
-- Invariant: units are taken out of the window that they were charged to, or of none; never below nothing. A key that is gone
-- stays gone.

local MARK_KEPT_MS = '7200000'

local args = cmsgpack.unpack(ARGV[1])
local now = redis_time()
if not call('SET', KEYS[1], '', 'NX', 'PX', MARK_KEPT_MS) then return 0 end
local at = 1
for k = 2, #KEYS do
  local key = KEYS[k]
  local slots, changed = read(call('MGET', key)[1], now), false
  for _ = 1, args[at] do
    for _, slot in ipairs(slots) do
      if slot[1] == args[at + 1] and slot[2] == args[at + 2] then
        slot[3], changed = max(slot[3] - args[at + 3], 0), true
      end
    end
    at = at + 3
  end
  at = at + 1
  if changed then store(key, slots, now) end
end
return 1
