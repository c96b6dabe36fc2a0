
/*
 * Copyright (C) the ngx_http_llm_budget_module authors
 *
 * The contract of the ledger, sentence by sentence, on each store; what the
 * scripts promise beyond it; and random operations on both at once.
 *
 *     agree core
 *     agree redis unix:<path> | <address>:<port> [cluster] [steps [seed]]
 *     agree bench unix:<path> | <address>:<port>
 */


#include "agree.h"
#include "core/llmb_money.h"

#include "llmb_test.h"


#define NOW         INT64_C(1700000000000)
#define END         (NOW + 86400000)
#define TIMEOUT     60000
#define STEPS       6000
#define WALKED      300
#define LOOPS       2000


static int64_t                 actual[LLMB_UNITS];
static llmb_hold_e             state;
static llmb_ledger_open_t      op;
static llmb_ledger_stat_t      stat;
static const agree_store_t    *store;
static llmb_ledger_account_t   walked[2 * WALKED];


static void
reset(void)
{
    agree_now_ms = NOW;
    agree_charge = 1;
    agree_error[0] = '\0';
    memset(actual, 0, sizeof(actual));

    store->reset();
}


static void
start(unsigned id)
{
    memset(&op, 0, sizeof(op));
    memcpy(op.id, &id, sizeof(id));
}


static llmb_ledger_leg_t *
add(const char *name, int64_t limit, int64_t amount)
{
    llmb_ledger_leg_t  *leg;

    leg = &op.leg[op.n++];

    leg->name.len = strlen(name);
    leg->name.data = (unsigned char *) (uintptr_t) name;

    llmb_ledger_key(leg->key, &leg->name, 1);

    leg->unit = LLMB_UNIT_USD;
    leg->start_ms = NOW - 86400000;
    leg->end_ms = END;
    leg->limit = limit;
    leg->amount = amount;
    leg->degrade_at = INT64_MAX;
    leg->spent = -1;
    leg->held = -1;

    return leg;
}


static llmb_ledger_rc_e
open_op(void)
{
    return store->open(&op, TIMEOUT);
}


static llmb_ledger_rc_e
open_one(unsigned id, const char *name, int64_t limit, int64_t amount)
{
    start(id);
    (void) add(name, limit, amount);

    return open_op();
}


static const unsigned char *
hold(unsigned id)
{
    static unsigned char  bytes[LLMB_LEDGER_ID];

    memset(bytes, 0, sizeof(bytes));
    memcpy(bytes, &id, sizeof(id));

    return bytes;
}


static llmb_ledger_rc_e
post(unsigned id, int64_t usd)
{
    actual[LLMB_UNIT_USD] = usd;

    return store->post(hold(id), actual, NULL, 0, &state);
}


/* with the legs of the last operation */

static llmb_ledger_rc_e
post_legs(unsigned id, int64_t usd)
{
    actual[LLMB_UNIT_USD] = usd;

    return store->post(hold(id), actual, op.leg, op.n, &state);
}


static llmb_ledger_rc_e
cancel(unsigned id)
{
    return store->cancel(hold(id), &state);
}


static llmb_ledger_rc_e
extend(unsigned id, int64_t timeout_ms)
{
    return store->extend(hold(id), timeout_ms);
}


static int
look(const char *name, llmb_ledger_account_t *account)
{
    uint64_t    key[1][2];
    llmb_str_t  part;

    part.len = strlen(name);
    part.data = (unsigned char *) (uintptr_t) name;

    llmb_ledger_key(key[0], &part, 1);

    return store->peek((const uint64_t (*)[2]) key, 1, account, &stat);
}


static int
balance(const char *name, int64_t spent, int64_t held)
{
    llmb_ledger_account_t  account;

    if (!look(name, &account)) {
        printf("# reading failed: %s\n", agree_error);
        return 0;
    }

    if (account.spent != spent || account.held != held) {
        printf("# %s: spent %lld, held %lld\n", name,
               (long long) account.spent, (long long) account.held);
        return 0;
    }

    return 1;
}


static void
test_limits(void)
{
    unsigned  i, admitted;

    reset();
    admitted = 0;

    for (i = 0; i < 50; i++) {
        admitted += (open_one(i, "k", 1000000000, 100000000)
                     == LLMB_LEDGER_OK);
    }

    is_int(admitted, 10, "ten of fifty tenths of the limit are admitted");
    ok(balance("k", 0, 1000000000), "they fill the limit exactly");
    is_int(op.leg[0].held, 1000000000, "a refusal tells what is held");
    is_int(op.leg[0].spent, 0, "a refusal tells what is spent");
    is_int((int64_t) stat.denied, 40, "refusals are counted");
    is_int((int64_t) stat.pending, 10, "pending holds are counted");
    is_int((int64_t) stat.opened, 10, "opened holds are counted");

    is_int(open_one(60, "z", 0, 1), LLMB_LEDGER_DENIED,
           "a limit of 0 refuses everything");
    is_int(open_one(60, "z", 0, 0), LLMB_LEDGER_OK, "but what costs nothing");
    is_int(post(60, 5), LLMB_LEDGER_OK, "which is charged in the end");
    is_int(open_one(61, "z", 3, 0), LLMB_LEDGER_OK,
           "nothing is admitted over the limit, too");
    is_int(open_one(62, "z", 5, 1), LLMB_LEDGER_DENIED,
           "something is not");
    is_int(open_one(62, "z", 6, 1), LLMB_LEDGER_OK,
           "and is under a higher limit");

    start(63);
    add("p", 0, 0)->postpaid = 1;
    is_int(open_op(), LLMB_LEDGER_DENIED, "a limit of 0 refuses postpaid");

    start(64);
    add("z", 7, 0)->postpaid = 1;
    is_int(open_op(), LLMB_LEDGER_OK, "postpaid is admitted below the limit");

    start(65);
    add("z", 6, 0)->postpaid = 1;
    is_int(open_op(), LLMB_LEDGER_DENIED, "and refused at the limit");

    start(66);
    is_int(open_op(), LLMB_LEDGER_OK, "a hold without legs is a hold");
    is_int(post(66, 1), LLMB_LEDGER_OK, "and is posted");
}


static void
test_all_or_nothing(void)
{
    reset();

    start(1);
    (void) add("key", 100, 20);
    (void) add("team", 10, 20);

    is_int(open_op(), LLMB_LEDGER_DENIED, "the second leg refuses (T22)");
    is_int(op.denied, 1, "the refusal names it");
    ok(balance("key", 0, 0) && balance("team", 0, 0), "nothing is held");
    is_int(post(1, 1), LLMB_LEDGER_UNKNOWN, "no hold was made");
    is_int((int64_t) stat.holds, 0, "none is counted");

    (void) open_one(2, "key", 100, 10);
    (void) post(2, 7);

    start(3);
    (void) add("key", 100, 20);
    (void) add("team", 30, 20);
    (void) add("org", 5, 20);
    (void) add("all", 5, 20);

    is_int(open_op(), LLMB_LEDGER_DENIED, "the third leg refuses");
    is_int(op.denied, 2, "of two that refuse the first is named");
    ok(op.leg[0].spent == 7 && op.leg[0].held == 0 && op.leg[3].spent == 0,
       "every leg has its balance");

    op.n = 2;
    is_int(open_op(), LLMB_LEDGER_OK, "without it the hold is opened");
    ok(balance("key", 7, 20) && balance("team", 0, 20), "over both accounts");
    is_int(post(3, 5), LLMB_LEDGER_OK, "the hold is posted");
    ok(balance("key", 12, 0) && balance("team", 5, 0), "to both accounts");
}


static void
test_same_key(void)
{
    llmb_ledger_leg_t      *leg;
    llmb_ledger_account_t   account;

    reset();

    start(1);
    (void) add("a", 100, 60);
    (void) add("a", 100, 41);
    is_int(open_op(), LLMB_LEDGER_DENIED,
           "two legs of one account are refused for their sum");

    start(1);
    (void) add("a", 100, 60);
    (void) add("b", 100, 60);
    (void) add("a", 100, 40);
    is_int(open_op(), LLMB_LEDGER_OK, "and admitted for it");
    ok(balance("a", 0, 100), "the account holds the sum");
    is_int(post(1, 50), LLMB_LEDGER_OK, "the hold is posted");
    ok(balance("a", 50, 0) && balance("b", 50, 0),
       "the account is charged once");

    start(2);
    (void) add("c", 100, 10);
    (void) add("c", 15, 10);
    is_int(open_op(), LLMB_LEDGER_DENIED,
           "the lower of two limits of one account is kept");
    is_int(op.denied, 1, "and the leg that has it is named");

    start(3);
    (void) add("c", 100, 4);
    (void) add("c", 15, 4);
    (void) add("c", 50, 4);
    is_int(open_op(), LLMB_LEDGER_OK, "below both it is opened");
    ok(look("c", &account) && account.limit == 15,
       "the account has the lower limit");
    is_int((int64_t) account.pending, 1, "and one hold");

    start(4);
    (void) add("d", 100, INT64_MAX);
    (void) add("d", 100, 1);
    is_int(open_op(), LLMB_LEDGER_BAD, "a sum that overflows is bad");

    start(4);
    (void) add("d", 100, 1);
    leg = add("d", 100, 1);
    leg->unit = LLMB_UNIT_TOKENS;
    is_int(open_op(), LLMB_LEDGER_BAD, "two units of one account are bad");

    start(4);
    add("c", 100, 1)->unit = LLMB_UNIT_TOKENS;
    is_int(open_op(), LLMB_LEDGER_BAD, "also from one hold to another");

    start(4);
    (void) add("d", 100, -1);
    is_int(open_op(), LLMB_LEDGER_BAD, "a negative amount is bad");

    start(4);
    (void) add("d", -1, 1);
    is_int(open_op(), LLMB_LEDGER_BAD, "a negative limit is bad");
    ok(balance("d", 0, 0) && balance("c", 0, 12), "and nothing was done");
}


static void
test_degrade(void)
{
    reset();

    (void) open_one(1, "a", 100, 74);

    start(2);
    (void) add("b", 100, 1);
    add("a", 100, 1)->degrade_at = 75;
    is_int(open_op(), LLMB_LEDGER_OK, "below the threshold it is opened");

    start(3);
    (void) add("b", 100, 1);
    add("a", 100, 1)->degrade_at = 75;
    is_int(open_op(), LLMB_LEDGER_DEGRADE, "at the threshold it is degraded");
    is_int(op.denied, 1, "the leg is named");
    is_int(op.leg[1].held, 75, "with its balance");
    ok(balance("a", 0, 75) && balance("b", 0, 1), "nothing was held");
    is_int(post(3, 1), LLMB_LEDGER_UNKNOWN, "no hold was made");

    start(4);
    add("a", 100, 1)->degrade_at = 75;
    (void) add("b", 1, 1);
    is_int(open_op(), LLMB_LEDGER_DENIED,
           "a leg without room comes before a threshold");
    is_int(op.denied, 1, "and is named");

    start(5);
    add("new", 100, 1)->degrade_at = 0;
    is_int(open_op(), LLMB_LEDGER_DEGRADE,
           "a threshold of 0 degrades from the start");
    ok(balance("new", 0, 0) && stat.denied == 1, "degrading is no refusal");
}


static void
test_closing(void)
{
    reset();

    (void) open_one(1, "a", 100, 60);
    is_int(open_one(1, "a", 100, 60), LLMB_LEDGER_OK, "an open is replayed");
    is_int(op.replayed, 1, "and tells so");
    is_int(open_one(1, "a", 10, 99), LLMB_LEDGER_OK, "whatever it would hold");
    ok(balance("a", 0, 60), "it changes nothing");

    is_int(post(1, 160), LLMB_LEDGER_OK, "more than was held is posted (T54)");
    is_int(state, LLMB_HOLD_POSTED, "the hold is posted");
    ok(balance("a", 160, 0), "all of it is charged");
    is_int(open_one(2, "a", 100, 1), LLMB_LEDGER_DENIED,
           "the next one is refused");

    is_int(post(1, 160), LLMB_LEDGER_OK, "a post is replayed (T23)");
    is_int(post(1, 999), LLMB_LEDGER_OK, "also with another amount");
    is_int(post_legs(1, 999), LLMB_LEDGER_OK, "also with its legs");
    is_int(cancel(1), LLMB_LEDGER_CLOSED, "it is not voided after that");
    is_int(state, LLMB_HOLD_POSTED, "void tells that it was posted");
    is_int(extend(1, 2 * TIMEOUT), LLMB_LEDGER_CLOSED, "nor extended");
    is_int(open_one(1, "a", 1000, 1), LLMB_LEDGER_CLOSED, "nor opened");
    is_int(op.replayed, 1, "which tells that it was");
    ok(balance("a", 160, 0), "replays change nothing");

    is_int(post(7, 1), LLMB_LEDGER_UNKNOWN, "an unknown hold is not posted");
    is_int(extend(7, 1), LLMB_LEDGER_UNKNOWN, "nor extended");
    is_int(cancel(8), LLMB_LEDGER_UNKNOWN, "nor voided");

    (void) open_one(3, "b", 100, 60);
    is_int(cancel(3), LLMB_LEDGER_OK, "a hold is voided");
    is_int(state, LLMB_HOLD_VOIDED, "and that is told");
    is_int(cancel(3), LLMB_LEDGER_OK, "a void is replayed");
    is_int(post(3, 1), LLMB_LEDGER_CLOSED, "it is not posted after that");
    is_int(state, LLMB_HOLD_VOIDED, "post tells that it was voided");
    ok(balance("b", 0, 0), "and all returns");

    (void) open_one(4, "b", 100, 0);
    is_int(post(4, -1), LLMB_LEDGER_BAD, "a negative charge is bad");
    is_int(cancel(4), LLMB_LEDGER_OK, "the hold was left pending");
}


static void
test_units(void)
{
    unsigned            i;
    llmb_ledger_leg_t  *leg;

    static const char *const  name[LLMB_UNITS] = {
        "usd", "tokens", "input", "output", "requests", "concurrency"
    };

    reset();
    start(1);

    for (i = 0; i < LLMB_UNITS; i++) {
        leg = add(name[i], 1000, 10);
        leg->unit = (llmb_unit_e) i;
        actual[i] = 100 + (int64_t) i;
    }

    is_int(open_op(), LLMB_LEDGER_OK, "one hold has legs of all units");
    is_int(post(1, 100), LLMB_LEDGER_OK, "and is posted");

    for (i = 0; i < LLMB_UNITS; i++) {
        ok(balance(name[i], (i == LLMB_UNIT_CONCURRENCY) ? 0 : 100 + i, 0),
           "%s is charged with its amount", name[i]);
    }

    start(2);
    add("concurrency", 1000, 10)->unit = LLMB_UNIT_CONCURRENCY;
    (void) open_op();
    actual[LLMB_UNIT_CONCURRENCY] = -7;
    is_int(post(2, 0), LLMB_LEDGER_OK, "concurrency has no amount to be bad");
    ok(balance("concurrency", 0, 0), "and is never charged");
}


static void
test_expiry(void)
{
    llmb_ledger_account_t  account;

    reset();

    start(1);
    (void) add("a", 100, 60);
    add("slots", 3, 1)->unit = LLMB_UNIT_CONCURRENCY;
    (void) open_op();

    agree_now_ms += TIMEOUT - 1;
    ok(balance("a", 0, 60), "until its deadline a hold is pending");

    agree_now_ms++;
    ok(balance("a", 60, 0), "at its deadline it is charged what it held");
    ok(balance("slots", 0, 0), "but concurrency");
    is_int((int64_t) stat.expired, 1, "it is counted");
    is_int(post(1, 5), LLMB_LEDGER_CLOSED, "it is not posted after that");
    is_int(state, LLMB_HOLD_EXPIRED, "post tells that it is expired");
    ok(balance("a", 60, 0), "and charges nothing");

    agree_charge = 0;
    (void) open_one(2, "a", 100, 40);
    agree_now_ms += TIMEOUT;
    ok(balance("a", 60, 0), "by the other policy it is released");

    (void) open_one(3, "a", 100, 40);
    agree_now_ms += TIMEOUT;
    is_int(open_one(4, "a", 100, 40), LLMB_LEDGER_OK,
           "an open releases what is overdue first");
    is_int(op.leg[0].held, 0, "and tells what is held without it");

    (void) open_one(5, "b", 100, 40);
    agree_now_ms += TIMEOUT + 5;
    is_int(post(5, 30), LLMB_LEDGER_OK,
           "an overdue hold can be posted before it is swept");
    ok(balance("b", 30, 0), "and charges what it cost");

    (void) open_one(6, "c", 100, 40);
    is_int(extend(6, 2 * TIMEOUT), LLMB_LEDGER_OK, "a hold is extended");
    is_int(extend(6, 5), LLMB_LEDGER_OK, "and not to an earlier time");
    agree_now_ms += TIMEOUT;
    ok(balance("c", 0, 40), "so it outlives its deadline");
    agree_now_ms += TIMEOUT;
    ok(look("c", &account) && account.held == 0, "until the new one");

    (void) open_one(7, "d", 100, 40);
    agree_now_ms += TIMEOUT;
    is_int(open_one(7, "d", 100, 40), LLMB_LEDGER_CLOSED,
           "a late replay of an open finds it expired");
}


static void
test_batches(void)
{
    unsigned               i;
    llmb_ledger_account_t  account;

    reset();

    for (i = 0; i < 40; i++) {
        (void) open_one(i, "a", 100, 1);
    }

    agree_now_ms += TIMEOUT;
    ok(look("a", &account), "accounts are read");
    is_int(account.spent, 32, "one call expires a batch");
    is_int(account.held, 8, "and leaves the rest");
    ok(balance("a", 40, 0), "to the next");
}


static void
test_forgetting(void)
{
    llmb_ledger_account_t  account;

    reset();

    (void) open_one(1, "a", 100, 10);
    (void) post(1, 7);

    agree_now_ms += LLMB_LEDGER_KEEP_MS - 1;
    ok(balance("a", 7, 0) && stat.holds == 1, "a closed hold is remembered");
    is_int(post(1, 7), LLMB_LEDGER_OK, "for replays");

    agree_now_ms++;
    ok(balance("a", 7, 0) && stat.holds == 0, "and forgotten after a time");
    is_int(post(1, 7), LLMB_LEDGER_UNKNOWN, "so that it is not known");

    agree_now_ms = END + LLMB_LEDGER_HISTORY_MS - 1;
    ok(balance("a", 7, 0), "an account outlives its period");

    agree_now_ms++;
    ok(balance("a", 0, 0), "and is forgotten after a time");
    is_int((int64_t) stat.accounts, 0, "none is left");

    reset();
    start(2);
    add("life", 100, 10)->end_ms = INT64_MAX;
    (void) open_op();
    (void) post(2, 7);
    agree_now_ms = NOW * 4;
    ok(balance("life", 7, 0), "an account without end is kept");
    ok(look("life", &account) && account.end_ms == INT64_MAX,
       "and has no end");
}


static void
test_view(void)
{
    llmb_ledger_account_t  account;

    static const char  long_name[] =
        "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
        "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
        "cut";

    reset();

    start(1);
    add("team/blue \n%d 1", 100, 10)->unit = LLMB_UNIT_TOKENS;
    (void) open_op();
    start(2);
    add("team/blue \n%d 1", 90, 10)->unit = LLMB_UNIT_TOKENS;
    (void) open_op();

    ok(look("team/blue \n%d 1", &account), "an account is read");
    is_str(account.name.data, account.name.len, "team/blue \n%d 1",
           "it has its name");
    is_int(account.unit, LLMB_UNIT_TOKENS, "its unit");
    is_int(account.end_ms, END, "its end");
    is_int(account.limit, 90, "the limit of the last hold");
    is_int((int64_t) account.pending, 2, "and its pending holds");

    (void) open_one(3, long_name, 100, 10);
    ok(look(long_name, &account) && account.name.len == LLMB_LEDGER_NAME
       && memcmp(account.name.data, long_name, LLMB_LEDGER_NAME) == 0,
       "a long name is cut");

    start(4);
    add("", 100, 10)->key[0] = 7;
    is_int(open_op(), LLMB_LEDGER_OK, "an account needs no name");
    is_int(post(4, 1), LLMB_LEDGER_OK, "to be charged");
}


/* T53: what a double cannot tell apart */

static void
test_money(void)
{
    unsigned  i;

    reset();

    is_int(open_one(1, "a", LLMB_MONEY_LIMIT_NUSD, LLMB_MONEY_LIMIT_NUSD - 1),
           LLMB_LEDGER_OK, "9,000,000 USD less one nano are held");
    is_int(open_one(2, "a", LLMB_MONEY_LIMIT_NUSD, 2), LLMB_LEDGER_DENIED,
           "two nano more are too many");
    is_int(open_one(3, "a", LLMB_MONEY_LIMIT_NUSD, 1), LLMB_LEDGER_OK,
           "one is not");
    is_int(open_one(4, "a", LLMB_MONEY_LIMIT_NUSD, 1), LLMB_LEDGER_DENIED,
           "then it is full");
    is_int(post(3, 0), LLMB_LEDGER_OK, "one nano returns");
    is_int(open_one(5, "a", LLMB_MONEY_LIMIT_NUSD, 1), LLMB_LEDGER_OK,
           "and is held again");
    ok(balance("a", 0, LLMB_MONEY_LIMIT_NUSD), "to the nano");

    is_int(post(1, INT64_C(9007199254740993)), LLMB_LEDGER_OK,
           "2^53 + 1 are posted");
    is_int(post(5, 2), LLMB_LEDGER_OK, "and two more");
    ok(balance("a", INT64_C(9007199254740995), 0), "which are the sum");
    is_int(open_one(6, "a", LLMB_MONEY_LIMIT_NUSD, 1), LLMB_LEDGER_DENIED,
           "nothing is admitted above the limit");

    (void) open_one(7, "a", LLMB_MONEY_LIMIT_NUSD, 0);
    is_int(post(7, INT64_MAX - INT64_C(9007199254740996)), LLMB_LEDGER_OK,
           "all but one of what there is are posted");
    ok(balance("a", INT64_MAX - 1, 0), "and stand there");
    (void) open_one(8, "a", LLMB_MONEY_LIMIT_NUSD, 0);
    is_int(post(8, 2), LLMB_LEDGER_OK, "two more are more than there is");
    ok(balance("a", INT64_MAX, 0), "spent stays at the greatest number");
    (void) open_one(9, "a", LLMB_MONEY_LIMIT_NUSD, 0);
    is_int(post(9, INT64_MAX), LLMB_LEDGER_OK, "whatever is added");
    ok(balance("a", INT64_MAX, 0), "it stays there");
    is_int(open_one(10, "a", LLMB_MONEY_LIMIT_NUSD, 1), LLMB_LEDGER_DENIED,
           "and refuses");
    start(10);
    add("a", LLMB_MONEY_LIMIT_NUSD, 0)->postpaid = 1;
    is_int(open_op(), LLMB_LEDGER_DENIED, "postpaid, too");
    start(10);
    add("a", LLMB_MONEY_LIMIT_NUSD, 0)->degrade_at = 9000000000000000;
    is_int(open_op(), LLMB_LEDGER_DEGRADE, "or degrades");

    for (i = 0; i < LOOPS; i++) {
        (void) open_one(1000 + i, "nano", LLMB_MONEY_LIMIT_NUSD, 3);
        (void) post(1000 + i, 1);
    }

    ok(balance("nano", LOOPS, 0), "nano by nano nothing is lost");
}


static void
test_contract(const agree_store_t *s)
{
    store = s;

    test_limits();
    test_all_or_nothing();
    test_same_key();
    test_degrade();
    test_closing();
    test_units();
    test_expiry();
    test_batches();
    test_forgetting();
    test_view();
    test_money();
}


/* what follows is of the scripts alone */

static void
test_unknown(void)
{
    reset();

    is_int(cancel(1), LLMB_LEDGER_UNKNOWN, "a hold not yet opened is voided");
    is_int(cancel(1), LLMB_LEDGER_OK, "which is remembered");
    is_int(open_one(1, "a", 100, 10), LLMB_LEDGER_CLOSED,
           "so that its open comes too late");
    is_int(post_legs(1, 5), LLMB_LEDGER_CLOSED, "and its post");
    is_int(state, LLMB_HOLD_VOIDED, "which tells why");
    ok(balance("a", 0, 0), "nothing is held or charged");

    start(2);
    (void) add("a", 100, 10);
    (void) add("b", 100, 10);
    (void) add("a", 100, 10);
    add("c", 100, 10)->unit = LLMB_UNIT_CONCURRENCY;

    is_int(post_legs(2, 5), LLMB_LEDGER_OK,
           "a hold that is not known is charged");
    is_int(state, LLMB_HOLD_POSTED, "and is posted by that");
    ok(balance("a", 5, 0) && balance("b", 5, 0), "on each account once");
    is_int(post_legs(2, 5), LLMB_LEDGER_OK, "a replay is harmless");
    is_int(open_op(), LLMB_LEDGER_CLOSED, "a late open, too");
    ok(balance("a", 5, 0) && balance("b", 5, 0) && balance("c", 0, 0),
       "nothing more is charged");
    is_int((int64_t) stat.accounts, 2, "no account with nothing was made");

    (void) open_one(3, "a", 100, 10);
    is_int(post_legs(4, INT64_MAX), LLMB_LEDGER_OK, "another is charged");
    ok(balance("a", INT64_MAX, 10), "beside what is held, up to the end");
    is_int(post(3, 1), LLMB_LEDGER_OK, "what is held is posted");
    ok(balance("a", INT64_MAX, 0), "nothing is held then");

    start(5);
    add("a", 100, 10)->unit = LLMB_UNIT_TOKENS;
    is_int(post_legs(5, 5), LLMB_LEDGER_BAD, "another unit is bad");

    op.leg[0].unit = LLMB_UNITS;
    is_int(post_legs(5, 5), LLMB_LEDGER_BAD, "no unit, too");
    is_int(post(5, 1), LLMB_LEDGER_UNKNOWN, "and nothing was posted");

    start(6);
    is_int(post_legs(6, 5), LLMB_LEDGER_OK, "without accounts it is a post");
    is_int(cancel(6), LLMB_LEDGER_CLOSED, "and known as one");

    (void) open_one(7, "a", LLMB_MONEY_LIMIT_NUSD + 1, 1);
    is_int(open_op(), LLMB_LEDGER_BAD, "no limit is above 9,000,000 USD");
}


static void
test_late(void)
{
    reset();

    start(1);
    (void) add("a", 100, 10);
    add("b", 100, 10)->end_ms = NOW;
    is_int(open_op(), AGREE_LATE, "the end of a period is not in it (T29)");
    op.leg[1].end_ms = NOW + 1;
    op.leg[0].start_ms = NOW + 1;
    is_int(open_op(), AGREE_LATE, "what is before its start is not");
    ok(balance("a", 0, 0) && balance("b", 0, 0), "nothing was held");
    op.leg[0].start_ms = NOW;
    is_int(open_op(), LLMB_LEDGER_OK, "the start of a period is in it");

    agree_now_ms++;
    is_int(open_op(), LLMB_LEDGER_OK, "a replay is not late");
    is_int(op.replayed, 1, "since it was done");
    is_int(post(1, 5), LLMB_LEDGER_OK, "a hold is posted after the period");
    ok(balance("b", 5, 0), "to the period that it is of");

    start(2);
    add("a", 100, 10)->end_ms = INT64_MAX;
    op.leg[0].start_ms = INT64_MIN;
    is_int(open_op(), LLMB_LEDGER_OK, "all times have no edges");

    /* a minute is kept an hour */

    reset();
    start(3);
    (void) add("m", 100, 10);
    op.leg[0].start_ms = NOW;
    op.leg[0].end_ms = NOW + 60000;
    (void) open_op();
    (void) post(3, 5);
    agree_now_ms = NOW + 60000 + 3600000 - 1;
    ok(balance("m", 5, 0), "a minute is kept for an hour");
    agree_now_ms++;
    ok(balance("m", 0, 0) && stat.accounts == 0, "and no longer");

    /* with a hold on it an account stays */

    reset();
    start(4);
    (void) add("m", 100, 10);
    op.leg[0].start_ms = NOW;
    op.leg[0].end_ms = NOW + 60000;
    (void) store->open(&op, 100 * TIMEOUT);
    agree_now_ms = NOW + 60000 + 3600000;
    ok(balance("m", 0, 10), "an account with a pending hold is kept");
    is_int(post(4, 5), LLMB_LEDGER_OK, "for its post");
    ok(balance("m", 5, 0), "which charges it");
    agree_now_ms += 3600000;
    ok(balance("m", 0, 0) && stat.accounts == 0,
       "and then it is forgotten");
}


/* Whether opens are refused as lost, and change nothing. */

static void
lost(const char *what)
{
    llmb_ledger_rc_e  rc;

    rc = open_one(99, "a", 100, 1);

    if (!ok(rc == AGREE_ERROR && strncmp(agree_error, "LOST ", 5) == 0,
            "an open without %s is refused (T64)", what))
    {
        printf("# result %d, error %s\n", (int) rc, agree_error);
    }
}


static void
two_holds(void)
{
    reset();
    (void) open_one(1, "a", 100, 10);
    (void) open_one(2, "a", 100, 10);
    (void) post(1, 5);
}


static const char *
field(const char *name, char suffix)
{
    uint64_t           key[2];
    llmb_str_t         part;
    static char        text[40];

    part.len = strlen(name);
    part.data = (unsigned char *) (uintptr_t) name;

    llmb_ledger_key(key, &part, 1);

    (void) snprintf(text, sizeof(text), "%016llx%016llx%c",
                    (unsigned long long) key[0], (unsigned long long) key[1],
                    suffix);

    return text;
}


/* T64 */

static void
test_lost(void)
{
    unsigned               i;
    llmb_ledger_account_t  account;

    static const char *const  key[] = { "accounts", "holds", "due", "closed" };
    static const char         suffix[] = "shpi";

    for (i = 0; i < 4; i++) {
        two_holds();
        (void) agree_command("DEL", key[i], NULL);
        lost(key[i]);

        ok(!look("a", &account), "reading is refused");
        is_int(post(77, 5), AGREE_ERROR, "a post of an unknown hold is");
        is_int(cancel(77), AGREE_ERROR, "and a void");
        is_int(extend(77, 5), AGREE_ERROR, "and an extend");

        /* a hold that is there needs what it has, and no more */

        if (i < 3) {
            is_int(post(2, 5), AGREE_ERROR, "a post is refused");
            is_int(cancel(2), AGREE_ERROR, "and a void");
            lost(key[i]);
        }
    }

    for (i = 0; i < 4; i++) {
        two_holds();
        (void) agree_command("HDEL", "accounts", field("a", suffix[i]), NULL);
        lost("a field of the account");

        if (suffix[i] != 'i') {
            is_int(post(2, 5), AGREE_ERROR, "a post is refused");
        }
    }

    two_holds();

    for (i = 0; i < 4; i++) {
        (void) agree_command("HDEL", "accounts", field("a", suffix[i]), NULL);
    }

    lost("the whole account");

    two_holds();
    (void) agree_command("HSET", "accounts", field("a", 's'), "x", NULL);
    lost("a number that is none");

    two_holds();
    (void) agree_command("HSET", "accounts", field("a", 'h'), "3", NULL);
    is_int(post(2, 5), AGREE_ERROR, "less held than the hold has is lost");
    (void) agree_command("HSET", "accounts", field("a", 'h'), "10", NULL);
    is_int(post(2, 5), LLMB_LEDGER_OK, "what is held is posted");

    two_holds();

    for (i = 0; i < 4; i++) {
        (void) agree_command("DEL", key[i], NULL);
    }

    lost("all but the counters");

    (void) agree_command("DEL", "meta", NULL);
    is_int(open_one(99, "a", 100, 1), LLMB_LEDGER_OK,
           "without the counters all begins anew");
    ok(balance("a", 0, 1) && stat.opened == 1, "at zero");

    two_holds();
    (void) agree_command("DEL", "meta", NULL);
    is_int(post(2, 5), LLMB_LEDGER_OK, "the counters alone are no loss");
    ok(balance("a", 10, 0), "of money");

    (void) open_one(3, "a", 100, 10);

    for (i = 0; i < 4; i++) {
        (void) agree_command("DEL", key[i], NULL);
    }

    lost("all but new counters");
}


/* T21: every number of every script */

static void
test_numbers(void)
{
    size_t              len, at, end;
    unsigned            i, k, refused, tried;
    llmb_call_t         call, copy;
    unsigned char       text[256];

    static const char *const  numbers[] = {
        "-5", "1.5", "1e3", "", "0x10", "nan", "inf", "1 2", "9 ", "+1",
        "99999999999999999999"
    };

    static const llmb_call_conf_t  conf = { llmb_string("agree:"), 1, 600000 };

    two_holds();
    start(3);
    (void) add("a", 100, 1);

    tried = 0;
    refused = 0;

    (void) llmb_call_open(&call, &conf, &agree_tag, &op, TIMEOUT);

    /* each number of the leg, but the last two are only times */

    for (i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++) {
        at = 0;

        for (k = 0; k < 4; k++) {
            copy = call;
            len = copy.arg[9].len;

            for (end = at; end < len && copy.arg[9].data[end] != ' '; end++) {
                /* void */
            }

            copy.arg[9].data = text;
            copy.arg[9].len = (size_t) snprintf((char *) text, sizeof(text),
                "%.*s%s%.*s", (int) at, (char *) call.arg[9].data, numbers[i],
                (int) (len - end), (char *) call.arg[9].data + end);

            tried++;
            refused += (agree_send(LLMB_CALL_OPEN, &copy) == -1
                        && strncmp(agree_error, "ARGS", 4) == 0);
            at = end + 1;
        }
    }

    is_int(refused, tried, "a leg with what is no number is refused (T21)");

    (void) llmb_call_post(&call, &conf, &agree_tag, hold(2), actual, NULL, 0);

    tried = 0;
    refused = 0;

    for (i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++) {

        /* how long to remember has no greatest number */

        for (k = (i == 10); k < 2; k++) {
            copy = call;
            copy.arg[7 + k].data = text;
            copy.arg[7 + k].len = (size_t) snprintf((char *) text,
                                                    sizeof(text),
                                                    k ? "0 0 0 0 %s 0" : "%s",
                                                    numbers[i]);
            tried++;
            refused += (agree_send(LLMB_CALL_POST, &copy) == -1
                        && strncmp(agree_error, "ARGS", 4) == 0);
        }
    }

    is_int(refused, tried, "a post with what is no number is refused");

    start(3);
    (void) add("a", 100, 1);
    (void) add("b", 100, 1);
    (void) llmb_call_post(&call, &conf, &agree_tag, hold(4), actual, op.leg,
                          2);
    call.arg[13] = call.arg[10];
    ok(agree_send(LLMB_CALL_POST, &call) == -1
       && strncmp(agree_error, "ARGS", 4) == 0,
       "a post that names an account twice is refused");

    (void) llmb_call_extend(&call, &conf, &agree_tag, hold(2), 5);

    for (i = 0, refused = 0; i < 10; i++) {
        copy = call;
        copy.arg[7].data = (unsigned char *) (uintptr_t) numbers[i];
        copy.arg[7].len = strlen(numbers[i]);
        refused += (agree_send(LLMB_CALL_EXTEND, &copy) == -1
                    && strncmp(agree_error, "ARGS", 4) == 0);
    }

    is_int(refused, 10, "an extend with what is no number is refused");

    (void) llmb_call_void(&call, &conf, &agree_tag, hold(2));

    for (i = 0, refused = 0; i < 10; i++) {
        copy = call;
        copy.arg[6 + i % 2].data = (unsigned char *) (uintptr_t) numbers[i];
        copy.arg[6 + i % 2].len = strlen(numbers[i]);
        refused += (agree_send(LLMB_CALL_VOID, &copy) == -1
                    && strncmp(agree_error, "ARGS", 4) == 0);
    }

    is_int(refused, 10, "a void with what is no number or no id is refused");

    ok(balance("a", 5, 10), "nothing was done");
}


static void
test_walk(void)
{
    int            n;
    char           names[WALKED][24];
    unsigned       i, k, round, portion, good;
    unsigned char  seen[WALKED];

    static const unsigned  counts[] = { 0, 1, 64, 65, 120, WALKED };

    for (round = 0; round < sizeof(counts) / sizeof(counts[0]); round++) {
        reset();
        memset(seen, 0, sizeof(seen));

        for (i = 0; i < counts[round]; i++) {
            (void) snprintf(names[i], sizeof(names[i]), "account %u", i);
            start(i);
            (void) add(names[i], 10000, i + 1);
            (void) open_op();
        }

        n = agree_walk(walked, 2 * WALKED, &portion);
        good = 0;

        for (k = 0; (int) k < n; k++) {
            i = (unsigned) walked[k].held - 1;

            if (i < WALKED) {
                good += !seen[i];
                seen[i] = 1;
            }
        }

        is_int(good, counts[round], "walking finds every account once");
        ok(portion <= LLMB_CALL_PORTION, "in portions, of %u", portion);
    }
}


static void
test_server(void)
{
    two_holds();

    agree_everywhere("SCRIPT", "FLUSH", NULL, NULL);
    is_int(open_one(3, "a", 100, 10), LLMB_LEDGER_OK,
           "scripts that were flushed are sent again (T25)");
    agree_everywhere("SCRIPT", "FLUSH", NULL, NULL);
    is_int(post(3, 5), LLMB_LEDGER_OK, "each of them");
    agree_everywhere("SCRIPT", "FLUSH", NULL, NULL);
    is_int(extend(2, 5), LLMB_LEDGER_OK, "extend");
    is_int(cancel(2), LLMB_LEDGER_OK, "void");
    ok(balance("a", 10, 0), "and peek");

    if (agree_cluster) {
        ok(agree_two_tags() == -1
           && strncmp(agree_error, "CROSSSLOT", 9) == 0,
           "keys of two tags are refused by the cluster (T26)");
        return;
    }

    two_holds();

    agree_everywhere("CONFIG", "SET", "maxmemory", "1");
    is_int(open_one(3, "a", 100, 10), AGREE_ERROR,
           "a server out of memory opens nothing");
    ok(strncmp(agree_error, "OOM", 3) == 0, "and tells why");
    is_int(post(2, 7), LLMB_LEDGER_OK, "but closes what is open");
    agree_everywhere("CONFIG", "SET", "maxmemory", "0");

    ok(balance("a", 12, 0) && stat.pending == 0, "completely");
}


static void
test_random(unsigned long steps, uint64_t seed)
{
    unsigned       p;
    const char    *what;
    unsigned long  step;

    for (p = 0; agree_random_name(p) != NULL; p++) {
        what = agree_random(p, steps, seed + p, &step);

        ok(what == NULL, "random operations agree: %s", agree_random_name(p));

        if (what != NULL) {
            printf("# profile %u, seed %llu, step %lu: %s; last error: %s\n",
                   p, (unsigned long long) (seed + p), step, what,
                   agree_error);
        }
    }
}


/* What a request costs a busy server: one open and one post. */

static void
bench(void)
{
    int          fine;
    double       usec, calls, usec_before, calls_before, least;
    unsigned     i, k, legs;
    llmb_call_t  call;

    static const char *const       name[] = { "key", "team", "org" };
    static const llmb_call_conf_t  conf = { llmb_string("agree:"), 1, 600000 };

    store = &agree_redis;
    fine = 1;

    for (legs = 1; legs <= 3; legs++) {
        reset();
        least = 0;
        agree_cpu(&usec_before, &calls_before);

        for (i = 0; i < 50000; i += 50) {

            for (k = 0; k < 100; k++) {
                start(i + k % 50);

                while (op.n < legs) {
                    (void) add(name[op.n], LLMB_MONEY_LIMIT_NUSD, 1000);
                }

                if (k < 50) {
                    (void) llmb_call_open(&call, &conf, &agree_tag, &op, 9999);
                    agree_append(LLMB_CALL_OPEN, &call);

                } else {
                    actual[LLMB_UNIT_USD] = 7;
                    (void) llmb_call_post(&call, &conf, &agree_tag, op.id,
                                          actual, op.leg, op.n);
                    agree_append(LLMB_CALL_POST, &call);
                }
            }

            fine = agree_collect(100) && fine;

            /* the least of many: others use the machine, too */

            if (i % 1000 == 0) {
                agree_cpu(&usec, &calls);

                usec_before = 2 * (usec - usec_before)
                              / (calls - calls_before);

                if (least == 0 || least > usec_before) {
                    least = usec_before;
                }

                usec_before = usec;
                calls_before = calls;
            }
        }

        printf("# %u legs: %.1f us for open and post%s\n", legs, least,
               fine ? "" : ", but some failed");
    }
}


int
main(int argc, char **argv)
{
    int            cluster;
    uint64_t       seed;
    unsigned long  steps;

    if (argc > 1 && strcmp(argv[1], "core") == 0) {
        test_contract(&agree_core);
        return test_done();
    }

    cluster = (argc > 3 && strcmp(argv[3], "cluster") == 0);

    if (argc < 3 || !agree_connect(argv[2], cluster)) {
        printf("Bail out! no server, or it takes no script\n");
        return 1;
    }

    if (strcmp(argv[1], "bench") == 0) {
        bench();
        agree_disconnect();
        return 0;
    }

    steps = (argc > 3 + cluster) ? strtoul(argv[3 + cluster], NULL, 10)
                                 : STEPS;
    seed = (argc > 4 + cluster) ? strtoull(argv[4 + cluster], NULL, 10) : 1;

    test_contract(&agree_redis);
    test_unknown();
    test_late();
    test_lost();
    test_numbers();
    test_walk();
    test_server();
    test_random(steps, seed);

    agree_disconnect();

    return test_done();
}
