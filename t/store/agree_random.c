
/*
 * Copyright (C) the ngx_http_llm_budget_module authors
 *
 * Random operations, the same on the ledger of the core and on the scripts:
 * after each one results and balances must be the same.
 */


#include "agree.h"

#include <stdio.h>
#include <string.h>


#define ACCOUNTS    10
#define PERIODS     3           /* this one and those before it */
#define HOLDS       150
#define PENDING     28          /* fewer than one sweep closes */
#define DAY         INT64_C(86400000)
#define DRAIN       16


typedef struct {
    const char         *name;
    unsigned            legs;       /* at most */
    int64_t             limit;
    int64_t             amount;     /* of a hold, at most; actual, mostly */
    int64_t             actual;     /* at times */
} profile_t;


static const profile_t  profiles[] = {
    { "small numbers", 3, 100, 12, 40 },
    { "money", 3, INT64_C(9000000000000000), INT64_C(400000000000000),
      INT64_C(2000000000000001) },
    { "many legs", LLMB_LEDGER_LEGS, 2000, 60, 90 },
    { "greatest numbers", 4, INT64_C(9000000000000000),
      INT64_C(4503599627370497), INT64_MAX }
};


static char              names[ACCOUNTS * PERIODS][32];
static uint64_t          keys[ACCOUNTS * PERIODS][2];
static uint64_t          pending;
static uint64_t          random_state;
static const char       *failure;
static const profile_t  *profile;


static uint64_t
random_next(void)
{
    uint64_t  n;

    random_state += UINT64_C(0x9e3779b97f4a7c15);
    n = random_state;
    n = (n ^ n >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    n = (n ^ n >> 27) * UINT64_C(0x94d049bb133111eb);

    return n ^ n >> 31;
}


static unsigned
below(unsigned n)
{
    return (unsigned) (random_next() % n);
}


/* 0 .. max, often an edge */

static int64_t
amount(int64_t max)
{
    switch (below(8)) {

    case 0:
        return 0;

    case 1:
        return max;

    case 2:
        return (int64_t) (random_next() % 4);

    default:
        return (int64_t) (random_next() % ((uint64_t) max + 1));
    }
}


static void
agree(int pass, const char *what)
{
    if (!pass && failure == NULL) {
        failure = what;
    }
}


/* Account i of the period that is p before the present one; 0 has no end. */

static void
leg_of(llmb_ledger_leg_t *leg, unsigned i, unsigned p)
{
    char        *name;
    int64_t      day;
    unsigned     k;
    llmb_str_t   part;

    memset(leg, 0, sizeof(llmb_ledger_leg_t));

    k = p * ACCOUNTS + i;
    name = names[k];
    day = agree_now_ms / DAY - p;

    leg->start_ms = day * DAY;
    leg->end_ms = (day + 1) * DAY;

    if (i == 0) {
        day = -(int64_t) p;
        leg->start_ms = 0;
        leg->end_ms = INT64_MAX;
    }

    (void) snprintf(name, sizeof(names[0]), "account %u/%lld", i,
                    (long long) day);

    part.data = (unsigned char *) name;
    part.len = strlen(name);

    llmb_ledger_key(leg->key, &part, 1);
    memcpy(keys[k], leg->key, sizeof(leg->key));

    leg->name = part;
    leg->unit = (llmb_unit_e) (i % LLMB_UNITS);
    leg->limit = profile->limit;
    leg->degrade_at = INT64_MAX;
}


static void
hold_id(unsigned char *id, unsigned h)
{
    memset(id, 0xa0, LLMB_LEDGER_ID);
    id[0] = (unsigned char) (h & 0xff);
    id[9] = (unsigned char) (h >> 8);
}


static void
actuals(int64_t *actual)
{
    unsigned  i;

    for (i = 0; i < LLMB_UNITS; i++) {
        actual[i] = amount((below(8) == 0) ? profile->actual
                                           : profile->amount);
    }
}


static void
step_open(unsigned h)
{
    int64_t              timeout_ms;
    unsigned             i;
    llmb_ledger_rc_e     rc, want;
    llmb_ledger_leg_t   *leg;
    llmb_ledger_open_t   a, b;

    memset(&a, 0, sizeof(a));
    hold_id(a.id, h);

    a.n = below(profile->legs + 1);

    for (i = 0; i < a.n; i++) {
        leg = &a.leg[i];
        leg_of(leg, below(ACCOUNTS), 0);

        leg->limit = profile->limit - amount(profile->limit) / 8;
        leg->amount = amount(profile->amount);
        leg->postpaid = (below(16) == 0);

        if (below(16) == 0) {
            leg->degrade_at = profile->limit / 4 * 3 + below(2);
        }

        if (below(32) == 0) {
            leg->limit = 0;
        }
    }

    b = a;
    timeout_ms = below(90000);

    want = agree_core.open(&a, timeout_ms);
    rc = agree_redis.open(&b, timeout_ms);

    agree(rc == want, "the result of open");
    agree(a.replayed == b.replayed, "whether it is a replay");
    agree(a.denied == b.denied, "the leg refused");

    for (i = 0; i < a.n && rc != LLMB_LEDGER_BAD; i++) {
        agree(a.leg[i].spent == b.leg[i].spent, "spent as open tells it");
        agree(a.leg[i].held == b.leg[i].held, "held as open tells it");
    }
}


static void
step_post(unsigned h, int legs)
{
    int64_t            actual[LLMB_UNITS];
    unsigned           i, n, k, used[ACCOUNTS];
    llmb_hold_e        a, b;
    unsigned char      id[LLMB_LEDGER_ID];
    llmb_ledger_rc_e   rc, want;
    llmb_ledger_leg_t  leg[ACCOUNTS];

    hold_id(id, h);
    actuals(actual);
    memset(used, 0, sizeof(used));

    a = LLMB_HOLD_PENDING;
    b = LLMB_HOLD_PENDING;
    n = 0;

    /* a replay may come after the period */

    for (i = 0; legs && i < below(5); i++) {
        k = below(ACCOUNTS);

        if (!used[k]) {
            used[k] = 1;
            leg_of(&leg[n++], k, (k == 0) ? 0 : below(2));
        }
    }

    want = agree_core.post(id, actual, legs ? leg : NULL, n, &a);
    rc = agree_redis.post(id, actual, legs ? leg : NULL, n, &b);

    agree(rc == want, "the result of post");
    agree(a == b, "the state that post tells");
}


static void
step_cancel(unsigned h)
{
    llmb_hold_e       a, b;
    unsigned char     id[LLMB_LEDGER_ID];
    llmb_ledger_rc_e  rc, want;

    hold_id(id, h);

    a = LLMB_HOLD_PENDING;
    b = LLMB_HOLD_PENDING;

    want = agree_core.cancel(id, &a);
    rc = agree_redis.cancel(id, &b);

    agree(rc == want, "the result of void");
    agree(a == b, "the state that void tells");
}


static void
step_extend(unsigned h)
{
    int64_t           timeout_ms;
    unsigned char     id[LLMB_LEDGER_ID];
    llmb_ledger_rc_e  rc, want;

    hold_id(id, h);

    timeout_ms = below(120000);
    want = agree_core.extend(id, timeout_ms);
    rc = agree_redis.extend(id, timeout_ms);

    agree(rc == want, "the result of extend");
}


static void
compare(void)
{
    unsigned               i, n;
    llmb_ledger_leg_t      leg;
    llmb_ledger_stat_t     want, got;
    llmb_ledger_account_t  a[ACCOUNTS * PERIODS], b[ACCOUNTS * PERIODS];

    for (i = 0; i < ACCOUNTS * PERIODS; i++) {
        leg_of(&leg, i % ACCOUNTS, i / ACCOUNTS);
    }

    /* batches of what is forgotten are not the same: to the end of them */

    n = 0;

    do {
        if (!agree_core.peek(keys, ACCOUNTS * PERIODS, a, &want)) {
            agree(0, "the check of the core's ledger");
            return;
        }

        if (!agree_redis.peek(keys, ACCOUNTS * PERIODS, b, &got)) {
            agree(0, "reading the accounts");
            return;
        }

    } while (got.holds != want.holds && n++ < DRAIN);

    pending = want.pending;

    for (i = 0; i < ACCOUNTS * PERIODS; i++) {
        agree(a[i].spent == b[i].spent, "spent");
        agree(a[i].held == b[i].held, "held");
        agree(a[i].pending == b[i].pending, "the holds of an account");

        if (a[i].spent == 0 && a[i].pending == 0) {
            agree(b[i].name.len == 0, "an account with nothing is not kept");
            continue;
        }

        agree(a[i].limit == b[i].limit, "limit");
        agree(a[i].unit == b[i].unit, "unit");
        agree(a[i].end_ms == b[i].end_ms, "end");
        agree(b[i].name.len == strlen(names[i])
              && memcmp(b[i].name.data, names[i], b[i].name.len) == 0,
              "name");
    }

    agree(got.pending == want.pending, "the number of pending holds");
    agree(got.holds == want.holds, "the number of holds");
    agree(got.opened == want.opened, "the count of opened holds");
    agree(got.posted == want.posted, "the count of posted holds");
    agree(got.voided == want.voided, "the count of voided holds");
    agree(got.expired == want.expired, "the count of expired holds");
    agree(got.denied == want.denied, "the count of refusals");
    agree(got.opened == got.posted + got.voided + got.expired + got.pending,
          "what was opened is pending or closed");
}


static void
step_clock(void)
{
    unsigned  n, i;

    /* never back: then the two forget closed holds in another order */

    n = below(1000);

    if (n < 950) {
        agree_now_ms += below(10000);
        return;
    }

    if (n < 990) {
        agree_now_ms += LLMB_LEDGER_KEEP_MS / 2 + below(1000);

    } else if (n < 998) {
        agree_now_ms += DAY / 2;

    } else {
        agree_now_ms += LLMB_LEDGER_HISTORY_MS;
    }

    for (i = 0; i < DRAIN; i++) {
        compare();
    }
}


static void
step(void)
{
    unsigned  n;

    agree_now_ms += 500;

    if (below(5) == 0) {
        step_clock();
    }

    if (below(2000) == 0) {
        agree_charge = !agree_charge;
    }

    n = below(100);

    if (n < 50 && pending < PENDING) {
        step_open(below(HOLDS));

    } else if (n < 75) {
        step_post(below(HOLDS), 0);

    } else if (n < 79) {
        step_post(below(HOLDS), 1);

    } else if (n < 90) {
        step_cancel(below(HOLDS));

    } else {
        step_extend(below(HOLDS));
    }

    compare();
}


const char *
agree_random_name(unsigned p)
{
    return (p < sizeof(profiles) / sizeof(profiles[0])) ? profiles[p].name
                                                        : NULL;
}


const char *
agree_random(unsigned p, unsigned long steps, uint64_t seed,
    unsigned long *at)
{
    profile = &profiles[p];
    random_state = seed;
    failure = NULL;
    pending = 0;

    agree_now_ms = INT64_C(1700000000000);
    agree_charge = 1;

    agree_core.reset();
    agree_redis.reset();

    for (*at = 0; *at < steps && failure == NULL; (*at)++) {
        step();
    }

    return failure;
}
