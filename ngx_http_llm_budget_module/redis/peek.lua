-- Copyright (C) the ngx_http_llm_budget_module authors
--
-- Closes overdue holds and reads accounts: llmb_call_peek().
--
--     "keep charge": ms
--     keys
--
-- { "read", time, accounts, holds, pending, opened, posted, voided, expired,
--   denied, "0", and of each account name, unit, end, limit, spent, held,
--   pending }

local keep, charging = match(ARGV[1] or '', '^(%d+) ([01])$')
local keys = { unpack(ARGV, 2) }

if not keep or #keys > 32 then
    return bad('of peek')
end

for _, key in ipairs(keys) do
    if not is_id(key) then
        return bad('of peek')
    end
end

local err = sweep(keep, charging == '1')

if err then
    return err
end

local answer = counts()

answer[#answer + 1] = '0'

return describe(answer, keys) or answer
