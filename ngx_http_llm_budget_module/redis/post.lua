-- Copyright (C) the ngx_http_llm_budget_module authors
--
-- Charges and closes a hold: llmb_call_post().
--
--     id
--     "keep": ms
--     "amount ... ": what to charge, by unit
--     to charge a hold that is not known, "legs", and then for each account:
--         key; "unit limit end forget"; name
--
-- { result, time, state }

local id, keep, extra = ARGV[1], ARGV[2], ARGV[4]
local actual = { match(ARGV[3] or '',
                       '^(%d+) (%d+) (%d+) (%d+) (%d+) (%d+)$') }
local n = extra and (#ARGV - 4) / 3

if not is_id(id) or not match(keep or '', '^%d+$') or #actual ~= 6
    or (extra and (extra ~= 'legs' or n ~= math.floor(n) or n > 32))
then
    return bad('of post')
end

for i = 1, 6 do
    if not is_int(actual[i]) then
        return bad('of post')
    end
end

local hold = call('HGET', HOLDS, id)

if hold then
    local state = sub(hold, 1, 1)

    if state ~= '+' then
        return { state == 'p' and 'ok' or 'closed', now_text, STATES[state] }
    end

    return settle(id, hold, 'p', keep, actual)
           or { 'ok', now_text, STATES.p }
end

local err = check()

if err then
    return err
end

if not extra then
    return { 'unknown', now_text, '-' }
end

-- It was never opened here, or was forgotten or lost: it is opened holding
-- nothing, and posted, in one.

local unit, limit, till, gone, fields, seen = {}, {}, {}, {}, {}, {}

for i = 1, n do
    local key, f = ARGV[i * 3 + 2], i * 4

    unit[i], limit[i], till[i], gone[i] =
        match(ARGV[i * 3 + 3], '^([0-5]) (%d+) (%d+) (%d+)$')

    if not is_id(key) or not unit[i] or seen[key] then
        return bad('of a leg')
    end

    seen[key] = true
    fields[f - 3], fields[f - 2], fields[f - 1], fields[f] =
        key .. 's', key .. 'h', key .. 'p', key .. 'i'
end

local values = n > 0 and call('HMGET', ACCOUNTS, unpack(fields))
local spent = {}

for i = 1, n do
    local f = i * 4
    local text = values[f]

    spent[i] = numbers(values[f - 3], values[f - 2], values[f - 1], text)

    if not spent[i] then
        return lost('an account')
    end

    if text and sub(text, 1, 2) ~= unit[i] .. ' ' then
        return { 'bad', now_text, '-' }
    end
end

begin()

for i = 1, n do
    local key = ARGV[i * 3 + 2]
    local cost = unit[i] == CONCURRENCY and '0' or actual[unit[i] + 1]

    if cost == '0' then
        -- nothing to write: an account with nothing may be absent

    elseif values[i * 4] then
        local sum = charge(key, spent[i], cost)

        if sum then
            call('HSET', ACCOUNTS, key .. 's', sum)
        end

    else
        call('HSET', ACCOUNTS, key .. 's', cost, key .. 'h', '0',
             key .. 'p', '0', key .. 'i',
             info(unit[i], limit[i], till[i], gone[i], ARGV[i * 3 + 4]))
        register(key, till[i], gone[i])
    end
end

count('opened')
remember(id, 'p', keep)

return { 'ok', now_text, STATES.p }
