
/*
 * Copyright (C) the ngx_http_llm_budget_module authors
 *
 * The answers of the scripts.
 */


#include "core/llmb_call.h"

#include <string.h>


/* what precedes the legs and the accounts, and the items of each account */
#define LLMB_ANSWER_OPEN        4
#define LLMB_ANSWER_READ        11
#define LLMB_ANSWER_ACCOUNT     7


static int llmb_answer_is(const llmb_str_t *item, const char *text);
static int llmb_answer_rc(const llmb_str_t *item, llmb_ledger_rc_e *rc);
static int llmb_answer_number(const llmb_str_t *item, int64_t *n);
static int llmb_answer_count(const llmb_str_t *item, uint64_t *n);
static int llmb_answer_below(const llmb_str_t *item, unsigned below,
    unsigned *n);
static int llmb_answer_account(const llmb_str_t *item,
    llmb_ledger_account_t *account);


static const char *const  llmb_answer_words[] = {
    "ok",
    "denied",
    "degrade",
    "full",
    "unknown",
    "closed",
    "bad"
};


llmb_rc_e
llmb_answer_open(const llmb_answer_t *answer, llmb_ledger_open_t *op,
    llmb_ledger_rc_e *rc, int64_t *now_ms, unsigned *late)
{
    unsigned           i;
    const llmb_str_t  *item;

    item = answer->item;
    *late = 0;

    op->denied = 0;
    op->replayed = 0;

    if (answer->n < 2 || !llmb_answer_number(&item[1], now_ms)) {
        return LLMB_INVALID;
    }

    if (answer->n == 2 && llmb_answer_is(&item[0], "late")) {
        *late = 1;
        *rc = LLMB_LEDGER_BAD;
        return LLMB_OK;
    }

    if (!llmb_answer_rc(&item[0], rc)) {
        return LLMB_INVALID;
    }

    if (*rc == LLMB_LEDGER_BAD) {
        return (answer->n == 2) ? LLMB_OK : LLMB_INVALID;
    }

    if (answer->n != LLMB_ANSWER_OPEN + 2 * op->n
        || !llmb_answer_below(&item[2], 2, &op->replayed)
        || !llmb_answer_below(&item[3], (op->n != 0) ? op->n : 1, &op->denied)
        || *rc == LLMB_LEDGER_UNKNOWN || *rc == LLMB_LEDGER_FULL)
    {
        return LLMB_INVALID;
    }

    item += LLMB_ANSWER_OPEN;

    for (i = 0; i < op->n; i++, item += 2) {

        if (!llmb_answer_number(&item[0], &op->leg[i].spent)
            || !llmb_answer_number(&item[1], &op->leg[i].held))
        {
            return LLMB_INVALID;
        }
    }

    return LLMB_OK;
}


llmb_rc_e
llmb_answer_close(const llmb_answer_t *answer, llmb_ledger_rc_e *rc,
    int64_t *now_ms, llmb_hold_e *state)
{
    unsigned           how;
    const llmb_str_t  *item;

    item = answer->item;

    if (answer->n != 3
        || !llmb_answer_rc(&item[0], rc)
        || !llmb_answer_number(&item[1], now_ms))
    {
        return LLMB_INVALID;
    }

    if (*rc == LLMB_LEDGER_UNKNOWN || *rc == LLMB_LEDGER_BAD) {
        return llmb_answer_is(&item[2], "-") ? LLMB_OK : LLMB_INVALID;
    }

    if ((*rc != LLMB_LEDGER_OK && *rc != LLMB_LEDGER_CLOSED)
        || !llmb_answer_below(&item[2], LLMB_HOLD_EXPIRED + 1, &how)
        || (*rc == LLMB_LEDGER_CLOSED && how == LLMB_HOLD_PENDING))
    {
        return LLMB_INVALID;
    }

    if (state != NULL) {
        *state = (llmb_hold_e) how;
    }

    return LLMB_OK;
}


llmb_rc_e
llmb_answer_read(const llmb_answer_t *answer, llmb_ledger_stat_t *stat,
    int64_t *now_ms, llmb_str_t *cursor, llmb_ledger_account_t *accounts,
    unsigned *n)
{
    unsigned           i, k;
    const llmb_str_t  *item;

    item = answer->item;

    memset(stat, 0, sizeof(llmb_ledger_stat_t));

    if (answer->n < LLMB_ANSWER_READ
        || (answer->n - LLMB_ANSWER_READ) % LLMB_ANSWER_ACCOUNT != 0
        || !llmb_answer_is(&item[0], "read")
        || !llmb_answer_number(&item[1], now_ms)
        || !llmb_answer_count(&item[2], &stat->accounts)
        || !llmb_answer_count(&item[3], &stat->holds)
        || !llmb_answer_count(&item[4], &stat->pending)
        || !llmb_answer_count(&item[5], &stat->opened)
        || !llmb_answer_count(&item[6], &stat->posted)
        || !llmb_answer_count(&item[7], &stat->voided)
        || !llmb_answer_count(&item[8], &stat->expired)
        || !llmb_answer_count(&item[9], &stat->denied)
        || item[10].len == 0)
    {
        return LLMB_INVALID;
    }

    if (cursor != NULL) {
        *cursor = item[10];
    }

    item += LLMB_ANSWER_READ;
    k = (answer->n - LLMB_ANSWER_READ) / LLMB_ANSWER_ACCOUNT;

    if (*n > k) {
        *n = k;
    }

    for (i = 0; i < *n; i++, item += LLMB_ANSWER_ACCOUNT) {

        if (!llmb_answer_account(item, &accounts[i])) {
            return LLMB_INVALID;
        }
    }

    return LLMB_OK;
}


static int
llmb_answer_account(const llmb_str_t *item, llmb_ledger_account_t *account)
{
    unsigned  unit;

    account->name = item[0];

    if (!llmb_answer_below(&item[1], LLMB_UNITS, &unit)) {
        return 0;
    }

    account->unit = (llmb_unit_e) unit;

    return llmb_answer_number(&item[2], &account->end_ms)
           && llmb_answer_number(&item[3], &account->limit)
           && llmb_answer_number(&item[4], &account->spent)
           && llmb_answer_number(&item[5], &account->held)
           && llmb_answer_count(&item[6], &account->pending);
}


static int
llmb_answer_is(const llmb_str_t *item, const char *text)
{
    return item->len == strlen(text)
           && memcmp(item->data, text, item->len) == 0;
}


static int
llmb_answer_rc(const llmb_str_t *item, llmb_ledger_rc_e *rc)
{
    unsigned  i;

    for (i = 0; i <= LLMB_LEDGER_BAD; i++) {

        if (llmb_answer_is(item, llmb_answer_words[i])) {
            *rc = (llmb_ledger_rc_e) i;
            return 1;
        }
    }

    return 0;
}


/* Digits only, as one writes a number; 0 to INT64_MAX. */

static int
llmb_answer_number(const llmb_str_t *item, int64_t *n)
{
    size_t   i;
    int64_t  digit, sum;

    if (item->len == 0 || (item->len > 1 && item->data[0] == '0')) {
        return 0;
    }

    sum = 0;

    for (i = 0; i < item->len; i++) {

        if (item->data[i] < '0' || item->data[i] > '9') {
            return 0;
        }

        digit = item->data[i] - '0';

        if (sum > (INT64_MAX - digit) / 10) {
            return 0;
        }

        sum = sum * 10 + digit;
    }

    *n = sum;

    return 1;
}


static int
llmb_answer_count(const llmb_str_t *item, uint64_t *n)
{
    int64_t  count;

    if (!llmb_answer_number(item, &count)) {
        return 0;
    }

    *n = (uint64_t) count;

    return 1;
}


static int
llmb_answer_below(const llmb_str_t *item, unsigned below, unsigned *n)
{
    int64_t  count;

    if (!llmb_answer_number(item, &count) || count >= (int64_t) below) {
        return 0;
    }

    *n = (unsigned) count;

    return 1;
}
