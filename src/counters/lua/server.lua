-- What each script asks of this server first: this text is put before all others. It is short, since a function and a name
-- that are made anew with each call are a good part of what a short call costs.
local pack, scan = struct.pack, struct.unpack
local byte, sub, rep = string.byte, string.sub, string.rep
local call, unpack = redis.call, unpack

-- The number of a generation; 0 where there is none, or something else stands in its place.
local function generation_of(value)
  return value and #value == 7 and scan('<I7', value) or 0
end

local function redis_time()
  local time = call('TIME')
  return time[1] * 1000000 + time[2]
end
