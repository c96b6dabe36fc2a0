
/*
 * Copyright (C) the ngx_http_llm_budget_module authors
 *
 * The ledger of the core.  What the scripts do beyond it is done by more than
 * one of its operations.
 */


#include "agree.h"

#include <string.h>


#define SIZE    (4 * 1024 * 1024)


static uint64_t        region[SIZE / 8];
static llmb_ledger_t  *ledger;


int64_t   agree_now_ms;
unsigned  agree_charge = 1;


static void
core_reset(void)
{
    ledger = llmb_ledger_create(region, SIZE);
}


static llmb_ledger_rc_e
core_open(llmb_ledger_open_t *op, int64_t timeout_ms)
{
    llmb_ledger_expire_policy(ledger, agree_charge);

    return llmb_ledger_open(ledger, op, agree_now_ms,
                            agree_now_ms + timeout_ms);
}


/* An unknown hold is opened, holding nothing, with the limits there are. */

static llmb_ledger_rc_e
core_post(const unsigned char *id, const int64_t *actual,
    const llmb_ledger_leg_t *legs, unsigned n, llmb_hold_e *state)
{
    unsigned               i;
    llmb_ledger_rc_e       rc;
    llmb_ledger_open_t     op;
    llmb_ledger_account_t  account;

    rc = llmb_ledger_post(ledger, id, actual, agree_now_ms, state);

    if (rc != LLMB_LEDGER_UNKNOWN || legs == NULL) {
        return rc;
    }

    memset(&op, 0, sizeof(op));
    memcpy(op.id, id, LLMB_LEDGER_ID);
    op.n = n;

    for (i = 0; i < n; i++) {
        op.leg[i] = legs[i];
        op.leg[i].amount = 0;
        op.leg[i].postpaid = 0;
        op.leg[i].degrade_at = INT64_MAX;

        if (llmb_ledger_peek(ledger, legs[i].key, &account) == LLMB_LEDGER_OK
            && (account.spent != 0 || account.pending != 0))
        {
            op.leg[i].limit = account.limit;
        }
    }

    rc = core_open(&op, 0);

    if (rc != LLMB_LEDGER_OK) {
        return rc;
    }

    return llmb_ledger_post(ledger, id, actual, agree_now_ms, state);
}


static llmb_ledger_rc_e
core_cancel(const unsigned char *id, llmb_hold_e *state)
{
    llmb_hold_e         how;
    llmb_ledger_rc_e    rc;
    llmb_ledger_open_t  op;

    rc = llmb_ledger_void(ledger, id, agree_now_ms, state);

    if (rc == LLMB_LEDGER_UNKNOWN) {
        memset(&op, 0, sizeof(op));
        memcpy(op.id, id, LLMB_LEDGER_ID);

        (void) core_open(&op, 0);
        (void) llmb_ledger_void(ledger, id, agree_now_ms, &how);
    }

    return rc;
}


static llmb_ledger_rc_e
core_extend(const unsigned char *id, int64_t timeout_ms)
{
    return llmb_ledger_extend(ledger, id, agree_now_ms + timeout_ms);
}


static int
core_peek(const uint64_t (*keys)[2], unsigned n,
    llmb_ledger_account_t *accounts, llmb_ledger_stat_t *stat)
{
    unsigned  i;

    llmb_ledger_expire_policy(ledger, agree_charge);
    (void) llmb_ledger_expire(ledger, agree_now_ms, LLMB_LEDGER_SWEEP);

    memset(accounts, 0, n * sizeof(llmb_ledger_account_t));

    for (i = 0; i < n; i++) {
        (void) llmb_ledger_peek(ledger, keys[i], &accounts[i]);
    }

    llmb_ledger_stat(ledger, stat);

    return llmb_ledger_check(ledger) == 0;
}


const agree_store_t  agree_core = {
    "core",
    core_reset,
    core_open,
    core_post,
    core_cancel,
    core_extend,
    core_peek
};
