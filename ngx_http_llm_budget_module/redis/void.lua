-- Copyright (C) the ngx_http_llm_budget_module authors
--
-- Closes a hold without a charge: llmb_call_void().
--
--     id
--     "keep": ms
--
-- { result, time, state }

local id, keep = ARGV[1], ARGV[2]

if not is_id(id) or not match(keep or '', '^%d+$') then
    return bad('of void')
end

local hold = call('HGET', HOLDS, id)

if hold then
    local state = sub(hold, 1, 1)

    if state ~= '+' then
        return { state == 'v' and 'ok' or 'closed', now_text, STATES[state] }
    end

    return settle(id, hold, 'v', keep)
           or { 'ok', now_text, STATES.v }
end

local err = check()

if err then
    return err
end

-- its open may yet come

begin()
count('opened')
remember(id, 'v', keep)

return { 'unknown', now_text, '-' }
