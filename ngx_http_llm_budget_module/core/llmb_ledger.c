
/*
 * Copyright (C) the ngx_http_llm_budget_module authors
 *
 * The ledger's operations but open: how holds are closed, and reading.
 */


#include "core/llmb_ledger_table.h"
#include "core/llmb_money.h"

#include <string.h>


static llmb_ledger_rc_e llmb_ledger_close(llmb_ledger_t *ledger,
    const unsigned char *id, llmb_hold_e state, const int64_t *actual,
    int64_t now_ms, llmb_hold_e *was);
static void llmb_ledger_settle(llmb_ledger_table_t *t, uint32_t hold,
    llmb_hold_e state, const int64_t *actual, int64_t now_ms);
static int64_t llmb_ledger_charge(const llmb_ledger_table_t *t,
    const llmb_ledger_lrec_t *leg, llmb_hold_e state, const int64_t *actual);
static void llmb_ledger_view(const llmb_ledger_arec_t *a,
    llmb_ledger_account_t *account);


static const char *const  llmb_ledger_units[LLMB_UNITS] = {
    "usd",
    "tokens",
    "input_tokens",
    "output_tokens",
    "requests",
    "concurrency"
};


llmb_rc_e
llmb_unit_parse(const llmb_str_t *text, llmb_unit_e *unit)
{
    unsigned  i;

    for (i = 0; i < LLMB_UNITS; i++) {

        if (strlen(llmb_ledger_units[i]) == text->len
            && memcmp(llmb_ledger_units[i], text->data, text->len) == 0)
        {
            *unit = (llmb_unit_e) i;
            return LLMB_OK;
        }
    }

    return LLMB_DECLINED;
}


const char *
llmb_unit_name(llmb_unit_e unit)
{
    return ((unsigned) unit < LLMB_UNITS) ? llmb_ledger_units[unit] : "";
}


llmb_ledger_rc_e
llmb_ledger_post(llmb_ledger_t *ledger, const unsigned char *id,
    const int64_t actual[LLMB_UNITS], int64_t now_ms, llmb_hold_e *state)
{
    unsigned  i;

    for (i = 0; i < LLMB_UNITS; i++) {

        if (actual[i] < 0 && i != LLMB_UNIT_CONCURRENCY) {
            return LLMB_LEDGER_BAD;
        }
    }

    return llmb_ledger_close(ledger, id, LLMB_HOLD_POSTED, actual, now_ms,
                             state);
}


llmb_ledger_rc_e
llmb_ledger_void(llmb_ledger_t *ledger, const unsigned char *id,
    int64_t now_ms, llmb_hold_e *state)
{
    return llmb_ledger_close(ledger, id, LLMB_HOLD_VOIDED, NULL, now_ms,
                             state);
}


static llmb_ledger_rc_e
llmb_ledger_close(llmb_ledger_t *ledger, const unsigned char *id,
    llmb_hold_e state, const int64_t *actual, int64_t now_ms,
    llmb_hold_e *was)
{
    uint32_t             i;
    llmb_hold_e          how;
    llmb_ledger_table_t  t;

    llmb_ledger_table(&t, ledger);

    i = llmb_ledger_hold_find(&t, id);

    if (i == 0) {
        return LLMB_LEDGER_UNKNOWN;
    }

    if (t.holds[i].state == LLMB_HOLD_PENDING) {
        llmb_ledger_begin(&t, ledger);
        llmb_ledger_settle(&t, i, state, actual, now_ms);
        llmb_ledger_end(&t);
    }

    how = (llmb_hold_e) t.holds[i].state;

    if (was != NULL) {
        *was = how;
    }

    return (how == state) ? LLMB_LEDGER_OK : LLMB_LEDGER_CLOSED;
}


/* The only way out of pending. */

static void
llmb_ledger_settle(llmb_ledger_table_t *t, uint32_t hold, llmb_hold_e state,
    const int64_t *actual, int64_t now_ms)
{
    uint32_t             i, next;
    llmb_ledger_arec_t  *a;
    llmb_ledger_lrec_t  *leg;

    for (i = t->holds[hold].legs; i != 0; i = next) {
        leg = &t->legs[i];
        next = leg->next;
        a = &t->accounts[leg->account];

        if (llmb_money_add(a->spent,
                           llmb_ledger_charge(t, leg, state, actual),
                           &a->spent)
            != LLMB_OK)
        {
            a->spent = INT64_MAX;
        }

        a->held -= leg->amount;

        if (--a->pending == 0) {
            llmb_ledger_account_idle(t, leg->account);
        }

        llmb_ledger_leg_free(t, i);
    }

    t->holds[hold].legs = 0;
    t->holds[hold].n = 0;

    llmb_ledger_hold_close(t, hold, state, now_ms);

    t->head->posted += (state == LLMB_HOLD_POSTED);
    t->head->voided += (state == LLMB_HOLD_VOIDED);
    t->head->expired += (state == LLMB_HOLD_EXPIRED);
}


static int64_t
llmb_ledger_charge(const llmb_ledger_table_t *t,
    const llmb_ledger_lrec_t *leg, llmb_hold_e state, const int64_t *actual)
{
    unsigned  unit;

    unit = t->accounts[leg->account].unit;

    if (unit == LLMB_UNIT_CONCURRENCY) {
        return 0;
    }

    if (actual != NULL) {
        return actual[unit];
    }

    if (state == LLMB_HOLD_EXPIRED && t->head->charge) {
        return leg->amount;
    }

    return 0;
}


llmb_ledger_rc_e
llmb_ledger_extend(llmb_ledger_t *ledger, const unsigned char *id,
    int64_t deadline_ms)
{
    uint32_t             i;
    llmb_ledger_table_t  t;

    llmb_ledger_table(&t, ledger);

    i = llmb_ledger_hold_find(&t, id);

    if (i == 0) {
        return LLMB_LEDGER_UNKNOWN;
    }

    if (t.holds[i].state != LLMB_HOLD_PENDING) {
        return LLMB_LEDGER_CLOSED;
    }

    if (t.holds[i].at_ms < deadline_ms) {
        llmb_ledger_begin(&t, ledger);

        t.holds[i].at_ms = deadline_ms;
        llmb_ledger_heap_later(&t, LLMB_LEDGER_DUE, i);

        llmb_ledger_end(&t);
    }

    return LLMB_LEDGER_OK;
}


unsigned
llmb_ledger_expire(llmb_ledger_t *ledger, int64_t now_ms, unsigned max)
{
    unsigned             n;
    llmb_ledger_table_t  t;

    llmb_ledger_begin(&t, ledger);

    n = llmb_ledger_sweep(&t, now_ms, max);

    llmb_ledger_end(&t);

    return n;
}


unsigned
llmb_ledger_sweep(llmb_ledger_table_t *t, int64_t now_ms, unsigned max)
{
    int64_t   past_ms;
    uint32_t  i;
    unsigned  n, expired;

    for (expired = 0; expired < max; expired++) {
        i = llmb_ledger_heap_top(t, LLMB_LEDGER_DUE);

        if (i == 0 || t->holds[i].at_ms > now_ms) {
            break;
        }

        llmb_ledger_settle(t, i, LLMB_HOLD_EXPIRED, NULL, now_ms);
    }

    if (llmb_money_add(now_ms, -LLMB_LEDGER_KEEP_MS, &past_ms) == LLMB_OK) {

        for (n = 0; n < max && t->head->closed != 0; n++) {

            if (t->holds[t->head->oldest].at_ms > past_ms) {
                break;
            }

            llmb_ledger_hold_forget(t);
        }
    }

    if (llmb_money_add(now_ms, -LLMB_LEDGER_HISTORY_MS, &past_ms) == LLMB_OK) {

        for (n = 0; n < max; n++) {
            i = llmb_ledger_heap_top(t, LLMB_LEDGER_IDLE);

            if (i == 0 || t->accounts[i].end_ms > past_ms) {
                break;
            }

            llmb_ledger_account_free(t, i);
        }
    }

    return expired;
}


void
llmb_ledger_expire_policy(llmb_ledger_t *ledger, unsigned charge)
{
    ledger->charge = (charge != 0);
}


llmb_ledger_rc_e
llmb_ledger_peek(const llmb_ledger_t *ledger, const uint64_t key[2],
    llmb_ledger_account_t *account)
{
    uint32_t             i;
    llmb_ledger_table_t  t;

    llmb_ledger_table(&t, ledger);

    i = llmb_ledger_account_find(&t, key);

    if (i == 0) {
        return LLMB_LEDGER_UNKNOWN;
    }

    llmb_ledger_view(&t.accounts[i], account);

    return LLMB_LEDGER_OK;
}


int
llmb_ledger_next(const llmb_ledger_t *ledger, uint64_t *cursor,
    llmb_ledger_account_t *account)
{
    uint64_t             i;
    llmb_ledger_table_t  t;

    llmb_ledger_table(&t, ledger);

    for (i = *cursor; i < ledger->accounts.top; /* void */) {
        i++;

        if (t.accounts[i].live) {
            *cursor = i;
            llmb_ledger_view(&t.accounts[i], account);
            return 1;
        }
    }

    *cursor = i;

    return 0;
}


static void
llmb_ledger_view(const llmb_ledger_arec_t *a, llmb_ledger_account_t *account)
{
    account->name.len = a->len;
    account->name.data = (unsigned char *) (uintptr_t) a->name;
    account->unit = (llmb_unit_e) a->unit;
    account->end_ms = a->end_ms;
    account->limit = a->limit;
    account->spent = a->spent;
    account->held = a->held;
    account->pending = a->pending;
}


void
llmb_ledger_stat(const llmb_ledger_t *ledger, llmb_ledger_stat_t *stat)
{
    stat->accounts = ledger->accounts.used;
    stat->accounts_max = ledger->accounts.max;
    stat->holds = ledger->holds.used;
    stat->holds_max = ledger->holds.max;
    stat->legs = ledger->legs.used;
    stat->legs_max = ledger->legs.max;
    stat->pending = ledger->heap[LLMB_LEDGER_DUE];
    stat->opened = ledger->opened;
    stat->posted = ledger->posted;
    stat->voided = ledger->voided;
    stat->expired = ledger->expired;
    stat->denied = ledger->denied;
    stat->full = ledger->full;
}
