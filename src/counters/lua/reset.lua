-- Sets slots of one subject to nothing used.
--
-- KEYS[1]    the subject's counters
-- ARGV[1]    MessagePack, a flat array of slot ids; empty: every slot
-- answer     1
-- The value is that of decide.lua.
--
-- Invariant: slots that are not named keep what they hold and when they expire.

local ids = cmsgpack.unpack(ARGV[1])
local raw = #ids > 0 and redis.call('GET', KEYS[1])
local readable, value = false, nil
if raw then
  readable, value = pcall(cmsgpack.unpack, raw)
end
if not (readable and type(value) == 'table' and value[1] == 1 and #value % 5 == 1) then
  redis.call('DEL', KEYS[1])
  return 1
end

local named = {}
for _, id in ipairs(ids) do
  named[id] = true
end
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local kept, expires = { 1 }, 0
for j = 2, #value, 5 do
  if not named[value[j]] and now < value[j + 1] then
    for k = j, j + 4 do
      kept[#kept + 1] = value[k]
    end
    expires = math.max(expires, value[j + 1])
  end
end
if #kept > 1 then
  redis.call('SET', KEYS[1], cmsgpack.pack(kept), 'PX', math.ceil((expires - now) / 1000))
else
  redis.call('DEL', KEYS[1])
end
return 1
