-- Concurrency slots: a sorted set for each subject and kind, its members the secrets of leases, its scores when they expire
-- (microseconds). This text is put after slots.lua and before the scripts that count or change leases.
--
-- Invariant: a lease whose time has come is as good as absent, and the set expires with its last.

-- Slots held, and when one will be free where all are: 0 where that can't be told.
local function in_use(key, slots, now)
  local live = '(' .. whole(now)
  local held = pcall_redis('ZCOUNT', key, live, '+inf')
  if type(held) ~= 'number' then
    -- A key of another type is in the way: it goes.
    call('DEL', key)
    held = 0
  end
  if held < slots or slots == 0 then return held, 0 end
  local first = call('ZRANGEBYSCORE', key, live, '+inf', 'WITHSCORES', 'LIMIT', held - slots, 1)
  return held, tonumber(first[2]) or 0
end

-- Has a lease end then, taken or renewed; those that have expired go.
local function hold(key, secret, ends, now)
  call('ZREMRANGEBYSCORE', key, '-inf', whole(now))
  call('ZADD', key, whole(ends), secret)
  local last = call('ZREVRANGE', key, 0, 0, 'WITHSCORES')
  call('PEXPIRE', key, expiry(tonumber(last[2]), now))
end
