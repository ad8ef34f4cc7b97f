-- Which counters these are. A server that has lost them has lost this with them.
--
-- KEYS[1]    the generation
-- ARGV[1]    7 bytes: a number that nobody else has, taken where there is none; empty: it is only looked
-- answer     the generation that stands then, 7 bytes; 0: none
--
-- Invariant: a generation that stands is never replaced. It has no expiry: counters may be gone by their time, it not.

local value = call('MGET', KEYS[1])[1]
if generation_of(value) == 0 and #ARGV[1] == 7 then
  value = ARGV[1]
  call('SET', KEYS[1], value)
end
return pack('<I7', generation_of(value))
