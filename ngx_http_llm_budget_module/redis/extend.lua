-- Copyright (C) the ngx_http_llm_budget_module authors
--
-- Moves the deadline of a hold, never earlier: llmb_call_extend().
--
--     id
--     "timeout": ms
--
-- { result, time, state }

local id, timeout = ARGV[1], ARGV[2]

if not is_id(id) or not match(timeout or '', '^%d+$') then
    return bad('of extend')
end

local hold = call('HGET', HOLDS, id)

if not hold then
    return check() or { 'unknown', now_text, '-' }
end

local state = sub(hold, 1, 1)

if state ~= '+' then
    return { 'closed', now_text, STATES[state] }
end

local deadline = call('ZSCORE', DUE, id)

if not deadline then
    return lost('a deadline')
end

if tonumber(deadline) < now + timeout then
    call('ZADD', DUE, later(timeout), id)
end

return { 'ok', now_text, '0' }
