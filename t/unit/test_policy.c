
/*
 * Copyright (C) the ngx_http_llm_budget_module authors
 *
 * Unit tests of the verdict: thresholds, what is left, why a leg refuses.
 */


#include "core/llmb_policy.h"

#include "llmb_test.h"


static llmb_ledger_leg_t
leg(llmb_unit_e unit, int64_t limit, int64_t spent, int64_t held,
    int64_t amount)
{
    llmb_ledger_leg_t  l;

    memset(&l, 0, sizeof(l));

    l.unit = unit;
    l.limit = limit;
    l.spent = spent;
    l.held = held;
    l.amount = amount;
    l.end_ms = 1000;

    return l;
}


static void
test_threshold(void)
{
    int64_t   limit, at;
    unsigned  percent, bad;

    is_int(llmb_policy_threshold(1000, 75), 750, "75% of 1000 is 750");
    is_int(llmb_policy_threshold(1001, 75), 751, "a threshold rounds up");
    is_int(llmb_policy_threshold(1, 1), 1, "1% of 1 is not 0");
    is_int(llmb_policy_threshold(0, 75), 0, "a limit of 0 is always reached");
    is_int(llmb_policy_threshold(1000, 100), 1000, "100% is the limit");
    is_int(llmb_policy_threshold(1000, 0), 0, "0% is reached at once");
    is_int(llmb_policy_threshold(INT64_MAX, 99), INT64_MAX / 100 * 99
           + (INT64_MAX % 100 * 99 + 99) / 100,
           "the greatest limit does not overflow");

    bad = 0;

    for (limit = 0; limit < 500; limit++) {
        for (percent = 0; percent <= 100; percent++) {
            at = llmb_policy_threshold(limit, percent);

            if (at * 100 < limit * (int64_t) percent
                || (at > 0 && (at - 1) * 100 >= limit * (int64_t) percent))
            {
                bad++;
            }
        }
    }

    is_int(bad, 0, "a threshold is the least amount at or above the percent");
}


static void
test_reached(void)
{
    llmb_ledger_leg_t  l;

    l = leg(LLMB_UNIT_USD, 1000, 700, 49, 1);
    ok(!llmb_policy_reached(&l, 75), "74.9%% is below 75%% (T55)");

    l.held = 50;
    ok(llmb_policy_reached(&l, 75), "75%% counts what is held (T55)");

    l.spent = INT64_MAX;
    ok(llmb_policy_reached(&l, 100), "an overflow is above everything");
}


static void
test_deny(void)
{
    unsigned           i;
    llmb_ledger_leg_t  l[3];

    l[0] = leg(LLMB_UNIT_USD, 100, 10, 10, 80);
    is_int(llmb_policy_deny(l, 1, &i), LLMB_DENY_NONE,
           "what just fits is not denied");

    l[0].amount = 81;
    is_int(llmb_policy_deny(l, 1, &i), LLMB_DENY_CONTENTION,
           "only holds stand in the way");

    l[0] = leg(LLMB_UNIT_USD, 100, 95, 0, 10);
    is_int(llmb_policy_deny(l, 1, &i), LLMB_DENY_BUDGET,
           "too little is left of the period");

    l[0] = leg(LLMB_UNIT_USD, 100, 0, 0, 101);
    is_int(llmb_policy_deny(l, 1, &i), LLMB_DENY_TOO_LARGE,
           "a request above the limit itself never fits");

    l[0] = leg(LLMB_UNIT_USD, 0, 0, 0, 1);
    is_int(llmb_policy_deny(l, 1, &i), LLMB_DENY_BUDGET,
           "a limit of 0 blocks (T30)");

    l[0] = leg(LLMB_UNIT_USD, 0, 0, 0, 0);
    is_int(llmb_policy_deny(l, 1, &i), LLMB_DENY_NONE,
           "a limit of 0 lets through what costs nothing (T31)");

    l[0].postpaid = 1;
    is_int(llmb_policy_deny(l, 1, &i), LLMB_DENY_BUDGET,
           "postpaid, a limit of 0 blocks");

    l[0] = leg(LLMB_UNIT_TOKENS, 100, 100, 0, 1);
    is_int(llmb_policy_deny(l, 1, &i), LLMB_DENY_TOKENS, "tokens");

    l[0] = leg(LLMB_UNIT_REQUESTS, 5, 5, 0, 1);
    is_int(llmb_policy_deny(l, 1, &i), LLMB_DENY_RATE, "requests");

    l[0] = leg(LLMB_UNIT_CONCURRENCY, 5, 0, 5, 1);
    is_int(llmb_policy_deny(l, 1, &i), LLMB_DENY_CONCURRENCY, "concurrency");

    l[0] = leg(LLMB_UNIT_CONCURRENCY, 5, 0, 5, 1);
    l[1] = leg(LLMB_UNIT_USD, 100, 100, 0, 1);
    l[2] = leg(LLMB_UNIT_REQUESTS, 5, 5, 0, 1);
    i = 9;
    is_int(llmb_policy_deny(l, 3, &i), LLMB_DENY_BUDGET,
           "of several the longest obstacle is named");
    is_int(i, 1, "and its leg");

    l[0] = leg(LLMB_UNIT_USD, 100, 100, 0, 1);
    l[2] = leg(LLMB_UNIT_USD, 200, 200, 0, 1);
    l[2].end_ms = 5000;
    (void) llmb_policy_deny(l, 3, &i);
    is_int(i, 2, "of two alike the later reset");
}


static void
test_left(void)
{
    llmb_left_t        left;
    llmb_ledger_leg_t  l[3];

    l[0] = leg(LLMB_UNIT_USD, 100, 10, 20, 500);
    l[1] = leg(LLMB_UNIT_USD, 90, 10, 20, 500);
    l[2] = leg(LLMB_UNIT_OUTPUT_TOKENS, 50, 0, 8, 100);

    is_int(llmb_policy_left(l, 3, &left), LLMB_OK, "something is left");
    is_int(left.nusd, 60, "the least of two dollar budgets");
    is_int(left.output_tokens, 42, "output tokens");
    is_int(left.tokens, INT64_MAX, "no token budget is no bound");

    l[2] = leg(LLMB_UNIT_REQUESTS, 1, 1, 0, 1);
    is_int(llmb_policy_left(l, 3, &left), LLMB_DECLINED,
           "no output ceiling helps against a count of requests");

    l[2] = leg(LLMB_UNIT_INPUT_TOKENS, 100, 50, 0, 60);
    is_int(llmb_policy_left(l, 3, &left), LLMB_DECLINED,
           "nor against input that does not fit");

    l[2] = leg(LLMB_UNIT_TOKENS, 100, 100, 0, 60);
    is_int(llmb_policy_left(l, 3, &left), LLMB_DECLINED,
           "nothing left is nothing");
}


static void
test_names(void)
{
    is_str(llmb_deny_code(LLMB_DENY_CONTENTION),
           strlen(llmb_deny_code(LLMB_DENY_CONTENTION)),
           "budget_hold_contention", "a code has its name");
    is_str(llmb_verdict_name(LLMB_VERDICT_DEGRADE),
           strlen(llmb_verdict_name(LLMB_VERDICT_DEGRADE)), "degrade",
           "a verdict has its name");
}


int
main(void)
{
    test_threshold();
    test_reached();
    test_deny();
    test_left();
    test_names();

    return test_done();
}
