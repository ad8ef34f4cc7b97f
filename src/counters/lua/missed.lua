-- What came of a batch whose answer was lost. One that has not run is withdrawn: it will not, however late it comes.
--
-- KEYS[1]    the marker that the batch was sent with
-- ARGV[1]    the sequence number of the batch
-- answer     the batch's bytes, one a check, as decide.lua gives them; empty: it has not run, or charged nothing
--
-- Invariant: what is answered here stays true.

local MARKER_KEPT_MS = '7200000'

local sequence = tonumber(ARGV[1])
local marker = call('MGET', KEYS[1])[1]
if marker and #marker >= 14 and scan('<I7', marker) == sequence then
  return sub(marker, 15)
end
-- Without an end, so that the batch that is marked next sets another expiry.
call('SET', KEYS[1], pack('<I7I7', sequence, 0), 'PX', MARKER_KEPT_MS)
return ''
