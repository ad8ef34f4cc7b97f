-- The leases of one subject and kind that are held, in the order of when they expire, then of their secrets.
--
-- KEYS[1]  the set that they stand in
-- ARGV     from when on (microseconds); the secret behind which those begin that expire just then, empty for all of them; how
--          many are wanted
-- answer   for each: when it expires (7 bytes, microseconds), its secret (16 bytes)
--
-- Invariant: nothing is written, but that a key of another type goes.

local CHUNK = 256

local from, behind, wanted = tonumber(ARGV[1]), ARGV[2], tonumber(ARGV[3])
-- A lease whose time has come is as good as absent.
from = max(from, redis_time() + 1)

-- By bytes: Lua compares texts as the server's locale does.
local function is_behind(secret, other)
  for n = 1, #other do
    local own, of_other = byte(secret, n) or 0, byte(other, n)
    if own ~= of_other then return own > of_other end
  end
  return false
end

local found, offset = {}, 0
repeat
  local part = pcall_redis('ZRANGEBYSCORE', KEYS[1], whole(from), '+inf', 'WITHSCORES', 'LIMIT', offset, CHUNK)
  if part.err then
    call('DEL', KEYS[1])
    break
  end
  for n = 1, #part, 2 do
    local secret, ends = part[n], tonumber(part[n + 1])
    local is_wanted = ends > tonumber(ARGV[1]) or behind == '' or is_behind(secret, behind)
    if is_wanted and #secret == 16 and #found < wanted then found[#found + 1] = pack('<I7', ends) .. secret end
  end
  offset = offset + CHUNK
until #part == 0 or #found >= wanted
return table.concat(found)
