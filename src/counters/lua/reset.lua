-- Sets slots of one subject to nothing used.
--
-- KEYS[1]    the subject's counters
-- ARGV[1]    MessagePack, a flat array of slot ids; empty: every slot
-- answer     1
--
-- Invariant: slots that are not named keep what they hold and when they expire. A foreign value is deleted.

local ids = cmsgpack.unpack(ARGV[1])
local now = redis_time()
local named = {}
for _, id in ipairs(ids) do named[id] = true end

local kept = {}
if #ids > 0 then
  for _, slot in ipairs(read(call('MGET', KEYS[1])[1], now)) do
    if not named[slot[1]] then kept[#kept + 1] = slot end
  end
end
store(KEYS[1], kept, now)
return 1
