
/*
 * Copyright (C) the ngx_http_llm_budget_module authors
 *
 * Random operations through the ledger and through a naive model of it, which
 * has arrays and loops where the ledger has tables, lists and heaps; both must
 * agree after every step.
 *
 *     test_ledger_random [steps [seed]]
 */


#include "core/llmb_ledger.h"

#include "llmb_test.h"


#define SIZE        LLMB_LEDGER_MIN
#define STEPS       200000
#define ACCOUNTS    400
#define HOLDS       900
#define CHECK       64


typedef struct {
    int                 live;
    unsigned            unit;
    int64_t             end_ms;
    int64_t             limit;
    int64_t             spent;
    int64_t             held;
    uint64_t            pending;
    uint64_t            idle;       /* since; counts up */
} account_t;


typedef struct {
    int                 live;
    llmb_hold_e         state;
    int64_t             at_ms;      /* deadline, or closed */
    uint64_t            order;      /* of opening, or of closing */
    unsigned            n;
    unsigned            account[LLMB_LEDGER_LEGS];
    int64_t             amount[LLMB_LEDGER_LEGS];
} hold_t;


/* what kind of load */

typedef struct {
    const char         *name;
    unsigned            accounts;
    unsigned            holds;
    unsigned            legs;       /* at most */
    int64_t             limit;
    int64_t             deadline_ms;
    int64_t             period_ms;
    unsigned            close;      /* of 100 steps */
    unsigned            tick_ms;    /* at most, mostly */
} profile_t;


static const profile_t  profiles[] = {
    { "small", 12, 100, 4, 100, 60000, 100000, 40, 20000 },
    { "many accounts", ACCOUNTS, HOLDS, 6, 500, 60000, 20000, 55, 2000 },
    { "many holds", 60, HOLDS, 3, 100000, 900000, 3000000, 35, 2000 },
    { "many legs", 100, HOLDS, LLMB_LEDGER_LEGS, 100000, 200000, 200000, 25,
      3000 },
    { "greatest numbers", 20, 200, 4, INT64_MAX, 60000, 200000, 45, 10000 }
};


static uint64_t             regions[2][SIZE / 8];
static account_t            accounts[ACCOUNTS];
static hold_t               holds[HOLDS];
static char                 names[ACCOUNTS][8];
static uint64_t             keys[ACCOUNTS][2];
static uint64_t             order;
static unsigned             charge;
static int64_t              now_ms;
static uint64_t             random_state;
static llmb_ledger_stat_t   stat;       /* of the model */
static llmb_ledger_t       *ledger;
static const profile_t     *profile;
static const char          *failure;


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
random_below(unsigned n)
{
    return (unsigned) (random_next() % n);
}


/* 0 .. max, often an edge */

static int64_t
random_amount(int64_t max)
{
    switch (random_below(8)) {

    case 0:
        return 0;

    case 1:
        return max;

    case 2:
        return (int64_t) (random_next() % 4);

    case 3:
        return (int64_t) (random_next() % ((uint64_t) max + 1));

    default:
        return (int64_t) (random_next() % ((uint64_t) max / 16 + 1));
    }
}


static int
agree(int pass, const char *what)
{
    if (!pass && failure == NULL) {
        failure = what;
    }

    return pass;
}


static int64_t
saturated(int64_t a, int64_t b)
{
    return (a > INT64_MAX - b) ? INT64_MAX : a + b;
}


static void
hold_id(unsigned char *id, unsigned h)
{
    memset(id, 0, LLMB_LEDGER_ID);
    id[0] = (unsigned char) (h & 0xff);
    id[9] = (unsigned char) (h >> 8);
}


/* an account of the model that is no longer there */

static void
model_free(unsigned a)
{
    memset(&accounts[a], 0, sizeof(account_t));
    stat.accounts--;
}


static void
model_forget(unsigned h)
{
    memset(&holds[h], 0, sizeof(hold_t));
    stat.holds--;
}


static void
model_close(unsigned h, llmb_hold_e state, const int64_t *actual)
{
    int64_t     paid;
    unsigned    i;
    account_t  *a;

    for (i = 0; i < holds[h].n; i++) {
        a = &accounts[holds[h].account[i]];
        paid = 0;

        if (a->unit == LLMB_UNIT_CONCURRENCY) {
            paid = 0;

        } else if (state == LLMB_HOLD_POSTED) {
            paid = actual[a->unit];

        } else if (state == LLMB_HOLD_EXPIRED && charge) {
            paid = holds[h].amount[i];
        }

        a->spent = saturated(a->spent, paid);
        a->held -= holds[h].amount[i];
        a->pending--;
        a->idle = order++;
    }

    stat.legs -= holds[h].n;
    stat.pending--;
    stat.posted += (state == LLMB_HOLD_POSTED);
    stat.voided += (state == LLMB_HOLD_VOIDED);
    stat.expired += (state == LLMB_HOLD_EXPIRED);

    holds[h].n = 0;
    holds[h].state = state;
    holds[h].at_ms = now_ms;
    holds[h].order = order++;
}


/* the pending hold with the earliest deadline, or the first closed one */

static unsigned
model_first(int pending)
{
    unsigned  h, best;

    best = HOLDS;

    for (h = 0; h < profile->holds; h++) {

        if (!holds[h].live || (holds[h].state == LLMB_HOLD_PENDING) != pending)
        {
            continue;
        }

        if (best == HOLDS
            || (pending && holds[h].at_ms < holds[best].at_ms)
            || ((!pending || holds[h].at_ms == holds[best].at_ms)
                && holds[h].order < holds[best].order))
        {
            best = h;
        }
    }

    return best;
}


/* the first idle account by end, or the first empty one by idleness */

static unsigned
model_idle(int empty, const unsigned char *skip)
{
    unsigned          i, best;
    const account_t  *a, *b;

    best = ACCOUNTS;

    for (i = 0; i < profile->accounts; i++) {
        a = &accounts[i];

        if (!a->live || a->pending != 0 || skip[i]
            || (empty && a->spent != 0))
        {
            continue;
        }

        b = &accounts[best % ACCOUNTS];

        if (best == ACCOUNTS
            || (!empty && a->end_ms < b->end_ms)
            || ((empty || a->end_ms == b->end_ms) && a->idle < b->idle))
        {
            best = i;
        }
    }

    return best;
}


static unsigned
model_sweep(unsigned max)
{
    unsigned       i, n, expired;
    unsigned char  skip[ACCOUNTS];

    for (expired = 0; expired < max; expired++) {
        i = model_first(1);

        if (i == HOLDS || holds[i].at_ms > now_ms) {
            break;
        }

        model_close(i, LLMB_HOLD_EXPIRED, NULL);
    }

    for (n = 0; n < max; n++) {
        i = model_first(0);

        if (i == HOLDS || holds[i].at_ms > now_ms - LLMB_LEDGER_KEEP_MS) {
            break;
        }

        model_forget(i);
    }

    memset(skip, 0, sizeof(skip));

    for (n = 0; n < max; n++) {
        i = model_idle(0, skip);

        if (i == ACCOUNTS
            || accounts[i].end_ms > now_ms - LLMB_LEDGER_HISTORY_MS)
        {
            break;
        }

        model_free(i);
    }

    return expired;
}


/* legs are given with the number of their account */

static llmb_ledger_rc_e
model_decide(const llmb_ledger_open_t *op, const unsigned *number,
    unsigned *denied)
{
    int64_t                   used, sum;
    unsigned                  i, k;
    const account_t          *a;
    const llmb_ledger_leg_t  *leg;

    for (i = 0; i < op->n; i++) {
        leg = &op->leg[i];
        a = &accounts[number[i]];
        used = saturated(a->spent, a->held);
        sum = 0;

        for (k = 0; k < op->n; k++) {

            if (number[k] == number[i]) {
                sum += op->leg[k].amount;
            }
        }

        if ((leg->postpaid && used >= leg->limit)
            || (sum != 0 && (used > leg->limit || sum > leg->limit - used)))
        {
            *denied = i;
            return LLMB_LEDGER_DENIED;
        }
    }

    for (i = 0; i < op->n; i++) {
        a = &accounts[number[i]];

        if (op->leg[i].degrade_at != INT64_MAX
            && saturated(a->spent, a->held) >= op->leg[i].degrade_at)
        {
            *denied = i;
            return LLMB_LEDGER_DEGRADE;
        }
    }

    return LLMB_LEDGER_OK;
}


/* Makes room, or changes nothing. */

static int
model_room(const llmb_ledger_stat_t *room, const unsigned *number, unsigned n)
{
    unsigned       i, a, want, nvictims, victims[ACCOUNTS];
    unsigned char  skip[ACCOUNTS];

    memset(skip, 0, sizeof(skip));
    want = 0;

    for (i = 0; i < n; i++) {
        want += (!skip[number[i]] && !accounts[number[i]].live);
        skip[number[i]] = 1;
    }

    nvictims = 0;

    while (stat.accounts + want - nvictims > room->accounts_max) {
        a = model_idle(1, skip);

        if (a == ACCOUNTS) {
            a = model_idle(0, skip);

            if (a == ACCOUNTS || accounts[a].end_ms == INT64_MAX
                || accounts[a].end_ms > now_ms)
            {
                return 0;
            }
        }

        skip[a] = 1;
        victims[nvictims++] = a;
    }

    for (i = 0; i < nvictims; i++) {
        model_free(victims[i]);
    }

    return 1;
}


static void
model_commit(const llmb_ledger_open_t *op, const unsigned *number, unsigned h,
    int64_t deadline_ms)
{
    unsigned    i, k;
    hold_t     *hold;
    account_t  *a;

    hold = &holds[h];
    hold->live = 1;
    hold->state = LLMB_HOLD_PENDING;
    hold->at_ms = deadline_ms;
    hold->order = order++;
    hold->n = 0;

    for (i = 0; i < op->n; i++) {
        a = &accounts[number[i]];

        if (!a->live) {
            a->live = 1;
            a->unit = op->leg[i].unit;
            a->end_ms = op->leg[i].end_ms;
            stat.accounts++;
        }

        a->held += op->leg[i].amount;

        for (k = 0; k < hold->n && hold->account[k] != number[i]; k++) {
            /* void */
        }

        if (k < hold->n) {
            hold->amount[k] += op->leg[i].amount;

            if (a->limit > op->leg[i].limit) {
                a->limit = op->leg[i].limit;
            }

            continue;
        }

        hold->account[k] = number[i];
        hold->amount[k] = op->leg[i].amount;
        hold->n++;
        a->limit = op->leg[i].limit;
        a->pending++;
    }

    stat.holds++;
    stat.pending++;
    stat.opened++;
    stat.legs += hold->n;
}


static llmb_ledger_rc_e
model_open(const llmb_ledger_open_t *op, const unsigned *number, unsigned h,
    int64_t deadline_ms, unsigned *denied)
{
    unsigned             i, k, distinct;
    llmb_ledger_rc_e     rc;
    llmb_ledger_stat_t   room;

    (void) model_sweep(LLMB_LEDGER_SWEEP);

    if (holds[h].live) {
        return (holds[h].state == LLMB_HOLD_PENDING) ? LLMB_LEDGER_OK
                                                     : LLMB_LEDGER_CLOSED;
    }

    rc = model_decide(op, number, denied);

    if (rc != LLMB_LEDGER_OK) {
        stat.denied += (rc == LLMB_LEDGER_DENIED);
        return rc;
    }

    distinct = 0;

    for (i = 0; i < op->n; i++) {

        for (k = 0; k < i && number[k] != number[i]; k++) {
            /* void */
        }

        distinct += (k == i);
    }

    llmb_ledger_stat(ledger, &room);

    if (stat.legs + distinct > room.legs_max
        || stat.pending == room.holds_max
        || !model_room(&room, number, op->n))
    {
        stat.full++;
        return LLMB_LEDGER_FULL;
    }

    if (stat.holds == room.holds_max) {
        model_forget(model_first(0));
    }

    model_commit(op, number, h, deadline_ms);

    return LLMB_LEDGER_OK;
}


static void
step_open(unsigned h)
{
    int                 known;
    int64_t             deadline_ms, period_ms;
    unsigned            i, a, denied, number[LLMB_LEDGER_LEGS];
    uint64_t            opened;
    llmb_ledger_rc_e    rc, want;
    llmb_ledger_leg_t  *leg;
    llmb_ledger_open_t  op;

    memset(&op, 0, sizeof(op));
    hold_id(op.id, h);

    op.n = random_below(profile->legs + 1);

    for (i = 0; i < op.n; i++) {
        a = random_below(profile->accounts);
        number[i] = a;

        leg = &op.leg[i];
        leg->key[0] = keys[a][0];
        leg->key[1] = keys[a][1];
        leg->name.data = (unsigned char *) names[a];
        leg->name.len = strlen(names[a]);
        leg->unit = (llmb_unit_e) (a % LLMB_UNITS);

        /* a tenth has no end; the others are soon over, or were */

        period_ms = (int64_t) (random_next() % (uint64_t) profile->period_ms);
        leg->end_ms = (a % 10 == 0) ? INT64_MAX
                                    : now_ms + period_ms - period_ms / 4;

        leg->limit = profile->limit - random_amount(profile->limit) / 8;
        leg->amount = random_amount(profile->limit / 40);
        leg->postpaid = (random_below(16) == 0);
        leg->degrade_at = INT64_MAX;

        if (random_below(16) == 0) {
            leg->degrade_at = profile->limit / 4 * 3;
        }

        if (random_below(32) == 0) {
            leg->limit = 0;
        }
    }

    deadline_ms = now_ms
                  + (int64_t) (random_next() % (uint64_t) profile->deadline_ms)
                  - 10;
    denied = 0;
    opened = stat.opened;

    want = model_open(&op, number, h, deadline_ms, &denied);
    known = (want == LLMB_LEDGER_CLOSED
             || (want == LLMB_LEDGER_OK && stat.opened == opened));

    rc = llmb_ledger_open(ledger, &op, now_ms, deadline_ms);

    agree(rc == want, "the result of open");
    agree(op.denied == denied, "the leg refused");
    agree((op.replayed != 0) == known, "whether it is a replay");

    if (rc != LLMB_LEDGER_OK || op.replayed) {
        return;
    }

    for (i = 0; i < op.n; i++) {
        a = number[i];

        if (op.leg[i].amount != 0) {
            agree(saturated(accounts[a].spent, accounts[a].held)
                  <= op.leg[i].limit,
                  "spent and held within the limit");
        }
    }
}


static void
step_close(unsigned h, int posting)
{
    int64_t           actual[LLMB_UNITS];
    unsigned          i;
    llmb_hold_e       state, how;
    unsigned char     id[LLMB_LEDGER_ID];
    llmb_ledger_rc_e  rc, want;

    hold_id(id, h);
    how = posting ? LLMB_HOLD_POSTED : LLMB_HOLD_VOIDED;

    for (i = 0; i < LLMB_UNITS; i++) {
        actual[i] = random_amount(profile->limit / 64);
    }

    if (!holds[h].live) {
        want = LLMB_LEDGER_UNKNOWN;

    } else {

        if (holds[h].state == LLMB_HOLD_PENDING) {
            model_close(h, how, actual);
        }

        want = (holds[h].state == how) ? LLMB_LEDGER_OK : LLMB_LEDGER_CLOSED;
    }

    state = LLMB_HOLD_PENDING;

    if (posting) {
        rc = llmb_ledger_post(ledger, id, actual, now_ms, &state);

    } else {
        rc = llmb_ledger_void(ledger, id, now_ms, &state);
    }

    agree(rc == want, "the result of post or void");
    agree(!holds[h].live || state == holds[h].state, "the state of a hold");
}


static void
step_extend(unsigned h)
{
    int64_t           deadline_ms;
    unsigned char     id[LLMB_LEDGER_ID];
    llmb_ledger_rc_e  want;

    hold_id(id, h);

    deadline_ms = now_ms - profile->deadline_ms
                  + (int64_t) (random_next()
                               % (3 * (uint64_t) profile->deadline_ms));

    if (!holds[h].live) {
        want = LLMB_LEDGER_UNKNOWN;

    } else if (holds[h].state != LLMB_HOLD_PENDING) {
        want = LLMB_LEDGER_CLOSED;

    } else {
        want = LLMB_LEDGER_OK;

        if (holds[h].at_ms < deadline_ms) {
            holds[h].at_ms = deadline_ms;
        }
    }

    agree(llmb_ledger_extend(ledger, id, deadline_ms) == want,
          "the result of extend");
}


static void
step_clock(void)
{
    unsigned  n, max;

    n = random_below(1000);

    if (n < 900) {
        now_ms += random_below(profile->tick_ms);

    } else if (n < 950) {
        now_ms -= random_below(profile->tick_ms);

    } else if (n < 997) {
        now_ms += random_below(8 * profile->tick_ms);

    } else if (n < 999) {
        now_ms += LLMB_LEDGER_KEEP_MS;

    } else {
        now_ms += LLMB_LEDGER_HISTORY_MS;
    }

    if (random_below(4) != 0) {
        return;
    }

    max = random_below(8);

    agree(llmb_ledger_expire(ledger, now_ms, max) == model_sweep(max),
          "the number expired");
}


/* The same bytes elsewhere are the same ledger. */

static void
step_move(void)
{
    unsigned  from;

    from = (ledger == (llmb_ledger_t *) regions[1]);

    memcpy(regions[!from], regions[from], SIZE);
    memset(regions[from], 0x5a, SIZE);

    ledger = llmb_ledger_adopt(regions[!from], SIZE);

    agree(ledger != NULL, "a copy is adopted");
}


/* mostly one that is pending, or one that is not there, but any will do */

static unsigned
random_hold(int pending)
{
    unsigned  i, h;

    for (i = 0; i < 6; i++) {
        h = random_below(profile->holds);

        if (pending ? holds[h].live && holds[h].state == LLMB_HOLD_PENDING
                    : !holds[h].live)
        {
            return h;
        }
    }

    return random_below(profile->holds);
}


static void
step(void)
{
    unsigned  n, h;

    n = random_below(100);

    if (n < profile->close) {
        h = random_hold(1);
        step_close(h, random_below(4) != 0);
        return;
    }

    switch (random_below(16)) {

    case 0:
        step_extend(random_hold(1));
        break;

    case 1:
    case 2:
        step_clock();
        break;

    case 3:

        if (random_below(64) == 0) {
            step_move();

        } else if (random_below(64) == 0) {
            charge = random_below(2);
            llmb_ledger_expire_policy(ledger, charge);
        }

        break;

    default:
        step_open(random_hold(0));
        break;
    }
}


static void
compare(void)
{
    int                     i;
    uint64_t                cursor, n;
    const account_t        *a;
    llmb_ledger_stat_t      got;
    llmb_ledger_account_t   account;

    llmb_ledger_stat(ledger, &got);

    agree(got.accounts == stat.accounts, "the number of accounts");
    agree(got.holds == stat.holds, "the number of holds");
    agree(got.legs == stat.legs, "the number of legs");
    agree(got.pending == stat.pending, "the number of pending holds");
    agree(got.opened == stat.opened && got.posted == stat.posted
          && got.voided == stat.voided && got.expired == stat.expired
          && got.denied == stat.denied && got.full == stat.full,
          "the counters");

    cursor = 0;
    n = 0;

    while (llmb_ledger_next(ledger, &cursor, &account)) {
        i = 0;

        while (account.name.len != 0) {
            i = i * 10 + *account.name.data++ - '0';
            account.name.len--;
        }

        n++;
        a = &accounts[i];

        if (!agree(a->live, "an account that is there")) {
            return;
        }

        agree(account.spent == a->spent, "spent");
        agree(account.held == a->held, "held");
        agree(account.limit == a->limit, "limit");
        agree(account.pending == a->pending, "the holds of an account");
        agree(account.end_ms == a->end_ms, "the end of an account");
        agree(account.unit == a->unit, "the unit of an account");
    }

    agree(n == stat.accounts, "every account is there");
}


static void
prepare(uint64_t seed)
{
    unsigned    i;
    llmb_str_t  part;

    memset(accounts, 0, sizeof(accounts));
    memset(holds, 0, sizeof(holds));
    memset(&stat, 0, sizeof(stat));
    memset(regions, 0x5a, sizeof(regions));

    random_state = seed;
    order = 0;
    charge = 1;
    now_ms = INT64_C(1700000000000);
    failure = NULL;

    ledger = llmb_ledger_create(regions[0], SIZE);

    for (i = 0; i < ACCOUNTS; i++) {
        (void) snprintf(names[i], sizeof(names[i]), "%u", i);

        part.data = (unsigned char *) names[i];
        part.len = strlen(names[i]);

        llmb_ledger_key(keys[i], &part, 1);
    }
}


static void
run(unsigned p, unsigned long steps, uint64_t seed)
{
    unsigned long  i;

    profile = &profiles[p];
    prepare(seed + p);

    for (i = 0; i < steps && failure == NULL; i++) {
        step();
        compare();

        if (i % CHECK == 0) {
            agree(llmb_ledger_check(ledger) == 0, "the check");
        }
    }

    /* in the end nothing is held */

    now_ms += profile->deadline_ms * 4;
    (void) llmb_ledger_expire(ledger, now_ms, HOLDS);
    (void) model_sweep(HOLDS);

    compare();

    agree(stat.pending == 0, "no hold is pending in the end");
    agree(llmb_ledger_check(ledger) == 0, "the check in the end");

    ok(failure == NULL, "the ledger and the model agree: %s", profile->name);

    if (failure != NULL) {
        printf("# profile %u, seed %llu, step %lu: %s\n", p,
               (unsigned long long) seed, i, failure);
        return;
    }

    printf("# %llu opened, %llu posted, %llu voided, %llu expired, "
           "%llu denied, %llu full, %llu accounts\n",
           (unsigned long long) stat.opened, (unsigned long long) stat.posted,
           (unsigned long long) stat.voided, (unsigned long long) stat.expired,
           (unsigned long long) stat.denied, (unsigned long long) stat.full,
           (unsigned long long) stat.accounts);
}


int
main(int argc, char **argv)
{
    unsigned       p;
    uint64_t       seed;
    unsigned long  steps;

    steps = (argc > 1) ? strtoul(argv[1], NULL, 10) : STEPS;
    seed = (argc > 2) ? strtoull(argv[2], NULL, 10) : 1;

    for (p = 0; p < sizeof(profiles) / sizeof(profiles[0]); p++) {
        run(p, steps, seed);
    }

    return test_done();
}
