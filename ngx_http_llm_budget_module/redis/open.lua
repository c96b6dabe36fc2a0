-- Copyright (C) the ngx_http_llm_budget_module authors
--
-- Opens a hold: llmb_call_open().
--
--     id
--     "timeout keep charge start end": ms; the legs' periods have in common
--         the time from start to before end
--     for each leg: key; "unit limit amount postpaid degrade end forget";
--         name.  amount: of all legs with this key; degrade "-": never
--
-- { result, time, replayed, leg refused, spent and held of each leg }

local id, head = ARGV[1], ARGV[2]
local timeout, keep, charging, start, till =
    match(head or '',
          '^(%d+) (%d+) ([01]) (%d+) (%d+)$')
local n = (#ARGV - 2) / 3

if not is_id(id) or not timeout or n ~= math.floor(n) or n > 32 then
    return bad('of open')
end

-- by account: its first leg, the lowest limit
local first, lowest, keys, fields, index = {}, {}, {}, {}, {}
-- by leg: its account
local place = {}
local unit, limit, amount, postpaid, degrade, ends, gone =
    {}, {}, {}, {}, {}, {}, {}
local m = 0

for i = 1, n do
    local key, numbers = ARGV[i * 3], ARGV[i * 3 + 1]
    local ok

    unit[i], ok, amount[i], postpaid[i], degrade[i], ends[i], gone[i] =
        match(numbers or '',
              '^([0-5]) (%d+) (%d+) ([01]) ([%d-]+) (%d+) (%d+)$')

    limit[i] = tonumber(ok)

    if not is_id(key) or not ok or limit[i] > LIMIT or not is_int(amount[i])
        or (degrade[i] ~= '-' and (find(degrade[i], '%D')
                                   or tonumber(degrade[i]) > LIMIT))
    then
        return bad('of a leg')
    end

    local k = index[key]

    if not k then
        m = m + 1
        index[key] = m
        k = m
        keys[k], first[k], lowest[k] = key, i, ok

        local f = k * 4
        fields[f - 3], fields[f - 2], fields[f - 1], fields[f] =
            key .. 's', key .. 'h', key .. 'p', key .. 'i'

    elseif unit[first[k]] ~= unit[i] or amount[first[k]] ~= amount[i] then
        return bad('of two legs')

    elseif limit[i] < tonumber(lowest[k]) then
        lowest[k] = ok
    end

    place[i] = k
end

local err = sweep(keep, charging == '1')

if err then
    return err
end

local hold = call('HGET', HOLDS, id)
local values = m > 0 and call('HMGET', ACCOUNTS, unpack(fields))
local used, held, pending = {}, {}, {}

for k = 1, m do
    local f = k * 4
    local text = values[f]
    local s, h, p = numbers(values[f - 3], values[f - 2], values[f - 1], text)

    if not s then
        return lost('an account')
    end

    used[k], held[k], pending[k] = s + h, h, p

    if text and sub(text, 1, 2) ~= unit[first[k]] .. ' ' then
        return { 'bad', now_text }
    end
end

local answer = { 'ok', now_text, hold and '1' or '0', '0' }

for i = 1, n do
    local f = place[i] * 4

    answer[3 + i * 2], answer[4 + i * 2] =
        values[f - 3] or '0', values[f - 2] or '0'
end

if hold then
    if sub(hold, 1, 1) ~= '+' then
        answer[1] = 'closed'
    end

    return answer
end

if n > 0 and (now < tonumber(start) or now >= tonumber(till)) then
    return { 'late', now_text }
end

-- no room anywhere comes before a threshold anywhere; what compares is exact,
-- see common.lua

for i = 1, n do
    local sum = used[place[i]]

    if (postpaid[i] == '1' and sum >= limit[i])
        or (amount[i] ~= '0' and sum + tonumber(amount[i]) > limit[i])
    then
        answer[1], answer[4] = 'denied', tostring(i - 1)
        count('denied')

        return answer
    end
end

for i = 1, n do
    if degrade[i] ~= '-' and used[place[i]] >= tonumber(degrade[i]) then
        answer[1], answer[4] = 'degrade', tostring(i - 1)

        return answer
    end
end

-- now it is opened

begin()

local legs, set, s = { '+' }, {}, 0

for k = 1, m do
    local i, key, f = first[k], keys[k], k * 4
    local text = values[f]

    legs[k + 1] = key .. '.' .. unit[i] .. '.' .. amount[i] .. ','

    if not text then
        set[s + 1], set[s + 2] = fields[f - 3], '0'
        set[s + 3], set[s + 4] = fields[f - 2], amount[i]
        set[s + 5], set[s + 6] = fields[f - 1], '1'
        set[s + 7], set[s + 8] = fields[f],
            info(unit[i], lowest[k], ends[i], gone[i], ARGV[i * 3 + 2])
        s = s + 8

        register(key, ends[i], gone[i])

    else
        set[s + 1], set[s + 2] = fields[f - 1], format('%d', pending[k] + 1)
        s = s + 2

        if amount[i] ~= '0' then
            set[s + 1], set[s + 2] =
                fields[f - 2], format('%d', held[k] + tonumber(amount[i]))
            s = s + 2
        end

        local same = unit[i] .. ' ' .. lowest[k] .. ' '

        if sub(text, 1, #same) ~= same then
            set[s + 1], set[s + 2] = fields[f],
                same .. match(text, '^%d %d+ (.*)$')
            s = s + 2
        end
    end
end

if s > 0 then
    call('HSET', ACCOUNTS, unpack(set))
end

call('HSET', HOLDS, id, table.concat(legs))
call('ZADD', DUE, later(timeout), id)
count('opened')

return answer
