-- Changes leases: of any subjects, each change by itself.
--
-- KEYS[n]      the set that the lease of change n stands in
-- ARGV[1]      MessagePack, one flat array, for each change: what (0 held until then, whoever is in its way; 1 renewed for so
--              long, 2 released), and the instant or the length in microseconds
-- ARGV[n + 1]  the secret of the lease of change n
-- answer       the time (7 bytes, microseconds), then a byte for each change: '1' where it was made, '0' where the lease is not
--              held
--
-- Invariant: only a lease that is held is renewed or released, and only by its secret.

local HOLD, RENEW = 0, 1

local args = cmsgpack.unpack(ARGV[1])
local now = redis_time()
local made = {}
for n, key in ipairs(KEYS) do
  local what, time, secret = args[2 * n - 1], args[2 * n], ARGV[n + 1]
  local ends = pcall_redis('ZSCORE', key, secret)
  local live = type(ends) == 'string' and now < tonumber(ends)
  in_use(key, 0, now) -- A key of another type goes.
  if what == HOLD then
    if time > now then hold(key, secret, time, now) end
  elseif live and what == RENEW then
    hold(key, secret, now + time, now)
  elseif live then
    call('ZREM', key, secret)
  end
  made[n] = (live or what == HOLD) and '1' or '0'
end
return pack('<I7', now) .. table.concat(made)
