-- Begins a batch, and decides the subjects whose values stand as the caller expects. This text is put after server.lua and
-- before those that decide any subject; decide.lua's head says the KEYS, the other arguments and the answer.
--
-- Most subjects were charged last by the plan that they are asked about now, in windows that still run. Their values then
-- have the head that such a charge leaves, which the caller knows and tells with each plan of one to four fixed windows.
-- Where a value has it, byte for byte, its counts stand in the plan's order; and where they leave room for all that is
-- asked of the subject together, nothing else has to be worked out. Where that is so for all subjects the batch ends here,
-- and what the texts behind this one would make, most of the price of a short batch, is not made.
--
-- ARGV[1]    integers, unsigned and little-endian: the sequence number of the batch, the generation that is asked (0: any;
--            7 bytes each), the place of the last counters in KEYS, plans (2 bytes each), then for each plan:
--              when the first of its windows ends, what each of four limits allows (2^53 - 1 where it is not enforced, or
--              there are fewer; 7 bytes each), the head (its length in 2 bytes, then it), runs (2 bytes), then for each
--              run of subjects, one after another in KEYS, that are asked the same by this plan:
--                the first one's place in KEYS, subjects (2 bytes each), the units of all checks of one (7 bytes), and
--                what comes of these checks where there is room for all (its length in 2 bytes, then it)
--
-- Invariant: a subject is decided here as decide.lua would decide it, or not at all: it then has no result.

local MARKER_KEPT = 7200000000

local asked = ARGV[1]
local sequence, any, last, plans, at = scan('<I7I7I2I2', asked)
local values = call('MGET', unpack(KEYS, 1, last))

local marker, ran, marker_ends = values[1], 0, 0
if marker and #marker >= 14 then ran, marker_ends = scan('<I7I7', marker) end
if ran >= sequence then return 'W' end
if any > 0 and generation_of(values[2]) ~= any then return 'G' .. pack('<I7', generation_of(values[2])) end

local now = redis_time()
local results, decided, charged_any = {}, 0, false

-- Ends the batch: what came of all checks is marked, and answered.
local function answer(extras)
  local outcome = table.concat(results)
  if charged_any and now + MARKER_KEPT <= marker_ends then
    -- It stands for long enough, and keeping an expiry is half the price of setting one.
    call('SET', KEYS[1], pack('<I7I7', sequence, marker_ends) .. outcome, 'KEEPTTL')
  elseif charged_any then
    call('SET', KEYS[1], pack('<I7I7', sequence, now + 2 * MARKER_KEPT) .. outcome, 'PX', '14400000')
  end
  return pack('<I7', now) .. outcome .. table.concat(values, '', 3, last) .. extras
end

for _ = 1, plans do
  local ends, w, x, y, z, head, runs
  ends, w, x, y, z, head, runs, at = scan('<I7I7I7I7I7I2c0I2', asked, at)
  local limits, head_bytes = byte(head, 2), #head
  local length = now < ends and head_bytes + 7 * limits
  local format, offset = '<' .. rep('I7', limits), tostring(head_bytes)
  for _ = 1, runs do
    local first, subjects, cost, result
    first, subjects, cost, result, at = scan('<I2I2I7I2c0', asked, at)
    for s = first, first + subjects - 1 do
      local value = values[s]
      if value and #value == length and sub(value, 1, head_bytes) == head then
        -- Four names are half the price of a list. Behind the last number stands where it ends, and then nothing.
        local a, b, c, d = scan(format, value, head_bytes + 1)
        a, b, c, d = a + cost, b + cost, (c or 0) + cost, (d or 0) + cost
        if a <= w and b <= x and c <= y and d <= z then
          if cost > 0 then
            -- The same windows: the key keeps its expiry, at half the price of SET with PX.
            call('SETRANGE', KEYS[s], offset, pack(format, a, b, c, d))
            charged_any = true
          end
          results[s - 2], decided = result, decided + 1
        end
      end
    end
  end
end
if decided == last - 2 then return answer('') end
