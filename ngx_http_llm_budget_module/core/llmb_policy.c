
/*
 * Copyright (C) the ngx_http_llm_budget_module authors
 *
 * The verdict: pure decisions over limits, balances and a ladder.
 */


#include "core/llmb_money.h"
#include "core/llmb_policy.h"


static int llmb_policy_has_room(const llmb_ledger_leg_t *leg, int64_t *left);
static llmb_deny_e llmb_policy_why(const llmb_ledger_leg_t *leg);


static const char *const  llmb_verdict_names[] = {
    "none", "allow", "warn", "degrade", "deny"
};


static const char *const  llmb_deny_codes[] = {
    "", "budget_exceeded", "budget_hold_contention", "request_exceeds_budget",
    "rate_limited", "token_limited", "concurrency_limited"
};


llmb_deny_e
llmb_policy_deny(const llmb_ledger_leg_t *legs, unsigned n, unsigned *leg)
{
    int          best_rank, rank;
    int64_t      left;
    unsigned     i;
    llmb_deny_e  why, best;

    /* how long each obstacle lasts; the longest is what the client hears */

    static const int  ranks[] = { 0, 5, 1, 6, 3, 4, 2 };

    best = LLMB_DENY_NONE;
    best_rank = 0;

    for (i = 0; i < n; i++) {

        if (llmb_policy_has_room(&legs[i], &left)) {
            continue;
        }

        why = llmb_policy_why(&legs[i]);
        rank = ranks[why];

        if (rank > best_rank
            || (rank == best_rank && legs[i].end_ms > legs[*leg].end_ms))
        {
            best = why;
            best_rank = rank;
            *leg = i;
        }
    }

    return best;
}


llmb_rc_e
llmb_policy_left(const llmb_ledger_leg_t *legs, unsigned n, llmb_left_t *left)
{
    int       room;
    int64_t   balance, *slot;
    unsigned  i;

    left->nusd = INT64_MAX;
    left->tokens = INT64_MAX;
    left->input_tokens = INT64_MAX;
    left->output_tokens = INT64_MAX;

    for (i = 0; i < n; i++) {

        room = llmb_policy_has_room(&legs[i], &balance);
        slot = NULL;

        switch (legs[i].unit) {

        case LLMB_UNIT_USD:
            slot = &left->nusd;
            break;

        case LLMB_UNIT_TOKENS:
            slot = &left->tokens;
            break;

        case LLMB_UNIT_INPUT_TOKENS:
            slot = &left->input_tokens;
            break;

        case LLMB_UNIT_OUTPUT_TOKENS:
            slot = &left->output_tokens;
            break;

        case LLMB_UNIT_REQUESTS:
        case LLMB_UNIT_CONCURRENCY:
        case LLMB_UNITS:
            break;
        }

        if (!room
            && (slot == NULL || balance <= 0
                || legs[i].unit == LLMB_UNIT_INPUT_TOKENS))
        {
            return LLMB_DECLINED;
        }

        if (slot != NULL && balance < *slot) {
            *slot = balance;
        }
    }

    return LLMB_OK;
}


int
llmb_policy_reached(const llmb_ledger_leg_t *leg, unsigned percent)
{
    int64_t  used;

    if (llmb_money_add(leg->spent, leg->held, &used) != LLMB_OK) {
        return 1;
    }

    return used >= llmb_policy_threshold(leg->limit, percent);
}


int64_t
llmb_policy_threshold(int64_t limit, unsigned percent)
{
    int64_t  whole, rest;

    /* limit * percent / 100, rounded up, without a 128-bit product */

    if (percent >= 100) {
        return limit;
    }

    whole = (limit / 100) * (int64_t) percent;
    rest = (limit % 100) * (int64_t) percent;

    return whole + (rest + 99) / 100;
}


const char *
llmb_verdict_name(llmb_verdict_e verdict)
{
    return llmb_verdict_names[verdict];
}


const char *
llmb_deny_code(llmb_deny_e deny)
{
    return llmb_deny_codes[deny];
}


/* *left: what an unchanged balance leaves for one request, >= 0 */

static int
llmb_policy_has_room(const llmb_ledger_leg_t *leg, int64_t *left)
{
    int64_t  used;

    *left = 0;

    if (llmb_money_add(leg->spent, leg->held, &used) != LLMB_OK) {
        return 0;
    }

    if (used < leg->limit) {
        *left = leg->limit - used;
    }

    if (leg->postpaid && used >= leg->limit) {
        return 0;
    }

    return leg->amount == 0 || leg->amount <= *left;
}


static llmb_deny_e
llmb_policy_why(const llmb_ledger_leg_t *leg)
{
    int64_t  left;

    switch (leg->unit) {

    case LLMB_UNIT_CONCURRENCY:
        return LLMB_DENY_CONCURRENCY;

    case LLMB_UNIT_REQUESTS:
        return LLMB_DENY_RATE;

    case LLMB_UNIT_USD:
    case LLMB_UNIT_TOKENS:
    case LLMB_UNIT_INPUT_TOKENS:
    case LLMB_UNIT_OUTPUT_TOKENS:
    case LLMB_UNITS:
        break;
    }

    left = leg->limit > leg->spent ? leg->limit - leg->spent : 0;

    if (left > 0 && leg->amount > leg->limit) {
        return LLMB_DENY_TOO_LARGE;
    }

    if (left > 0 && leg->amount <= left && leg->held > 0) {
        return LLMB_DENY_CONTENTION;
    }

    return (leg->unit == LLMB_UNIT_USD) ? LLMB_DENY_BUDGET : LLMB_DENY_TOKENS;
}
