
/*
 * Copyright (C) the ngx_http_llm_budget_module authors
 *
 * The ledger: each sentence of its contract.
 */


#include "core/llmb_ledger_table.h"

#include "llmb_test.h"


#define SIZE        LLMB_LEDGER_MIN
#define NOW         INT64_C(1700000000000)
#define LATER       (NOW + 60000)
#define END         (NOW + 86400000)


static uint64_t             region[SIZE / 8];
static uint64_t             other[SIZE / 8];
static uint64_t             before[SIZE / 8];
static int64_t              actual[LLMB_UNITS];
static llmb_ledger_t       *ledger;
static llmb_ledger_open_t   op;
static llmb_hold_e          state;


static void
create(void)
{
    memset(region, 0xa5, sizeof(region));
    ledger = llmb_ledger_create(region, SIZE);
}


static void
name_key(uint64_t key[2], const char *name)
{
    llmb_str_t  part;

    part.len = strlen(name);
    part.data = (unsigned char *) (uintptr_t) name;

    llmb_ledger_key(key, &part, 1);
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

    name_key(leg->key, name);

    leg->name.len = strlen(name);
    leg->name.data = (unsigned char *) (uintptr_t) name;
    leg->unit = LLMB_UNIT_USD;
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
    return llmb_ledger_open(ledger, &op, NOW, LATER);
}


/* one leg of USD */

static llmb_ledger_rc_e
open_one(unsigned id, const char *name, int64_t limit, int64_t amount)
{
    start(id);
    (void) add(name, limit, amount);

    return open_op();
}


static llmb_ledger_rc_e
post(unsigned id, int64_t usd)
{
    unsigned char  bytes[LLMB_LEDGER_ID];

    memset(bytes, 0, sizeof(bytes));
    memcpy(bytes, &id, sizeof(id));
    actual[LLMB_UNIT_USD] = usd;

    return llmb_ledger_post(ledger, bytes, actual, NOW, &state);
}


static llmb_ledger_rc_e
void_one(unsigned id)
{
    unsigned char  bytes[LLMB_LEDGER_ID];

    memset(bytes, 0, sizeof(bytes));
    memcpy(bytes, &id, sizeof(id));

    return llmb_ledger_void(ledger, bytes, NOW, &state);
}


static llmb_ledger_rc_e
extend(unsigned id, int64_t deadline_ms)
{
    unsigned char  bytes[LLMB_LEDGER_ID];

    memset(bytes, 0, sizeof(bytes));
    memcpy(bytes, &id, sizeof(id));

    return llmb_ledger_extend(ledger, bytes, deadline_ms);
}


static int
balance(const char *name, int64_t spent, int64_t held)
{
    uint64_t               key[2];
    llmb_ledger_account_t  account;

    name_key(key, name);

    if (llmb_ledger_peek(ledger, key, &account) != LLMB_LEDGER_OK) {
        return 0;
    }

    return account.spent == spent && account.held == held;
}


static int
absent(const char *name)
{
    uint64_t               key[2];
    llmb_ledger_account_t  account;

    name_key(key, name);

    return llmb_ledger_peek(ledger, key, &account) == LLMB_LEDGER_UNKNOWN;
}


static llmb_ledger_stat_t
stat_now(void)
{
    llmb_ledger_stat_t  stat;

    llmb_ledger_stat(ledger, &stat);

    return stat;
}


static void
keep(void)
{
    memcpy(before, region, SIZE);
}


static int
unchanged(void)
{
    return memcmp(before, region, SIZE) == 0;
}


static void
sound(const char *title)
{
    is_int(llmb_ledger_check(ledger), 0, title);
}


static void
test_units(void)
{
    int          good;
    unsigned     i;
    llmb_str_t   text;
    llmb_unit_e  unit;

    good = 1;

    for (i = 0; i < LLMB_UNITS; i++) {
        text.data = (unsigned char *) (uintptr_t)
                        llmb_unit_name((llmb_unit_e) i);
        text.len = strlen(llmb_unit_name((llmb_unit_e) i));
        unit = LLMB_UNITS;

        good &= (llmb_unit_parse(&text, &unit) == LLMB_OK
                 && (unsigned) unit == i);

        text.len--;
        good &= (llmb_unit_parse(&text, &unit) != LLMB_OK);
    }

    ok(good, "every unit has a name that reads back, a shorter one has not");
    ok(strcmp(llmb_unit_name(LLMB_UNIT_INPUT_TOKENS), "input_tokens") == 0,
       "the unit of input tokens is called input_tokens");
}


/* the numbers are those of Python's hashlib.blake2s */

static void
test_key(void)
{
    uint64_t       key[2], swapped[2];
    llmb_str_t     part[4];
    unsigned char  text[1000];

    static unsigned char  words[] = "teamacmeusd2026-09";

    llmb_ledger_key(key, NULL, 0);
    ok(key[0] == UINT64_C(0x94b9fd20be2a2dfa)
       && key[1] == UINT64_C(0xaad4c30ff404b117),
       "no parts have the known identity");

    part[0].data = words;
    part[0].len = 4;
    part[1].data = words + 4;
    part[1].len = 4;
    part[2].data = words + 8;
    part[2].len = 3;
    part[3].data = words + 11;
    part[3].len = 7;

    llmb_ledger_key(key, part, 4);
    ok(key[0] == UINT64_C(0xc7c7e3fbb9cddb96)
       && key[1] == UINT64_C(0x0d838c710be26624),
       "four parts have the known identity");

    part[1].len = 3;
    part[2].data = words + 7;
    part[2].len = 4;

    llmb_ledger_key(swapped, part, 4);
    ok(key[0] != swapped[0] && key[1] != swapped[1],
       "the same bytes cut otherwise are another identity");

    memset(text, 'x', sizeof(text));
    part[0].data = text;
    part[0].len = 56;

    llmb_ledger_key(key, part, 1);
    ok(key[0] == UINT64_C(0x167902fb63c31dde)
       && key[1] == UINT64_C(0x73bc44fe87015685),
       "a part that fills its block has the known identity");

    part[0].len = 57;

    llmb_ledger_key(key, part, 1);
    ok(key[0] == UINT64_C(0xe97f0b29752c8c17)
       && key[1] == UINT64_C(0xc319deb2a776e63a),
       "a part that goes over its block has the known identity");

    memset(text, 'y', sizeof(text));
    part[0].len = sizeof(text);
    part[1].data = NULL;
    part[1].len = 0;

    llmb_ledger_key(key, part, 2);
    ok(key[0] == UINT64_C(0xbb2a6bcf003e8689)
       && key[1] == UINT64_C(0xfe1726b70b2548c5),
       "a long part and an empty one have the known identity");
}


static void
test_create(void)
{
    llmb_ledger_stat_t  stat;

    ok(llmb_ledger_create(region, SIZE - 1) == NULL,
       "a region below the minimum is refused");
    ok(llmb_ledger_create((unsigned char *) region + 4, SIZE) == NULL,
       "a region out of line is refused");

    create();
    ok(ledger != NULL, "the smallest region is taken");
    sound("a new ledger is sound");

    stat = stat_now();
    ok(stat.accounts_max >= 16 && stat.holds_max >= 16 && stat.legs_max >= 32,
       "the smallest region has room for some of each");
    ok(stat.accounts == 0 && stat.holds == 0 && stat.legs == 0
       && stat.pending == 0 && stat.opened == 0,
       "a new ledger is empty");
}


static void
test_adopt(void)
{
    create();

    (void) open_one(1, "a", 100, 30);
    (void) open_one(2, "b", 100, 40);
    (void) post(2, 50);

    ok(llmb_ledger_adopt(region, SIZE - 8) == NULL
       && llmb_ledger_adopt(region, SIZE + 8) == NULL,
       "a region of another size is not adopted");

    memcpy(other, region, SIZE);
    memset(region, 0xa5, SIZE);
    ledger = llmb_ledger_adopt(other, SIZE);

    ok(ledger == (llmb_ledger_t *) other, "a copy elsewhere is adopted");
    sound("the copy is sound");
    ok(balance("a", 0, 30) && balance("b", 50, 0),
       "the copy has the balances");
    is_int(post(1, 20), LLMB_LEDGER_OK, "a hold of the copy is posted");
    is_int(post(2, 50), LLMB_LEDGER_OK, "a post is replayed on the copy");
    ok(balance("a", 20, 0) && balance("b", 50, 0),
       "and so the balances go on");
    is_int(open_one(3, "a", 100, 81), LLMB_LEDGER_DENIED,
           "the copy refuses what does not fit");
    is_int(open_one(3, "a", 100, 80), LLMB_LEDGER_OK,
           "the copy admits what fits");
    sound("the copy stays sound");

    other[0] ^= 1;
    ok(llmb_ledger_adopt(other, SIZE) == NULL,
       "what is not a ledger is not adopted");

    memset(other, 0, SIZE);
    ok(llmb_ledger_adopt(other, SIZE) == NULL, "zeros are not adopted");
}


static void
test_cap(void)
{
    unsigned  i, admitted;

    create();

    admitted = 0;

    for (i = 1; i <= 50; i++) {
        admitted += (open_one(i, "k", 1000000000, 100000000)
                     == LLMB_LEDGER_OK);
    }

    is_int(admitted, 10, "ten of fifty tenths of the limit are admitted (T01)");
    ok(balance("k", 0, 1000000000), "they fill the limit exactly");
    is_int(op.leg[0].held, 1000000000, "a refusal tells what is held");
    is_int(op.leg[0].spent, 0, "a refusal tells what is spent");
    is_int((int64_t) stat_now().denied, 40, "refusals are counted");
    is_int((int64_t) stat_now().pending, 10, "pending holds are counted");
    sound("the ledger is sound");
}


static void
test_all_or_nothing(void)
{
    create();

    start(1);
    (void) add("key", 100, 20);
    (void) add("team", 10, 20);
    keep();

    is_int(open_op(), LLMB_LEDGER_DENIED, "the second leg refuses (T22)");
    is_int(op.denied, 1, "the refusal names it");
    ok(absent("key") && absent("team"), "no account was made");
    is_int(post(1, 1), LLMB_LEDGER_UNKNOWN, "no hold was made");

    (void) open_one(2, "key", 100, 10);
    (void) post(2, 7);

    start(3);
    (void) add("key", 100, 20);
    (void) add("team", 30, 20);
    (void) add("org", 5, 20);
    (void) add("all", 5, 20);

    is_int(open_op(), LLMB_LEDGER_DENIED, "the third leg refuses");
    is_int(op.denied, 2, "of two that refuse the first is named");
    ok(balance("key", 7, 0) && absent("team"), "nothing was held before it");
    ok(op.leg[0].spent == 7 && op.leg[0].held == 0 && op.leg[3].spent == 0,
       "every leg has its balance");

    op.n = 2;
    is_int(open_op(), LLMB_LEDGER_OK, "without it the hold is opened");
    ok(balance("key", 7, 20) && balance("team", 0, 20), "over both accounts");
    is_int(post(3, 5), LLMB_LEDGER_OK, "the hold is posted");
    ok(balance("key", 12, 0) && balance("team", 5, 0), "to both accounts");
    sound("the ledger is sound");
}


static void
test_same_key(void)
{
    llmb_ledger_leg_t  *leg;

    create();

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
    is_int((int64_t) stat_now().legs, 2, "they are one leg");
    is_int(post(1, 50), LLMB_LEDGER_OK, "the hold is posted");
    ok(balance("a", 50, 0) && balance("b", 50, 0),
       "the account is charged once");

    start(2);
    (void) add("c", 100, 10);
    (void) add("c", 15, 10);
    is_int(open_op(), LLMB_LEDGER_DENIED,
           "the lower of two limits of one account is kept");
    is_int(op.denied, 1, "and the leg that has it is named");

    start(2);
    (void) add("c", INT64_MAX, INT64_MAX);
    (void) add("c", INT64_MAX, 1);
    is_int(open_op(), LLMB_LEDGER_BAD, "a sum that overflows is bad");

    start(2);
    (void) add("c", 100, 1);
    leg = add("c", 100, 1);
    leg->unit = LLMB_UNIT_TOKENS;
    is_int(open_op(), LLMB_LEDGER_BAD, "two units of one account are bad");
    ok(absent("c"), "and nothing was done");
    sound("the ledger is sound");
}


static void
test_zero(void)
{
    llmb_ledger_leg_t  *leg;

    create();

    is_int(open_one(1, "a", 0, 1), LLMB_LEDGER_DENIED,
           "a limit of 0 refuses everything (T30)");
    is_int(open_one(1, "a", 0, 0), LLMB_LEDGER_OK, "but what costs nothing");
    (void) post(1, 5);
    ok(balance("a", 5, 0), "what it cost in the end is charged");
    is_int(open_one(2, "a", 3, 0), LLMB_LEDGER_OK,
           "nothing is admitted over the limit, too");

    start(3);
    leg = add("b", 0, 0);
    leg->postpaid = 1;
    is_int(open_op(), LLMB_LEDGER_DENIED, "a limit of 0 refuses postpaid");

    start(3);
    leg = add("b", 10, 0);
    leg->postpaid = 1;
    is_int(open_op(), LLMB_LEDGER_OK, "postpaid is admitted below the limit");
    (void) post(3, 9);

    start(4);
    leg = add("b", 10, 0);
    leg->postpaid = 1;
    is_int(open_op(), LLMB_LEDGER_OK, "up to the last unit");
    (void) post(4, 100);

    start(5);
    leg = add("b", 109, 0);
    leg->postpaid = 1;
    is_int(open_op(), LLMB_LEDGER_DENIED, "and refused at the limit");

    start(5);
    is_int(open_op(), LLMB_LEDGER_OK, "a hold without legs is a hold");
    is_int(post(5, 1), LLMB_LEDGER_OK, "and is posted");
    sound("the ledger is sound");
}


static void
test_degrade(void)
{
    create();

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
    ok(balance("a", 0, 75) && balance("b", 0, 1), "nothing was held");
    is_int(post(3, 1), LLMB_LEDGER_UNKNOWN, "no hold was made");

    start(3);
    add("a", 100, 1)->degrade_at = 75;
    (void) add("b", 1, 1);
    is_int(open_op(), LLMB_LEDGER_DENIED,
           "a leg without room comes before a threshold");
    is_int(op.denied, 1, "and is named");

    start(3);
    add("new", 100, 1)->degrade_at = 0;
    is_int(open_op(), LLMB_LEDGER_DEGRADE,
           "a threshold of 0 degrades from the start");
    is_int((int64_t) stat_now().denied, 1, "degrading is no refusal");
    sound("the ledger is sound");
}


static void
test_post(void)
{
    create();

    (void) open_one(1, "a", 100, 60);
    is_int(post(1, 160), LLMB_LEDGER_OK, "more than was held is posted (T54)");
    is_int(state, LLMB_HOLD_POSTED, "the hold is posted");
    ok(balance("a", 160, 0), "all of it is charged");
    is_int(open_one(2, "a", 100, 1), LLMB_LEDGER_DENIED,
           "the next one is refused");
    keep();
    is_int(post(1, 160), LLMB_LEDGER_OK, "a post is replayed");
    is_int(post(1, 999), LLMB_LEDGER_OK, "also with another amount");
    is_int(state, LLMB_HOLD_POSTED, "and tells that it was posted");
    is_int(void_one(1), LLMB_LEDGER_CLOSED, "it is not voided after that");
    is_int(state, LLMB_HOLD_POSTED, "void tells that it was posted");
    is_int(extend(1, LATER + 1), LLMB_LEDGER_CLOSED, "nor extended");
    ok(unchanged(), "replays change nothing");

    is_int(post(7, 1), LLMB_LEDGER_UNKNOWN, "an unknown hold is not posted");
    is_int(void_one(7), LLMB_LEDGER_UNKNOWN, "nor voided");
    is_int(extend(7, LATER), LLMB_LEDGER_UNKNOWN, "nor extended");

    (void) open_one(3, "b", 100, 60);
    keep();
    is_int(post(3, -1), LLMB_LEDGER_BAD, "a negative charge is bad (T21)");
    ok(unchanged(), "and changes nothing");
    is_int(post(3, 0), LLMB_LEDGER_OK, "a charge of 0 is a charge");
    ok(balance("b", 0, 0), "everything held was returned");
    sound("the ledger is sound");
}


static void
test_units_charged(void)
{
    unsigned  i;

    static const char *const  names[LLMB_UNITS] = {
        "u0", "u1", "u2", "u3", "u4", "u5"
    };

    create();

    start(1);

    for (i = 0; i < LLMB_UNITS; i++) {
        add(names[i], 1000, 10)->unit = (llmb_unit_e) i;
        actual[i] = 100 + i;
    }

    is_int(open_op(), LLMB_LEDGER_OK, "a hold over all units is opened");

    actual[LLMB_UNIT_CONCURRENCY] = -5;
    is_int(post(1, 100), LLMB_LEDGER_OK, "and posted");
    ok(balance("u0", 100, 0) && balance("u1", 101, 0) && balance("u2", 102, 0)
       && balance("u3", 103, 0) && balance("u4", 104, 0),
       "each account is charged its own unit");
    ok(balance("u5", 0, 0), "concurrency is returned in full");

    start(2);
    add("u1", 1000, 10)->unit = LLMB_UNIT_USD;
    is_int(open_op(), LLMB_LEDGER_BAD, "an account keeps its unit");

    for (i = 0; i < LLMB_UNITS; i++) {
        actual[i] = 0;
    }

    sound("the ledger is sound");
}


static void
test_void(void)
{
    create();

    (void) open_one(1, "a", 100, 60);
    is_int(void_one(1), LLMB_LEDGER_OK, "a hold is voided");
    is_int(state, LLMB_HOLD_VOIDED, "and says so");
    ok(balance("a", 0, 0), "nothing is charged");
    keep();
    is_int(void_one(1), LLMB_LEDGER_OK, "a void is replayed");
    is_int(post(1, 60), LLMB_LEDGER_CLOSED, "it is not posted after that");
    is_int(state, LLMB_HOLD_VOIDED, "post tells that it was voided");
    ok(unchanged(), "replays change nothing");
    sound("the ledger is sound");
}


static void
test_replay_open(void)
{
    create();

    (void) open_one(1, "a", 100, 60);
    ok(op.replayed == 0, "the first open is no replay");
    keep();
    is_int(open_one(1, "a", 100, 60), LLMB_LEDGER_OK, "an open is replayed");
    ok(op.replayed == 1, "and says so");
    is_int(open_one(1, "b", 0, 60), LLMB_LEDGER_OK,
           "also with other legs, and without room");
    ok(unchanged(), "replays change nothing");

    (void) post(1, 10);
    keep();
    is_int(open_one(1, "a", 100, 60), LLMB_LEDGER_CLOSED,
           "a posted hold is not opened again");
    ok(unchanged(), "and nothing changes");

    (void) open_one(2, "a", 100, 60);
    (void) void_one(2);
    is_int(open_one(2, "a", 100, 60), LLMB_LEDGER_CLOSED,
           "nor is a voided one");
    sound("the ledger is sound");
}


static void
test_expire(void)
{
    create();

    start(1);
    (void) add("a", 100, 60);
    add("t", 100, 7)->unit = LLMB_UNIT_TOKENS;
    add("r", 100, 1)->unit = LLMB_UNIT_REQUESTS;
    add("c", 100, 1)->unit = LLMB_UNIT_CONCURRENCY;
    (void) open_op();

    is_int(llmb_ledger_expire(ledger, LATER - 1, 100), 0,
           "nothing expires before its deadline");
    is_int(llmb_ledger_expire(ledger, LATER, 100), 1,
           "a hold expires at its deadline");
    ok(balance("a", 60, 0) && balance("t", 7, 0), "what it held is charged");
    ok(balance("r", 1, 0), "and the request counts");
    ok(balance("c", 0, 0), "but concurrency is returned");
    keep();
    is_int(llmb_ledger_expire(ledger, LATER, 100), 0, "it expires once");
    ok(unchanged(), "and then nothing changes");
    is_int(post(1, 20), LLMB_LEDGER_CLOSED, "a late post is refused");
    is_int(state, LLMB_HOLD_EXPIRED, "and told that the hold has expired");
    is_int(void_one(1), LLMB_LEDGER_CLOSED, "so is a late void");
    is_int(extend(1, END), LLMB_LEDGER_CLOSED, "so is a late extend");
    ok(unchanged(), "and nothing changes then");
    is_int(open_one(1, "a", 100, 1), LLMB_LEDGER_CLOSED,
           "nor is it opened again");

    llmb_ledger_expire_policy(ledger, 0);

    start(2);
    (void) add("b", 100, 60);
    add("s", 100, 1)->unit = LLMB_UNIT_REQUESTS;
    (void) open_op();
    is_int(llmb_ledger_expire(ledger, LATER, 100), 1,
           "a hold expires under the other policy");
    ok(balance("b", 0, 0) && balance("s", 0, 0), "and is released");

    llmb_ledger_expire_policy(ledger, 5);

    (void) open_one(3, "b", 100, 60);
    start(4);
    (void) add("d", 100, 1);
    is_int(llmb_ledger_open(ledger, &op, LATER, END), LLMB_LEDGER_OK,
           "an open");
    ok(balance("b", 60, 0), "closes overdue holds first");
    is_int((int64_t) stat_now().expired, 3, "expired holds are counted");
    sound("the ledger is sound");
}


static void
test_expire_order(void)
{
    unsigned  i;

    create();

    for (i = 1; i <= 40; i++) {
        start(i);
        (void) add("a", 1000, 1);
        (void) llmb_ledger_open(ledger, &op, NOW, NOW + 41 - i);
    }

    is_int(llmb_ledger_expire(ledger, NOW + 50, 3), 3,
           "no more expire than asked for");
    ok(post(40, 0) == LLMB_LEDGER_CLOSED && post(38, 0) == LLMB_LEDGER_CLOSED
       && post(37, 0) == LLMB_LEDGER_OK,
       "the most overdue expire first");

    start(100);
    is_int(llmb_ledger_open(ledger, &op, NOW + 50, END), LLMB_LEDGER_OK,
           "an open sweeps");
    is_int((int64_t) stat_now().expired, 3 + LLMB_LEDGER_SWEEP,
           "so many holds and no more");
    sound("the ledger is sound");
}


static void
test_extend(void)
{
    create();

    (void) open_one(1, "a", 100, 10);
    (void) open_one(2, "a", 100, 10);
    (void) open_one(3, "a", 100, 10);

    is_int(extend(1, LATER + 500), LLMB_LEDGER_OK, "a hold is extended");
    is_int(extend(2, LATER - 500), LLMB_LEDGER_OK,
           "an earlier deadline is not an error");
    is_int(llmb_ledger_expire(ledger, LATER - 1, 100), 0,
           "but does not shorten");
    is_int(llmb_ledger_expire(ledger, LATER + 499, 100), 2,
           "the others expire");
    is_int(post(1, 1), LLMB_LEDGER_OK, "the extended one does not");
    sound("the ledger is sound");
}


static void
test_forget(void)
{
    create();

    (void) open_one(1, "a", 100, 10);
    (void) post(1, 10);

    (void) llmb_ledger_expire(ledger, NOW + LLMB_LEDGER_KEEP_MS - 1, 100);
    is_int(post(1, 10), LLMB_LEDGER_OK, "a closed hold is remembered");

    (void) llmb_ledger_expire(ledger, NOW + LLMB_LEDGER_KEEP_MS, 100);
    is_int(post(1, 10), LLMB_LEDGER_UNKNOWN, "and forgotten in the end");
    is_int((int64_t) stat_now().holds, 0, "its record is free");
    ok(balance("a", 10, 0), "the account is not forgotten");

    start(2);
    add("b", 100, 10)->end_ms = INT64_MAX;
    (void) open_op();
    (void) post(2, 3);

    (void) open_one(3, "c", 100, 10);
    (void) extend(3, INT64_MAX);

    (void) llmb_ledger_expire(ledger, END + LLMB_LEDGER_HISTORY_MS - 1, 100);
    ok(balance("a", 10, 0), "an account stays for its history");

    (void) llmb_ledger_expire(ledger, END + LLMB_LEDGER_HISTORY_MS, 100);
    ok(absent("a"), "and goes after it");
    ok(balance("c", 0, 10), "but not with a pending hold");

    (void) post(3, 4);
    ok(balance("c", 4, 0), "which is charged there");

    (void) llmb_ledger_expire(ledger, END + LLMB_LEDGER_HISTORY_MS, 100);
    ok(absent("c"), "after the hold it goes");

    (void) llmb_ledger_expire(ledger, INT64_MAX, 100);
    ok(balance("b", 3, 0), "an account without an end never goes");
    (void) llmb_ledger_expire(ledger, INT64_MIN, 100);
    ok(balance("b", 3, 0), "whatever the clock says");
    sound("the ledger is sound");
}


static void
test_bad(void)
{
    create();

    (void) open_one(1, "a", 100, 10);
    keep();

    is_int(open_one(2, "a", 100, -1), LLMB_LEDGER_BAD,
           "a negative amount is bad (T21)");
    is_int(open_one(2, "a", -1, 1), LLMB_LEDGER_BAD,
           "a negative limit is bad");

    start(2);
    add("a", 100, 1)->unit = LLMB_UNITS;
    is_int(open_op(), LLMB_LEDGER_BAD, "an unknown unit is bad");

    start(2);
    op.n = LLMB_LEDGER_LEGS + 1;
    is_int(open_op(), LLMB_LEDGER_BAD, "too many legs are bad");
    ok(unchanged(), "and nothing changes");
}


static void
test_saturation(void)
{
    create();

    is_int(open_one(1, "a", INT64_MAX, INT64_MAX), LLMB_LEDGER_OK,
           "the greatest amount is held");
    is_int(open_one(2, "a", INT64_MAX, 1), LLMB_LEDGER_DENIED,
           "and one more is not");
    is_int(open_one(2, "a", INT64_MAX, 0), LLMB_LEDGER_OK, "but nothing is");
    is_int(post(1, INT64_MAX), LLMB_LEDGER_OK,
           "the greatest amount is charged");
    is_int(post(2, INT64_MAX), LLMB_LEDGER_OK, "and once more");
    ok(balance("a", INT64_MAX, 0), "what is spent does not wrap (T21)");
    is_int(open_one(3, "a", INT64_MAX, 1), LLMB_LEDGER_DENIED,
           "and stays above every limit");

    (void) open_one(8, "c", 100, 10);
    (void) open_one(9, "c", 100, 10);
    (void) post(8, INT64_MAX - 5);
    (void) post(9, 10);
    ok(balance("c", INT64_MAX, 0), "a charge that does not fit fills it up");

    (void) open_one(4, "b", 100, 60);
    (void) open_one(5, "b", 100, 0);
    (void) post(5, INT64_MAX);
    ok(balance("b", INT64_MAX, 60), "spent and held may exceed an integer");
    is_int(open_one(6, "b", INT64_MAX, 1), LLMB_LEDGER_DENIED,
           "which refuses an amount");
    is_int(open_one(6, "b", INT64_MAX, 0), LLMB_LEDGER_OK,
           "admits nothing");

    start(7);
    add("b", INT64_MAX, 0)->postpaid = 1;
    is_int(open_op(), LLMB_LEDGER_DENIED, "refuses postpaid");

    start(7);
    add("b", INT64_MAX, 0)->degrade_at = INT64_MAX - 1;
    is_int(open_op(), LLMB_LEDGER_DEGRADE, "and is past every threshold");
    sound("the ledger is sound");
}


/* Account number i, of an unfinished period and with something spent. */

static void
fill_accounts(unsigned from, unsigned n, int64_t end_ms, int64_t spend)
{
    char      name[32];
    unsigned  i;

    for (i = from; i < from + n; i++) {
        (void) snprintf(name, sizeof(name), "f%u", i);

        start(100000 + i);
        add(name, 100, 1)->end_ms = end_ms;
        (void) open_op();
        (void) post(100000 + i, spend);
    }
}


static void
test_full_accounts(void)
{
    unsigned  n;

    create();

    n = (unsigned) stat_now().accounts_max;

    fill_accounts(0, n - 1, END, 1);
    start(1);
    (void) add("x", 100, 1);
    (void) add("f0", 100, 1);
    (void) add("y", 100, 1);
    is_int(open_op(), LLMB_LEDGER_FULL, "no room for one of two accounts");
    is_int((int64_t) stat_now().full, 1, "which is counted");
    ok(absent("x") && absent("y") && balance("f0", 1, 0),
       "nothing was done, and no running account evicted");
    is_int(post(1, 0), LLMB_LEDGER_UNKNOWN, "no hold was made");
    sound("the ledger is sound");

    op.n = 2;
    is_int(open_op(), LLMB_LEDGER_OK, "the last account is given");
    is_int(open_one(2, "z", 100, 1), LLMB_LEDGER_FULL, "and then none");

    (void) void_one(1);
    is_int(open_one(2, "z", 100, 1), LLMB_LEDGER_OK,
           "an account with nothing spent and held is given away");
    ok(absent("x"), "that one");
    is_int(open_one(3, "zz", 100, 1), LLMB_LEDGER_FULL,
           "but not with a pending hold");

    start(3);
    (void) add("zz", 100, 1);
    is_int(llmb_ledger_open(ledger, &op, END - 1, INT64_MAX),
           LLMB_LEDGER_FULL, "nor one of a running period");
    is_int(llmb_ledger_open(ledger, &op, END, INT64_MAX), LLMB_LEDGER_OK,
           "but one of an ended period");
    ok(balance("f0", 1, 0) == 0 || balance("f1", 1, 0) == 0,
       "an ended account is gone");
    is_int((int64_t) stat_now().accounts, n, "one only");
    sound("the ledger is sound");
}


static void
test_full_oldest(void)
{
    unsigned  n;

    create();

    n = (unsigned) stat_now().accounts_max;

    fill_accounts(0, 1, NOW - 5, 1);
    fill_accounts(1, 1, NOW - 9, 1);
    fill_accounts(2, 1, NOW - 7, 1);
    fill_accounts(3, n - 3, END, 1);

    is_int(open_one(1, "x", 100, 1), LLMB_LEDGER_OK,
           "a full pool makes room");
    ok(absent("f1") && balance("f0", 1, 0) && balance("f2", 1, 0),
       "of the account that ended first");

    start(2);
    (void) add("f2", 100, 1);
    (void) add("y", 100, 1);
    is_int(open_op(), LLMB_LEDGER_OK, "it makes room again");
    ok(absent("f0") && balance("f2", 1, 1),
       "but not of an account that this hold is on");

    keep();
    start(3);
    (void) add("v", 100, 1);
    (void) add("w", 100, 1);
    is_int(open_op(), LLMB_LEDGER_FULL, "and then it is full");
    sound("the ledger is sound");
}


static void
test_full_endless(void)
{
    create();

    fill_accounts(0, (unsigned) stat_now().accounts_max, INT64_MAX, 1);

    start(1);
    (void) add("x", 100, 1);
    is_int(llmb_ledger_open(ledger, &op, INT64_MAX, INT64_MAX),
           LLMB_LEDGER_FULL, "an account without an end is never evicted");
    sound("the ledger is sound");
}


/* Identities that differ in one of their words only. */

static void
test_key_words(void)
{
    unsigned               i;
    llmb_ledger_account_t  account;

    create();

    for (i = 0; i < 200; i++) {
        start(i);
        (void) add("a", 1000000, i);
        op.leg[0].key[0] = i % 10;
        op.leg[0].key[1] = i / 10 % 10;
        (void) open_op();
    }

    is_int((int64_t) stat_now().accounts, 100,
           "identities differ in either word");

    op.leg[0].key[0] = 3;
    op.leg[0].key[1] = 4;
    (void) llmb_ledger_peek(ledger, op.leg[0].key, &account);
    is_int(account.held, 43 + 143, "and do not share an account");
}


static void
test_full_holds(void)
{
    unsigned            i;
    llmb_ledger_stat_t  stat;

    create();

    stat = stat_now();

    for (i = 1; i <= stat.holds_max; i++) {
        start(i);
        (void) open_op();
    }

    is_int((int64_t) stat_now().pending, (int64_t) stat.holds_max,
           "every record is a pending hold");

    start(i);
    (void) add("a", 100, 1);
    is_int(open_op(), LLMB_LEDGER_FULL, "one more is refused");
    ok(absent("a"), "and nothing was done");

    (void) void_one(7);
    (void) void_one(3);
    is_int(open_op(), LLMB_LEDGER_OK, "a closed hold makes room");
    is_int(void_one(7), LLMB_LEDGER_UNKNOWN, "the first one closed");
    is_int(void_one(3), LLMB_LEDGER_OK, "not the other");
    is_int(void_one(5), LLMB_LEDGER_OK, "nor a pending one");
    sound("the ledger is sound");
}


static void
test_full_legs(void)
{
    char                names[LLMB_LEDGER_LEGS][8];
    unsigned            i, k;
    llmb_ledger_stat_t  stat;

    create();

    stat = stat_now();

    for (k = 0; k < LLMB_LEDGER_LEGS; k++) {
        (void) snprintf(names[k], sizeof(names[k]), "l%u", k);
    }

    for (i = 1; i <= stat.legs_max / LLMB_LEDGER_LEGS; i++) {
        start(i);

        for (k = 0; k < LLMB_LEDGER_LEGS; k++) {
            (void) add(names[k], 1000000, 2);
        }

        if (open_op() != LLMB_LEDGER_OK) {
            break;
        }
    }

    is_int((int64_t) stat_now().legs,
           (int64_t) (stat.legs_max / LLMB_LEDGER_LEGS * LLMB_LEDGER_LEGS),
           "holds of many legs fill the pool");

    start(i);

    for (k = 0; k < LLMB_LEDGER_LEGS; k++) {
        (void) add(names[k], 1000000, 2);
    }

    is_int(open_op(), LLMB_LEDGER_FULL, "one more is refused");
    ok(balance("l0", 0, 2 * (i - 1)) && balance("l31", 0, 2 * (i - 1)),
       "and nothing was held");
    is_int(void_one(1), LLMB_LEDGER_OK, "a hold is voided");
    is_int(open_op(), LLMB_LEDGER_OK, "and its legs make room");
    sound("the ledger is sound");
}


static void
test_walk(void)
{
    char                   text[200];
    unsigned               seen, n;
    uint64_t               cursor;
    llmb_ledger_account_t  account;

    create();

    cursor = 0;
    is_int(llmb_ledger_next(ledger, &cursor, &account), 0,
           "an empty ledger has no accounts");

    memset(text, 'n', sizeof(text));

    start(1);
    (void) add("a", 100, 10);
    (void) add("b", 200, 20);
    op.leg[1].end_ms = INT64_MAX;
    op.leg[1].unit = LLMB_UNIT_TOKENS;
    op.leg[1].name.data = (unsigned char *) text;
    op.leg[1].name.len = sizeof(text);
    (void) add("c", 300, 30);
    (void) open_op();

    cursor = 0;
    seen = 0;
    n = 0;

    while (llmb_ledger_next(ledger, &cursor, &account)) {
        n++;

        if (account.name.len == 1 && account.name.data[0] == 'a'
            && account.limit == 100 && account.held == 10
            && account.unit == LLMB_UNIT_USD && account.end_ms == END
            && account.pending == 1)
        {
            seen |= 1;
        }

        if (account.name.len == LLMB_LEDGER_NAME
            && memcmp(account.name.data, text, LLMB_LEDGER_NAME) == 0
            && account.limit == 200 && account.held == 20
            && account.unit == LLMB_UNIT_TOKENS
            && account.end_ms == INT64_MAX)
        {
            seen |= 2;
        }

        if (account.name.len == 1 && account.name.data[0] == 'c') {
            seen |= 4;
        }
    }

    is_int(n, 3, "a walk shows every account once");
    is_int(seen, 7, "with its name, cut, and its numbers");

    (void) open_one(2, "a", 50, 1);
    (void) llmb_ledger_peek(ledger, op.leg[0].key, &account);
    is_int(account.limit, 50, "the limit is that of the last open");
    is_int((int64_t) account.pending, 2, "the holds on it are counted");
}


/* A finite number of wrong bits, each of which check may or may not see. */

static void
test_check(void)
{
    int                  found;
    unsigned             i, n;
    uint64_t             random;
    unsigned char       *byte;
    llmb_ledger_t       *copy;
    llmb_ledger_stat_t   stat;

    create();
    fill_accounts(0, 20, END, 1);
    fill_accounts(20, 10, END, 0);

    for (i = 1; i <= 40; i++) {
        start(i);
        (void) add("a", 1000, 3);
        (void) add("b", 1000, 4);
        (void) add("f3", 1000, 4);
        (void) open_op();
    }

    for (i = 5; i <= 15; i++) {
        (void) void_one(i);
    }

    sound("the ledger is sound");

    copy = (llmb_ledger_t *) other;
    found = 0;
    random = 1;
    n = 20000;

    for (i = 0; i < n; i++) {
        random = random * UINT64_C(6364136223846793005) + 1;

        /* the size and the capacities are what check trusts */

        memcpy(other, region, SIZE);
        byte = (unsigned char *) other + 24 + (random >> 33) % 8000;
        *byte ^= (unsigned char) (1 << (random >> 20) % 8);

        found += (llmb_ledger_check(copy) != 0);
    }

    ok(found > 1000, "wrong bits are found, and do not harm the check");

    llmb_ledger_stat(ledger, &stat);
    is_int((int64_t) stat.pending, 29, "the ledger itself is as it was");
    sound("and sound");
}


/* One wrong thing at a time, in a ledger with something of each. */

static void
test_check_finds(void)
{
    int64_t              amount;
    unsigned             i;
    llmb_ledger_table_t  t;

    static const char *const  titles[] = {
        "a held amount that is no hold's is found",
        "held amounts of two accounts changed about are found",
        "a negative charge is found",
        "a wrong count of holds is found",
        "a leg of the wrong account is found",
        "a lost leg is found",
        "a heap out of order is found",
        "a lost account is found",
        "a loop in a chain is found",
        "a loop in the closed holds is found",
        "a wrong count of records is found",
        "a call that was never finished is found"
    };

    for (i = 0; i < sizeof(titles) / sizeof(titles[0]); i++) {
        create();

        (void) open_one(1, "a", 100, 5);
        (void) open_one(2, "b", 100, 6);
        (void) open_one(3, "c", 100, 7);
        (void) open_one(4, "c", 100, 8);
        (void) post(4, 8);
        (void) void_one(3);

        llmb_ledger_table(&t, ledger);

        switch (i) {

        case 0:
            t.accounts[1].held++;
            break;

        case 1:
            amount = t.accounts[1].held;
            t.accounts[1].held = t.accounts[2].held;
            t.accounts[2].held = amount;
            break;

        case 2:
            t.accounts[3].spent = -1;
            break;

        case 3:
            t.accounts[1].pending++;
            break;

        case 4:
            t.legs[1].account = 3;
            break;

        case 5:
            t.holds[1].n = 0;
            t.holds[1].legs = 0;
            break;

        case 6:
            t.holds[1].at_ms++;
            break;

        case 7:
            t.account_buckets[llmb_ledger_account_bucket(&t,
                                                   t.accounts[3].key)] = 0;
            break;

        case 8:
            t.accounts[1].next = 1;
            break;

        case 9:
            t.holds[3].link = t.head->oldest;
            break;

        case 10:
            t.head->legs.used++;
            break;

        default:
            llmb_ledger_begin(&t, ledger);
            (void) open_one(5, "a", 100, 5);
            break;
        }

        ok(llmb_ledger_check(ledger) != 0, "%s", titles[i]);
    }
}


int
main(void)
{
    test_units();
    test_key();
    test_create();
    test_adopt();
    test_cap();
    test_all_or_nothing();
    test_same_key();
    test_zero();
    test_degrade();
    test_post();
    test_units_charged();
    test_void();
    test_replay_open();
    test_expire();
    test_expire_order();
    test_extend();
    test_forget();
    test_bad();
    test_saturation();
    test_full_accounts();
    test_full_oldest();
    test_full_endless();
    test_key_words();
    test_full_holds();
    test_full_legs();
    test_walk();
    test_check();
    test_check_finds();

    return test_done();
}
