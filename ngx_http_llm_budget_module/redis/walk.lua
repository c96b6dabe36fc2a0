-- Copyright (C) the ngx_http_llm_budget_module authors
--
-- Closes overdue holds and reads some accounts: llmb_call_walk().
--
--     "keep charge": ms
--     cursor: "0", or of the answer before, until it is "0" again
--
-- As peek, with the next cursor in place of "0".  A cursor is one of HSCAN,
-- and where HSCAN gave more than a portion the account to go on after.

local PORTION = 64

local keep, charging = match(ARGV[1] or '', '^(%d+) ([01])$')
local cursor, last = match(ARGV[2] or '', '^(%d+)%.?(%x*)$')

if not keep or not cursor or (last ~= '' and #last ~= 32) then
    return bad('of walk')
end

local err = sweep(keep, charging == '1')

if err then
    return err
end

local reply = call('HSCAN', ACCOUNTS, cursor, 'MATCH', '*i', 'COUNT',
                   PORTION * 4)
local keys, seen = {}, {}

for i = 1, #reply[2], 2 do
    local key = sub(reply[2][i], 1, -2)

    if key > last and not seen[key] then
        seen[key] = true
        keys[#keys + 1] = key
    end
end

table.sort(keys)

local next = reply[1]

if #keys > PORTION then
    next = cursor .. '.' .. keys[PORTION]
    keys = { unpack(keys, 1, PORTION) }
end

local answer = counts()

answer[#answer + 1] = next

return describe(answer, keys) or answer
