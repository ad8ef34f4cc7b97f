-- Decides a batch of checks: many subjects, each with several checks in order, each check all-or-nothing over its limits.
-- The same rule as src/domain/decide.rs and src/domain/fixed_window.rs, by the time of this server.
--
-- KEYS[1]    where the answer is kept for a minute, so that one that is lost on the line can be read later
-- KEYS[2..]  a subject's counters each, no subject twice
-- ARGV[1]    MessagePack, one flat array:
--              plans, then for each plan:      limits, then for each limit: slot, requests, enforce (1 or 0), period, anchor
--              then for each subject:          checks, then for each check: plan (from 1), cost, mode
--            period and anchor are in microseconds: windows begin at anchor plus multiples of period.
--            mode: 0 charge, 1 only look, 2 charge whether there is room or not
-- answer     MessagePack, one flat array:
--              now, then for each subject:     its value as it was read (false: none; -1: unreadable, and now deleted),
--                                              then 1 (allowed) or 0 (denied) for each check; none where unreadable
-- A value is that of slots.lua.
--
-- Invariant: what is stored is what was allowed and charged, every stored key has an expiry, and a denied check changes nothing.

local ANSWER_KEPT_MS = 60000

local fmod, min, max = math.fmod, math.min, math.max

local args = cmsgpack.unpack(ARGV[1])
local subjects = #KEYS - 1
local at = 1

local plans = {}
local plan_count = args[1]
for p = 1, plan_count do
  local limits = args[at + 1]
  plans[p] = at + 1
  at = at + 1 + limits * 5
end

local values = redis.call('MGET', unpack(KEYS, 2))

local function has_room(value, first, last, cost)
  for l = first, last, 5 do
    if args[l + 2] == 1 then
      local j = position(value, args[l])
      local used = 0
      if j and now < value[j + 1] then
        used = value[j + 2]
      end
      if used + cost > args[l + 1] then
        return false
      end
    end
  end
  return true
end

local function charge(value, first, last, cost)
  for l = first, last, 5 do
    local period = args[l + 3]
    local whole_at = now - fmod(now - args[l + 4], period) + period
    local j = position(value, args[l])
    if j and now < value[j + 1] then
      value[j + 1] = max(value[j + 1], whole_at)
      value[j + 2] = min(value[j + 2] + cost, COUNT_MAX)
    else
      j = j or #value + 1
      value[j], value[j + 1], value[j + 2], value[j + 3], value[j + 4] = args[l], whole_at, min(cost, COUNT_MAX), 0, 0
    end
  end
end

local answer = { now }
for s = 1, subjects do
  local raw = values[s]
  local value = read(raw)
  local checks = args[at + 1]
  at = at + 1
  if not value then
    redis.call('DEL', KEYS[s + 1])
    answer[#answer + 1] = -1
    at = at + checks * 3
  else
    answer[#answer + 1] = raw
    local changed = false
    for _ = 1, checks do
      local plan, cost, mode = plans[args[at + 1]], args[at + 2], args[at + 3]
      at = at + 3
      local first, last = plan + 1, plan + args[plan] * 5
      if cost == 0 then
        answer[#answer + 1] = 1
      elseif mode == 2 or has_room(value, first, last, cost) then
        answer[#answer + 1] = 1
        if mode ~= 1 then
          charge(value, first, last, cost)
          changed = true
        end
      else
        answer[#answer + 1] = 0
      end
    end
    if changed then
      store(KEYS[s + 1], value)
    end
  end
end

local packed = cmsgpack.pack(answer)
redis.call('SET', KEYS[1], packed, 'PX', ANSWER_KEPT_MS)
return packed
