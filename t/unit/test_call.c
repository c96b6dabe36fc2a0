
/*
 * Copyright (C) the ngx_http_llm_budget_module authors
 *
 * Calls of the scripts as arguments, their answers, and journal records.
 */


#include "core/llmb_call.h"
#include "core/llmb_money.h"

#include "llmb_test.h"


#define NOW     INT64_C(1700000000000)
#define HOUR    INT64_C(3600000)
#define DAY     (24 * HOUR)
#define ID      "00010203040506070809aabbccddeeff"


static llmb_call_t         call;
static llmb_ledger_open_t  op;
static llmb_record_t       record, again;
static int64_t             actual[LLMB_UNITS];
static unsigned char       line[LLMB_RECORD_LEN];
static llmb_call_conf_t    conf = { llmb_string("llmb"), 1, 600000 };
static llmb_str_t          tag = llmb_string("acme");

static const unsigned char  id[LLMB_LEDGER_ID] = {
    0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 0xaa, 0xbb, 0xcc, 0xdd, 0xee, 0xff
};


static llmb_str_t
str(const char *text)
{
    llmb_str_t  s;

    s.len = strlen(text);
    s.data = (unsigned char *) (uintptr_t) text;

    return s;
}


static void
start(void)
{
    memset(&op, 0, sizeof(op));
    memcpy(op.id, id, sizeof(id));
}


static llmb_ledger_leg_t *
add(uint64_t key, const char *name, int64_t limit, int64_t amount)
{
    llmb_ledger_leg_t  *leg;

    leg = &op.leg[op.n++];
    leg->key[0] = UINT64_C(0x0123456789abcdef);
    leg->key[1] = key;
    leg->name = str(name);
    leg->start_ms = NOW;
    leg->end_ms = NOW + DAY;
    leg->limit = limit;
    leg->amount = amount;
    leg->degrade_at = INT64_MAX;

    return leg;
}


static void
arg(unsigned i, const char *want, const char *title)
{
    if (i >= call.n) {
        ok(0, "%s", title);
        return;
    }

    is_str(call.arg[i].data, call.arg[i].len, want, title);
}


static void
test_tags(void)
{
    size_t         len;
    llmb_str_t     text;
    unsigned char  out[LLMB_CALL_TAG], copy[LLMB_CALL_TAG];

    static const char  long_text[] =
        "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef!";

    text = str("Acme_1.x:y@z/w-");
    len = llmb_call_tag(out, &text);
    is_str(out, len, "Acme_1.x:y@z/w-", "a plain tag stays as it is");

    text = str("");
    len = llmb_call_tag(out, &text);
    is_str(out, len, "-", "an empty one is a dash");

    text = str("a}b");
    len = llmb_call_tag(out, &text);
    ok(len == 34 && memcmp(out, "h:", 2) == 0, "a brace is hashed");

    text.len = 64;
    text.data = (unsigned char *) (uintptr_t) long_text;
    len = llmb_call_tag(out, &text);
    ok(len == 64 && memcmp(out, long_text, 64) == 0, "64 bytes are a tag");

    text.len = 65;
    len = llmb_call_tag(out, &text);
    ok(len == 34 && memcmp(out, "h:", 2) == 0, "65 bytes are hashed");

    memcpy(copy, out, 34);
    text.data = copy;
    text.len = 34;
    len = llmb_call_tag(out, &text);
    ok(len == 34 && memcmp(out, "h:", 2) == 0 && memcmp(out, copy, 34) != 0,
       "what looks like a hash is hashed");
    ok(llmb_call_is_tag(&text), "and both are tags");

    text = str("-");
    len = llmb_call_tag(out, &text);
    ok(len == 34 && memcmp(out, "h:", 2) == 0, "and so is a dash");

    text = str("123456789");
    is_int(llmb_call_slot(&text), 0x31c3, "a slot is a CRC16");
    text = str("foo");
    is_int(llmb_call_slot(&text), 12182, "as Redis Cluster has it");
    text = str("");
    is_int(llmb_call_slot(&text), 0, "nothing is in slot 0");

    ok(strcmp(llmb_call_name(LLMB_CALL_OPEN), "open") == 0
       && strcmp(llmb_call_name(LLMB_CALL_WALK), "walk") == 0
       && strcmp(llmb_call_name(LLMB_CALLS), "") == 0,
       "operations have names");
}


static void
test_open(void)
{
    unsigned    i;
    llmb_str_t  other;

    start();
    add(1, "team", 500, 20)->degrade_at = 400;
    add(2, "key", 100, 30)->unit = LLMB_UNIT_TOKENS;
    op.leg[1].start_ms = NOW + HOUR;
    op.leg[1].end_ms = NOW + 2 * HOUR;
    op.leg[1].postpaid = 1;

    is_int(llmb_call_open(&call, &conf, &tag, &op, 60000), LLMB_OK,
           "an open is encoded");
    is_int(call.n, 6 + 2 + 2 * LLMB_CALL_LEG_ARGS, "with its arguments");
    arg(0, "5", "the number of keys");
    arg(1, "llmb{acme}:accounts", "accounts");
    arg(2, "llmb{acme}:holds", "holds");
    arg(3, "llmb{acme}:due", "due");
    arg(4, "llmb{acme}:closed", "closed");
    arg(5, "llmb{acme}:meta", "meta");
    arg(6, ID, "the id in hexadecimal");
    arg(7, "60000 600000 1 1700003600000 1700007200000",
        "times, and the time that the legs have in common");
    arg(8, "0123456789abcdef0000000000000001", "the key of a leg");
    arg(9, "0 500 20 0 400 1700086400000 1703542400000",
        "its numbers: a day is kept for 40 days");
    arg(10, "team", "its name");
    arg(12, "1 100 30 1 - 1700007200000 1700223200000",
        "an hour is kept for 60 hours");

    start();
    add(1, "a", 500, 20)->end_ms = NOW + 60000;
    add(1, "a", 400, 30)->end_ms = NOW + 60000;
    add(3, "b", 400, 5)->end_ms = INT64_MAX;
    op.leg[2].start_ms = INT64_MIN;
    is_int(llmb_call_open(&call, &conf, &tag, &op, 0), LLMB_OK,
           "two legs of one account are encoded");
    arg(9, "0 500 50 0 - 1700000060000 1700003660000",
        "with their sum; a minute is kept for an hour");
    arg(12, "0 400 50 0 - 1700000060000 1700003660000", "each of them");
    arg(15, "0 400 5 0 - 9223372036854775807 0", "a lifetime is kept");
    arg(7, "0 600000 1 1700000000000 1700000060000", "and has no edges");

    op.leg[1].unit = LLMB_UNIT_TOKENS;
    is_int(llmb_call_open(&call, &conf, &tag, &op, 0), LLMB_INVALID,
           "two units of one account are not");

    start();
    (void) add(1, "a", 500, INT64_MAX);
    (void) add(1, "a", 500, 1);
    is_int(llmb_call_open(&call, &conf, &tag, &op, 0), LLMB_INVALID,
           "nor a sum that overflows");

    start();
    (void) add(1, "a", LLMB_MONEY_LIMIT_NUSD + 1, 1);
    is_int(llmb_call_open(&call, &conf, &tag, &op, 0), LLMB_INVALID,
           "nor a limit above the greatest");

    start();
    (void) add(1, "a", 5, -1);
    is_int(llmb_call_open(&call, &conf, &tag, &op, 0), LLMB_INVALID,
           "nor a negative amount");

    start();
    (void) add(1, "a", -5, 1);
    is_int(llmb_call_open(&call, &conf, &tag, &op, 0), LLMB_INVALID,
           "nor a negative limit");

    start();
    (void) add(1, "a", 5, 1);
    is_int(llmb_call_open(&call, &conf, &tag, &op, -1), LLMB_INVALID,
           "nor a negative time");

    op.n = LLMB_LEDGER_LEGS + 1;
    is_int(llmb_call_open(&call, &conf, &tag, &op, 0), LLMB_INVALID,
           "nor too many legs");

    /* the greatest of all fits */

    start();

    for (i = 0; i < LLMB_LEDGER_LEGS; i++) {
        add(i, "name", LLMB_MONEY_LIMIT_NUSD, INT64_MAX)->degrade_at =
            LLMB_MONEY_LIMIT_NUSD;
        op.leg[i].start_ms = INT64_MAX - 2;
        op.leg[i].end_ms = INT64_MAX - 1;
    }

    conf.prefix = str("0123456789abcdef0123456789abcdef");
    other = str("0123456789abcdef0123456789abcdef"
                "0123456789abcdef0123456789abcdef");
    conf.keep_ms = INT64_MAX;
    is_int(llmb_call_open(&call, &conf, &other, &op, INT64_MAX), LLMB_OK,
           "the greatest of all has room");
    is_int(llmb_call_post(&call, &conf, &other, id, actual, op.leg, op.n),
           LLMB_OK, "also as a post");

    conf.prefix = str("0123456789abcdef0123456789abcdef0");
    is_int(llmb_call_open(&call, &conf, &tag, &op, 1), LLMB_INVALID,
           "a longer prefix has none");

    conf.prefix = str("a{b");
    is_int(llmb_call_open(&call, &conf, &tag, &op, 1), LLMB_INVALID,
           "a prefix has no braces");

    conf.prefix = str("");
    conf.keep_ms = 600000;
    other = str("a}b");
    is_int(llmb_call_open(&call, &conf, &other, &op, 1), LLMB_INVALID,
           "nor has a tag");

    other = str("");
    is_int(llmb_call_open(&call, &conf, &other, &op, 1), LLMB_INVALID,
           "which is not empty");

    is_int(llmb_call_void(&call, &conf, &tag, id), LLMB_OK,
           "a prefix may be empty");
    arg(1, "{acme}:accounts", "then a key begins with the tag");

    conf.prefix = str("llmb");
}


static void
test_others(void)
{
    unsigned    i;
    uint64_t    keys[2][2];
    llmb_str_t  cursor;

    for (i = 0; i < LLMB_UNITS; i++) {
        actual[i] = 10 + (int64_t) i;
    }

    actual[LLMB_UNIT_CONCURRENCY] = -1;

    is_int(llmb_call_post(&call, &conf, &tag, id, actual, NULL, 0), LLMB_OK,
           "a post is encoded");
    is_int(call.n, 9, "without legs");
    arg(6, ID, "with the id");
    arg(7, "600000", "how long to remember it");
    arg(8, "10 11 12 13 14 0", "and what to charge");

    start();
    (void) add(1, "a", 500, 20);
    (void) add(2, "b", 500, 20);
    (void) add(1, "a", 400, 30);
    is_int(llmb_call_post(&call, &conf, &tag, id, actual, op.leg, op.n),
           LLMB_OK, "or with legs");
    is_int(call.n, 9 + 1 + 2 * LLMB_CALL_LEG_ARGS, "each account once");
    arg(9, "legs", "which are told");
    arg(11, "0 500 1700086400000 1703542400000", "with their numbers");
    arg(12, "a", "and names");

    is_int(llmb_call_post(&call, &conf, &tag, id, actual, op.leg, 0), LLMB_OK,
           "no legs are legs");
    is_int(call.n, 10, "and told");

    op.leg[2].unit = LLMB_UNIT_TOKENS;
    is_int(llmb_call_post(&call, &conf, &tag, id, actual, op.leg, op.n),
           LLMB_INVALID, "two units of one account are bad");

    actual[LLMB_UNIT_TOKENS] = -1;
    is_int(llmb_call_post(&call, &conf, &tag, id, actual, NULL, 0),
           LLMB_INVALID, "a negative charge is bad");

    is_int(llmb_call_void(&call, &conf, &tag, id), LLMB_OK,
           "a void is encoded");
    is_int(call.n, 8, "with its arguments");

    is_int(llmb_call_extend(&call, &conf, &tag, id, 77), LLMB_OK,
           "an extend is encoded");
    arg(7, "77", "with its time");
    is_int(llmb_call_extend(&call, &conf, &tag, id, -1), LLMB_INVALID,
           "which is not negative");

    memset(keys, 0, sizeof(keys));
    keys[1][0] = 16;
    is_int(llmb_call_peek(&call, &conf, &tag,
                          (const uint64_t (*)[2]) keys, 2),
           LLMB_OK, "a peek is encoded");
    arg(6, "600000 1", "with the policy");
    arg(8, "00000000000000100000000000000000", "and keys");
    is_int(llmb_call_peek(&call, &conf, &tag,
                          (const uint64_t (*)[2]) keys, LLMB_LEDGER_LEGS + 1),
           LLMB_INVALID, "not too many");

    cursor = str("12.0");
    is_int(llmb_call_walk(&call, &conf, &tag, &cursor), LLMB_OK,
           "a walk is encoded");
    arg(7, "12.0", "with its cursor");
}


/* "a|b|c" as an answer */

static const llmb_answer_t *
answer(const char *text)
{
    unsigned              i;
    const char           *p;
    static llmb_str_t     items[64];
    static llmb_answer_t  a;

    a.item = items;

    for (i = 0; i < 64; i++) {
        p = strchr(text, '|');

        items[i].data = (unsigned char *) (uintptr_t) text;
        items[i].len = (p != NULL) ? (size_t) (p - text) : strlen(text);

        if (p == NULL) {
            break;
        }

        text = p + 1;
    }

    a.n = i + 1;

    return &a;
}


static void
test_answers(void)
{
    int64_t                now_ms;
    unsigned               late, n;
    llmb_str_t             cursor;
    llmb_hold_e            state;
    llmb_ledger_rc_e       rc;
    llmb_ledger_stat_t     stat;
    llmb_ledger_account_t  accounts[2];

    start();
    (void) add(1, "a", 5, 1);
    (void) add(2, "b", 5, 1);

    is_int(llmb_answer_open(answer("denied|17|0|1|7|8|9|9223372036854775807"),
                            &op, &rc, &now_ms, &late),
           LLMB_OK, "an answer to open is read");
    ok(rc == LLMB_LEDGER_DENIED && now_ms == 17 && !late && op.denied == 1
       && !op.replayed, "with its result");
    ok(op.leg[0].spent == 7 && op.leg[0].held == 8 && op.leg[1].spent == 9
       && op.leg[1].held == INT64_MAX, "and the balances");

    is_int(llmb_answer_open(answer("closed|17|1|0|7|8|9|1"), &op, &rc,
                            &now_ms, &late),
           LLMB_OK, "a replay is read");
    ok(rc == LLMB_LEDGER_CLOSED && op.replayed, "and told");

    is_int(llmb_answer_open(answer("late|18"), &op, &rc, &now_ms, &late),
           LLMB_OK, "a late one is read");
    ok(late && now_ms == 18, "with the time");

    is_int(llmb_answer_open(answer("bad|18"), &op, &rc, &now_ms, &late),
           LLMB_OK, "a bad one is read");
    is_int(rc, LLMB_LEDGER_BAD, "as bad");

    ok(llmb_answer_open(answer("ok|17|0|0|7|8|9"), &op, &rc, &now_ms, &late)
       == LLMB_INVALID, "one balance missing is no answer");
    ok(llmb_answer_open(answer("ok|17|0|2|7|8|9|1"), &op, &rc, &now_ms, &late)
       == LLMB_INVALID, "nor a leg that is none");
    ok(llmb_answer_open(answer("ok|17|0|0|7|-8|9|1"), &op, &rc, &now_ms,
                        &late)
       == LLMB_INVALID, "nor a negative balance");
    ok(llmb_answer_open(answer("ok|17|0|0|7|9223372036854775808|9|1"), &op,
                        &rc, &now_ms, &late)
       == LLMB_INVALID, "nor one too great");
    ok(llmb_answer_open(answer("ok|17|0|0|07|8|9|1"), &op, &rc, &now_ms,
                        &late)
       == LLMB_INVALID, "nor zeros in front");
    ok(llmb_answer_open(answer("ok|1e3|0|0|7|8|9|1"), &op, &rc, &now_ms,
                        &late)
       == LLMB_INVALID, "nor a time in another form");
    ok(llmb_answer_open(answer("okay|17|0|0|7|8|9|1"), &op, &rc, &now_ms,
                        &late)
       == LLMB_INVALID, "nor another word");
    ok(llmb_answer_open(answer("unknown|17|0|0|7|8|9|1"), &op, &rc, &now_ms,
                        &late)
       == LLMB_INVALID, "nor one of another script");
    ok(llmb_answer_open(answer(""), &op, &rc, &now_ms, &late)
       == LLMB_INVALID, "nor nothing");

    state = LLMB_HOLD_PENDING;
    is_int(llmb_answer_close(answer("closed|19|3"), &rc, &now_ms, &state),
           LLMB_OK, "an answer to a post is read");
    ok(rc == LLMB_LEDGER_CLOSED && now_ms == 19 && state == LLMB_HOLD_EXPIRED,
       "with the state");
    is_int(llmb_answer_close(answer("unknown|19|-"), &rc, &now_ms, NULL),
           LLMB_OK, "an unknown hold is read");
    is_int(rc, LLMB_LEDGER_UNKNOWN, "and has no state");
    ok(llmb_answer_close(answer("ok|19|4"), &rc, &now_ms, NULL)
       == LLMB_INVALID, "another state is no answer");
    ok(llmb_answer_close(answer("closed|19|0"), &rc, &now_ms, NULL)
       == LLMB_INVALID, "nor what is closed and pending");
    ok(llmb_answer_close(answer("denied|19|1"), &rc, &now_ms, NULL)
       == LLMB_INVALID, "nor a word of open");
    ok(llmb_answer_close(answer("ok|19"), &rc, &now_ms, NULL)
       == LLMB_INVALID, "nor a short one");

    n = 2;
    is_int(llmb_answer_read(answer("read|20|1|2|3|4|5|6|7|8|9.a|"
                                   "name|1|21|22|23|24|25|"
                                   "|0|0|0|0|0|0"),
                            &stat, &now_ms, &cursor, accounts, &n),
           LLMB_OK, "an answer to a walk is read");
    ok(stat.accounts == 1 && stat.holds == 2 && stat.pending == 3
       && stat.opened == 4 && stat.posted == 5 && stat.voided == 6
       && stat.expired == 7 && stat.denied == 8 && stat.full == 0,
       "with the counts");
    is_str(cursor.data, cursor.len, "9.a", "the cursor");
    ok(n == 2 && accounts[0].name.len == 4
       && accounts[0].unit == LLMB_UNIT_TOKENS && accounts[0].end_ms == 21
       && accounts[0].limit == 22 && accounts[0].spent == 23
       && accounts[0].held == 24 && accounts[0].pending == 25
       && accounts[1].name.len == 0, "and the accounts");

    n = 1;
    ok(llmb_answer_read(answer("read|20|1|2|3|4|5|6|7|8|0|a|0|0|0|0|0|0|"
                               "b|0|0|0|0|0|0"),
                        &stat, &now_ms, NULL, accounts, &n)
       == LLMB_OK && n == 1, "no more than there is room for");

    ok(llmb_answer_read(answer("read|20|1|2|3|4|5|6|7|8|0|a|0|0|0|0|0"),
                        &stat, &now_ms, NULL, accounts, &n)
       == LLMB_INVALID, "a cut account is no answer");
    ok(llmb_answer_read(answer("read|20|1|2|3|4|5|6|7|8|0|a|6|0|0|0|0|0"),
                        &stat, &now_ms, NULL, accounts, &n)
       == LLMB_INVALID, "nor another unit");
    ok(llmb_answer_read(answer("ok|20|1|2|3|4|5|6|7|8|0"), &stat, &now_ms,
                        NULL, accounts, &n)
       == LLMB_INVALID, "nor another word");
}


static int
same(const llmb_record_t *a, const llmb_record_t *b)
{
    unsigned                  i;
    const llmb_ledger_leg_t  *x, *y;

    if (a->kind != b->kind || memcmp(a->id, b->id, LLMB_LEDGER_ID) != 0
        || a->tag.len != b->tag.len
        || memcmp(a->tag.data, b->tag.data, a->tag.len) != 0
        || a->time_ms != b->time_ms || a->sent != b->sent || a->n != b->n
        || memcmp(a->actual, b->actual, sizeof(a->actual)) != 0)
    {
        return 0;
    }

    for (i = 0; i < a->n; i++) {
        x = &a->leg[i];
        y = &b->leg[i];

        if (memcmp(x->key, y->key, sizeof(x->key)) != 0 || x->unit != y->unit
            || x->start_ms != y->start_ms || x->end_ms != y->end_ms
            || x->limit != y->limit || x->amount != y->amount
            || x->name.len != y->name.len
            || memcmp(x->name.data, y->name.data, x->name.len) != 0)
        {
            return 0;
        }
    }

    return 1;
}


static void
test_records(void)
{
    size_t         i, len, good;
    llmb_str_t     view;
    unsigned char  name[LLMB_LEDGER_NAME], bad[LLMB_RECORD_LEN];

    start();
    (void) add(1, "team blue: 7 %", 500, 20);
    (void) add(2, "", 0, 0);
    op.leg[1].start_ms = -5;

    memset(&record, 0, sizeof(record));
    record.kind = LLMB_CALL_POST;
    memcpy(record.id, id, sizeof(id));
    record.tag = tag;
    record.time_ms = NOW;
    record.sent = 1;
    record.actual[0] = INT64_MAX;
    record.actual[4] = 1;
    record.n = op.n;
    memcpy(record.leg, op.leg, sizeof(op.leg));

    len = llmb_record_write(line, &record);
    view.data = line;
    view.len = len;

    ok(len != 0 && memchr(line, '\n', len) == NULL, "a record is one line");
    is_int(llmb_record_read(&view, &again), LLMB_OK, "which is read");
    ok(same(&record, &again), "as it was");
    ok(memcmp(line, "llmb1 post " ID " acme 1700000000000 1 ", 65) == 0,
       "it begins with what it is");

    good = 0;

    for (i = 0; i < len; i++) {
        view.len = i;
        good += (llmb_record_read(&view, &again) == LLMB_INVALID);
    }

    is_int((int64_t) good, (int64_t) len, "cut anywhere it is damaged");

    good = 0;
    view.data = bad;
    view.len = len;

    for (i = 0; i < len; i++) {
        memcpy(bad, line, len);
        bad[i] ^= 1;
        good += (llmb_record_read(&view, &again) == LLMB_INVALID);
    }

    is_int((int64_t) good, (int64_t) len, "so it is with any bit turned");

    view.len = len + 1;
    memcpy(bad, line, len);
    bad[len] = ' ';
    is_int(llmb_record_read(&view, &again), LLMB_INVALID,
           "or with something after it");

    /* the greatest of all */

    memset(name, '\n', sizeof(name));
    record.n = LLMB_LEDGER_LEGS;
    view = str("0123456789abcdef0123456789abcdef"
               "0123456789abcdef0123456789abcdef");
    record.tag = view;
    record.time_ms = INT64_MAX;

    for (i = 0; i < LLMB_LEDGER_LEGS; i++) {
        record.leg[i] = op.leg[0];
        record.leg[i].name.data = name;
        record.leg[i].name.len = sizeof(name);
        record.leg[i].start_ms = INT64_MIN;
        record.leg[i].end_ms = INT64_MIN;
        record.leg[i].limit = INT64_MAX;
        record.leg[i].amount = INT64_MAX;
    }

    for (i = 0; i < LLMB_UNITS; i++) {
        record.actual[i] = INT64_MAX;
    }

    len = llmb_record_write(line, &record);
    view.data = line;
    view.len = len;
    ok(len != 0 && llmb_record_read(&view, &again) == LLMB_OK,
       "the greatest of all has room");
    ok(memchr(line, '\n', len) == NULL, "no line feed stays in a name");
    memset(name, ' ', sizeof(name));
    ok(same(&record, &again), "all else does");

    record.n = 0;
    record.tag = tag;
    record.kind = LLMB_CALL_VOID;
    record.actual[0] = -1;
    view.len = llmb_record_write(line, &record);
    ok(view.len != 0 && llmb_record_read(&view, &again) == LLMB_OK
       && again.kind == LLMB_CALL_VOID && again.actual[0] == 0,
       "a void has no charge");

    record.kind = LLMB_CALL_POST;
    is_int((int64_t) llmb_record_write(line, &record), 0,
           "a negative charge is bad");
    record.actual[0] = 0;
    record.kind = LLMB_CALL_OPEN;
    is_int((int64_t) llmb_record_write(line, &record), 0, "an open is");
    record.kind = LLMB_CALL_POST;
    record.tag = str("a b");
    is_int((int64_t) llmb_record_write(line, &record), 0, "a tag in words is");
    record.tag = str("");
    is_int((int64_t) llmb_record_write(line, &record), 0, "no tag is");
    record.tag = tag;
    record.n = LLMB_LEDGER_LEGS + 1;
    is_int((int64_t) llmb_record_write(line, &record), 0,
           "more legs than there may be are");
    record.n = 1;
    record.leg[0].limit = -1;
    is_int((int64_t) llmb_record_write(line, &record), 0,
           "a negative limit is");
}


int
main(void)
{
    test_tags();
    test_open();
    test_others();
    test_answers();
    test_records();

    return test_done();
}
