-- Copyright (C) the ngx_http_llm_budget_module authors
--
-- Put in front of each script at build: the keys, the clock, the checks, and
-- how a hold leaves pending.  core/llmb_ledger.h is the model that the scripts
-- agree with; core/llmb_call.c makes their arguments and reads their answers.
--
-- accounts: four fields for each account, its key as 32 hex digits and then
--     "s" spent, "h" held, "p" pending holds, and "i", which is
--     "unit limit end forget name".  Written when the account is made, and
--     "i" when the limit changed.  The field "!" says that the hash is there.
-- holds: by id as 32 hex digits, "+" and the legs "key.unit.amount," of a
--     pending hold, else a letter for how it was closed.  "!" as above.
-- due: the ids of pending holds by deadline.
-- closed: what is to be forgotten, by the time: ids of closed holds, and
--     accounts as "a" and the key; +inf: never.
-- meta: counters, and "gen", made at first use.
--
-- The sets have "!" as well, at +inf: all five keys are there, always, or a
-- cluster would answer TRYAGAIN for as long as their slot is on its way.
--
-- So what is in the hashes is in the sorted sets, once, and a key that was
-- deleted or evicted shows in the lengths (T64): LOST, never read as zero.
--
-- Numbers are doubles, exact up to 2^53; amounts may be greater, and come and
-- go as strings.  What is done with numbers is exact: let x, y be integers
-- >= 0, and L < 2^53.  Up to 2^53 each is its own double.  Rounding is
-- monotone, so what is above becomes 2^53 or more, and so does a sum with it,
-- or a sum that is above 2^53.  So
--
--     tonumber(x) + tonumber(y) <= L  if and only if  x + y <= L
--
-- and then the sum is exact.  Limits and thresholds are 9 * 10^15 < 2^53 at
-- most, and what is held is never above a limit.  What is spent may be: from
-- 2^53 on it is added by HINCRBY.
--
-- Redis refuses the first write of a script when it is out of memory or not
-- the master, and no write after it: a script writes all or nothing.

local call, pcall = redis.call, redis.pcall
local find, match, gmatch, sub, format =
    string.find, string.match, string.gmatch, string.sub, string.format

local ACCOUNTS, HOLDS, DUE, CLOSED, META =
    KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]

-- of each kind, by one call at most: LLMB_LEDGER_SWEEP
local SWEEP = '32'

-- an account whose period is over but that has pending holds is looked at
-- again after so many ms
local AGAIN = 3600000

-- LLMB_MONEY_LIMIT_NUSD, and 2^53 - 1
local LIMIT = 9000000000000000
local EXACT = 9007199254740991

local MAX = '9223372036854775807'

-- LLMB_UNIT_CONCURRENCY, and as llmb_hold_e
local CONCURRENCY = '5'
local STATES = { p = '1', v = '2', e = '3' }
local COUNTERS = { p = 'posted', v = 'voided', e = 'expired' }

-- milliseconds; as text without the cost of printing a double
local time = redis.call('TIME')
local now_text = time[1] .. sub('00000' .. time[2], -6, -4)
local now = tonumber(now_text)

local fresh


local function bad(what)
    return redis.error_reply('ARGS ' .. what)
end


local function lost(what)
    return redis.error_reply('LOST ' .. what .. ' of ' .. ACCOUNTS)
end


local function is_id(s)
    return s and #s == 32 and not find(s, '%X')
end


-- digits only; whether 0 <= s < 2^63

local function is_int(s)
    if #s < 19 then
        return true
    end

    local high, low = tonumber(sub(s, 1, 9)), tonumber(sub(s, 10))

    return #s == 19
           and (high < 922337203 or (high == 922337203 and low <= 6854775807))
end


-- Every account and hold is in both a hash and a set, or a key was lost.

local function check()
    local accounts, holds = call('HLEN', ACCOUNTS), call('HLEN', HOLDS)
    local due, closed = call('ZCARD', DUE), call('ZCARD', CLOSED)

    if accounts + holds + due + closed == 0 then
        if call('HEXISTS', META, 'gen') == 1 then
            return lost('everything')
        end

        fresh = true
        return
    end

    if holds == 0 or due == 0 or closed == 0
        or (accounts - 1) / 4 + holds - 1 ~= due - 1 + closed - 1
    then
        return lost('a key')
    end
end


-- Before the first write of open, post and void.

local function begin()
    if fresh then
        local gen = redis.sha1hex(time[1] .. '.' .. time[2] .. '.' .. ACCOUNTS)

        call('HSET', META, 'gen', gen)
        call('HSET', ACCOUNTS, '!', gen)
        call('HSET', HOLDS, '!', gen)
        call('ZADD', DUE, '+inf', '!')
        call('ZADD', CLOSED, '+inf', '!')
        fresh = nil
    end
end


-- So many ms from now.  "%d" costs much less than what call() does to numbers.

local function later(ms)
    return format('%d', math.min(now + ms, EXACT))
end


-- The first hold of all: this is after begin(), or else meta alone was lost,
-- which is no loss of money.

local function count(counter)
    if call('HINCRBY', META, counter, '1') == 1 and counter == 'opened' then
        call('HSETNX', META, 'gen', now_text)
    end
end


-- The numbers of an account: nothing for one that is not there, false where
-- some of it is missing.

local function numbers(spent, held, pending, text)
    if not spent and not held and not pending and not text then
        return 0, 0, 0
    end

    spent, held, pending =
        tonumber(spent or ''), tonumber(held or ''), tonumber(pending or '')

    if not spent or not held or not pending or not text or held > LIMIT then
        return false
    end

    return spent, held, pending
end


-- spent + amount, as text; the sum that is exact is written by the caller,
-- another one here.

local function charge(key, spent, amount)
    local sum = spent + tonumber(amount)

    if sum <= EXACT then
        return format('%d', sum)
    end

    -- overflow is the one reason to fail here

    if type(pcall('HINCRBY', ACCOUNTS, key .. 's', amount)) == 'table' then
        call('HSET', ACCOUNTS, key .. 's', MAX)
    end
end


local function remember(id, state, keep)
    call('HSET', HOLDS, id, state)
    call('ZADD', CLOSED, later(keep), id)
    count(COUNTERS[state])
end


-- The only way out of pending.  actual: amounts by unit, or nil: what was
-- held if charging, else nothing.  An error, and then nothing was done, or
-- nil.

local function settle(id, hold, state, keep, actual, charging)
    local keys, units, amounts, fields, n = {}, {}, {}, {}, 0

    for key, unit, amount in gmatch(hold, '(%x+)%.(%d)%.(%d+),') do
        local f = n * 3

        n = n + 1
        keys[n], units[n], amounts[n] = key, unit, amount
        fields[f + 1], fields[f + 2], fields[f + 3] =
            key .. 's', key .. 'h', key .. 'p'
    end

    local values = n > 0 and call('HMGET', ACCOUNTS, unpack(fields))
    local spent, held, pending = {}, {}, {}

    for i = 1, n do
        local f = i * 3
        local s, h, p = numbers(values[f - 2], values[f - 1], values[f], true)

        if not s then
            return lost('an account')
        end

        h, p = h - tonumber(amounts[i]), p - 1

        if h < 0 or p < 0 or (p == 0 and h ~= 0) then
            return lost('an account')
        end

        spent[i], held[i], pending[i] = s, h, p
    end

    -- what is written first needs no memory, so that all of it can be done
    -- when there is none

    if call('ZREM', DUE, id) == 0 then
        return lost('a deadline')
    end

    local set, m = {}, 0

    for i = 1, n do
        local key, f = keys[i], i * 3 - 2
        local cost = '0'

        if units[i] ~= CONCURRENCY then
            if actual then
                cost = actual[units[i] + 1]

            elseif charging then
                cost = amounts[i]
            end
        end

        if pending[i] == 0 and spent[i] == 0 and cost == '0' then
            call('HDEL', ACCOUNTS, fields[f], fields[f + 1], fields[f + 2],
                 key .. 'i')
            call('ZREM', CLOSED, 'a' .. key)

        else
            set[m + 1], set[m + 2] = fields[f + 1], format('%d', held[i])
            set[m + 3], set[m + 4] = fields[f + 2], format('%d', pending[i])
            m = m + 4

            if cost ~= '0' then
                local sum = charge(key, spent[i], cost)

                if sum then
                    set[m + 1], set[m + 2] = fields[f], sum
                    m = m + 2
                end
            end
        end
    end

    if m > 0 then
        call('HSET', ACCOUNTS, unpack(set))
    end

    remember(id, state, keep)
end


local function past(set)
    return ipairs(call('ZRANGEBYSCORE', set, '-inf', now_text, 'LIMIT', '0',
                       SWEEP))
end


local function expire(keep, charging)
    for _, id in past(DUE) do
        local hold = call('HGET', HOLDS, id)

        if not hold or sub(hold, 1, 1) ~= '+' then
            return lost('a hold')
        end

        local err = settle(id, hold, 'e', keep, nil, charging)

        if err then
            return err
        end
    end
end


-- Closed holds, and accounts of long past periods.

local function forget()
    for _, member in past(CLOSED) do
        if #member == 32 then
            call('ZREM', CLOSED, member)
            call('HDEL', HOLDS, member)

        else
            local key = sub(member, 2)
            local pending = call('HGET', ACCOUNTS, key .. 'p')

            if not pending then
                return lost('an account')
            end

            if pending == '0' then
                call('ZREM', CLOSED, member)
                call('HDEL', ACCOUNTS, key .. 's', key .. 'h', key .. 'p',
                     key .. 'i')

            else
                call('ZADD', CLOSED, later(AGAIN), member)
            end
        end
    end
end


-- Each hold and account of it is done as a whole: an error in the middle
-- leaves what was done before it done.

local function sweep(keep, charging)
    return check() or expire(keep, charging) or forget()
end


local function info(unit, limit, till, gone, name)
    return unit .. ' ' .. limit .. ' ' .. till .. ' ' .. gone .. ' ' .. name
end


-- Puts a new account among what is to be forgotten.

local function register(key, till, gone)
    call('ZADD', CLOSED, till == MAX and '+inf' or gone, 'a' .. key)
end


-- spent, held and whatever else there is to tell of accounts

local function describe(answer, keys)
    local fields = {}

    for i, key in ipairs(keys) do
        local f = i * 4
        fields[f - 3], fields[f - 2], fields[f - 1], fields[f] =
            key .. 's', key .. 'h', key .. 'p', key .. 'i'
    end

    local values = #keys > 0 and call('HMGET', ACCOUNTS, unpack(fields))

    for i = 1, #keys do
        local f, n = i * 4, #answer
        local spent, held, pending, text = unpack(values, f - 3, f)

        if not numbers(spent, held, pending, text) then
            return lost('an account')
        end

        local unit, limit, till, name =
            match(text or '0 0 0 0 ', '^(%d) (%d+) (%d+) %d+ (.*)$')

        answer[n + 1], answer[n + 2], answer[n + 3] = name, unit, till
        answer[n + 4], answer[n + 5] = limit, spent or '0'
        answer[n + 6], answer[n + 7] = held or '0', pending or '0'
    end
end


-- The start of an answer of peek and walk.

local function counts()
    local values = call('HMGET', META, 'opened', 'posted', 'voided',
                        'expired', 'denied')
    local accounts = call('HLEN', ACCOUNTS)
    local holds = call('HLEN', HOLDS)
    local due = call('ZCARD', DUE)

    local answer = { 'read', now_text,
                     tostring(accounts == 0 and 0 or (accounts - 1) / 4),
                     tostring(holds == 0 and 0 or holds - 1),
                     tostring(due == 0 and 0 or due - 1) }

    for i = 1, 5 do
        answer[5 + i] = values[i] or '0'
    end

    return answer
end
