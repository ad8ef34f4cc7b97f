-- Asks quotad about the request that HAProxy holds: `http-request lua.quotad`, by the HTTP client that HAProxy 2.6 and later have.
--
-- Who may pass goes on, with the variable `txn.quotad` set. Who may not is answered here as quotad answers. Where quotad has not
-- decided, or this script fails, the variable is not set: haproxy.cfg says what becomes of the request.

-- The listener `quotad` of haproxy.cfg: it says where quotad is, and its time-outs bound the question.
local URL, LISTENER, TIMEOUT_MS = "http://quotad/api/v2/forward-auth", "abns@quotad", 2000

-- Nothing else that the client sends is handed on. quotad believes this proxy, so it must not hear a client's X-Forwarded-For,
-- Forwarded or X-Original-URI from it.
local CREDENTIALS = { "authorization", "x-api-key" }

local FOR_APPLICATION = { "x-quotad-subject", "x-quotad-tier" }
local FOR_CLIENT = {
    "x-ratelimit-limit", "x-ratelimit-remaining", "x-ratelimit-reset", "x-ratelimit-mode", "ratelimit", "ratelimit-policy",
}
local WITH_REFUSAL = { "retry-after", "x-ratelimit-retry-after", "www-authenticate", "content-type" }

local REASONS = { [401] = "Unauthorized", [429] = "Too Many Requests" }

-- The first value of each of these headers, by `put(name, value)`. HAProxy counts values from 0.
local function each(names, headers, put)
    for _, name in ipairs(names) do
        if headers[name] then put(name, headers[name][0]) end
    end
end

local function question(txn)
    local headers = {
        ["x-forwarded-for"] = { txn.f:src() },
        ["x-forwarded-method"] = { txn.f:method() },
        ["x-forwarded-uri"] = { txn.f:pathq() },
    }
    local sent = txn.http:req_get_headers()
    for _, name in ipairs(CREDENTIALS) do
        -- All values: quotad refuses a credential that is given twice.
        local values, at = {}, 0
        while sent[name] and sent[name][at] do
            values[#values + 1] = sent[name][at]
            at = at + 1
        end
        if #values > 0 then headers[name] = values end
    end
    return headers
end

local function let_pass(txn, answer)
    each(FOR_APPLICATION, answer.headers, function(name, value) txn.http:req_set_header(name, value) end)
    txn:set_priv(answer.headers)
    txn:set_var("txn.quotad", "passes")
end

local function refuse(txn, answer)
    local reply = txn:reply({ status = answer.status, reason = REASONS[answer.status] })
    local function put(name, value) reply:add_header(name, value) end
    each(FOR_CLIENT, answer.headers, put)
    each(WITH_REFUSAL, answer.headers, put)
    reply:set_body(answer.body)
    txn:done(reply)
end

core.register_action("quotad", { "http-req" }, function(txn)
    local answer = core.httpclient():get({ url = URL, dst = LISTENER, timeout = TIMEOUT_MS, headers = question(txn) })
    if answer.status == 200 then
        let_pass(txn, answer)
    elseif REASONS[answer.status] then
        refuse(txn, answer)
    end
end)

-- The rate-limit headers, on the answer of the application.
core.register_action("quotad_headers", { "http-res" }, function(txn)
    local function put(name, value) txn.http:res_set_header(name, value) end
    each(FOR_CLIENT, txn:get_priv() or {}, put)
end)
