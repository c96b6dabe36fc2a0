
/*
 * Copyright (C) the ngx_http_llm_budget_module authors
 *
 * The arguments of the scripts.  Numbers that belong together are one
 * argument, so that a script checks them with one match.
 */


#include "core/llmb_call.h"
#include "core/llmb_money.h"
#include "core/llmb_out.h"

#include <string.h>


/* an account is kept for so many periods after its own, and so long at least */
#define LLMB_CALL_PERIODS       60
#define LLMB_CALL_HISTORY_MS    INT64_C(3600000)


static llmb_rc_e llmb_call_sum(const llmb_ledger_leg_t *legs, unsigned n,
    int64_t *amount);
static void llmb_call_open_leg(llmb_call_t *call, llmb_out_t *out,
    const llmb_ledger_leg_t *leg, int64_t amount);
static llmb_rc_e llmb_call_post_legs(llmb_call_t *call, llmb_out_t *out,
    const llmb_ledger_leg_t *legs, unsigned n);
static int llmb_call_again(const llmb_ledger_leg_t *legs, unsigned i,
    unsigned *first);
static int64_t llmb_call_forget(const llmb_ledger_leg_t *leg);
static llmb_rc_e llmb_call_start(llmb_call_t *call, llmb_out_t *out,
    const llmb_call_conf_t *conf, const llmb_str_t *tag);
static void llmb_call_next(llmb_call_t *call, llmb_out_t *out);
static void llmb_call_view(llmb_call_t *call, unsigned char *data, size_t len);
static llmb_rc_e llmb_call_done(const llmb_call_t *call,
    const llmb_out_t *out);
static void llmb_call_id(llmb_out_t *out, const unsigned char *id);
static void llmb_call_key(llmb_out_t *out, const uint64_t key[2]);
static void llmb_call_number(llmb_out_t *out, int64_t n);


static const char *const  llmb_call_keys[LLMB_CALL_KEYS] = {
    "accounts",
    "holds",
    "due",
    "closed",
    "meta"
};


llmb_rc_e
llmb_call_open(llmb_call_t *call, const llmb_call_conf_t *conf,
    const llmb_str_t *tag, const llmb_ledger_open_t *op, int64_t timeout_ms)
{
    int64_t     start_ms, end_ms, amount[LLMB_LEDGER_LEGS];
    unsigned    i;
    llmb_out_t  out;

    if (timeout_ms < 0
        || llmb_call_sum(op->leg, op->n, amount) != LLMB_OK
        || llmb_call_start(call, &out, conf, tag) != LLMB_OK)
    {
        return LLMB_INVALID;
    }

    /* the time that the periods have in common */

    start_ms = 0;
    end_ms = INT64_MAX;

    for (i = 0; i < op->n; i++) {

        if (start_ms < op->leg[i].start_ms) {
            start_ms = op->leg[i].start_ms;
        }

        if (end_ms > op->leg[i].end_ms) {
            end_ms = op->leg[i].end_ms;
        }
    }

    llmb_call_id(&out, op->id);
    llmb_call_next(call, &out);

    llmb_out_int(&out, timeout_ms);
    llmb_call_number(&out, conf->keep_ms);
    llmb_call_number(&out, conf->charge != 0);
    llmb_call_number(&out, start_ms);
    llmb_call_number(&out, end_ms);
    llmb_call_next(call, &out);

    for (i = 0; i < op->n; i++) {
        llmb_call_open_leg(call, &out, &op->leg[i], amount[i]);
    }

    return llmb_call_done(call, &out);
}


/* Tests the legs of an open; an account's amount is that of all its legs. */

static llmb_rc_e
llmb_call_sum(const llmb_ledger_leg_t *legs, unsigned n, int64_t *amount)
{
    unsigned                  i, k, first[LLMB_LEDGER_LEGS];
    const llmb_ledger_leg_t  *leg;

    if (n > LLMB_LEDGER_LEGS) {
        return LLMB_INVALID;
    }

    for (i = 0; i < n; i++) {
        leg = &legs[i];

        if ((unsigned) leg->unit >= LLMB_UNITS || leg->amount < 0
            || leg->limit < 0 || leg->limit > LLMB_MONEY_LIMIT_NUSD
            || (leg->degrade_at > LLMB_MONEY_LIMIT_NUSD
                && leg->degrade_at != INT64_MAX))
        {
            return LLMB_INVALID;
        }

        amount[i] = leg->amount;

        if (!llmb_call_again(legs, i, &first[i])) {
            continue;
        }

        k = first[i];

        if (legs[k].unit != leg->unit
            || llmb_money_add(amount[k], leg->amount, &amount[k]) != LLMB_OK)
        {
            return LLMB_INVALID;
        }
    }

    for (i = 0; i < n; i++) {
        amount[i] = amount[first[i]];
    }

    return LLMB_OK;
}


static void
llmb_call_open_leg(llmb_call_t *call, llmb_out_t *out,
    const llmb_ledger_leg_t *leg, int64_t amount)
{
    llmb_call_key(out, leg->key);
    llmb_call_next(call, out);

    llmb_out_int(out, leg->unit);
    llmb_call_number(out, leg->limit);
    llmb_call_number(out, amount);
    llmb_call_number(out, leg->postpaid != 0);

    if (leg->degrade_at == INT64_MAX) {
        llmb_out_text(out, " -");

    } else {
        llmb_call_number(out, leg->degrade_at);
    }

    llmb_call_number(out, leg->end_ms);
    llmb_call_number(out, llmb_call_forget(leg));
    llmb_call_next(call, out);

    llmb_call_view(call, leg->name.data, leg->name.len);
}


llmb_rc_e
llmb_call_post(llmb_call_t *call, const llmb_call_conf_t *conf,
    const llmb_str_t *tag, const unsigned char *id,
    const int64_t actual[LLMB_UNITS], const llmb_ledger_leg_t *legs,
    unsigned n)
{
    unsigned    i;
    llmb_out_t  out;

    if (llmb_call_start(call, &out, conf, tag) != LLMB_OK) {
        return LLMB_INVALID;
    }

    llmb_call_id(&out, id);
    llmb_call_next(call, &out);
    llmb_out_int(&out, conf->keep_ms);
    llmb_call_next(call, &out);

    for (i = 0; i < LLMB_UNITS; i++) {

        if (i == LLMB_UNIT_CONCURRENCY) {
            llmb_call_number(&out, 0);
            continue;
        }

        if (actual[i] < 0) {
            return LLMB_INVALID;
        }

        if (i == 0) {
            llmb_out_int(&out, actual[i]);

        } else {
            llmb_call_number(&out, actual[i]);
        }
    }

    llmb_call_next(call, &out);

    if (legs != NULL && llmb_call_post_legs(call, &out, legs, n) != LLMB_OK) {
        return LLMB_INVALID;
    }

    return llmb_call_done(call, &out);
}


static llmb_rc_e
llmb_call_post_legs(llmb_call_t *call, llmb_out_t *out,
    const llmb_ledger_leg_t *legs, unsigned n)
{
    unsigned                  i, first;
    const llmb_ledger_leg_t  *leg;

    if (n > LLMB_LEDGER_LEGS) {
        return LLMB_INVALID;
    }

    llmb_out_text(out, "legs");
    llmb_call_next(call, out);

    for (i = 0; i < n; i++) {
        leg = &legs[i];

        if ((unsigned) leg->unit >= LLMB_UNITS) {
            return LLMB_INVALID;
        }

        if (llmb_call_again(legs, i, &first)) {

            if (legs[first].unit != leg->unit) {
                return LLMB_INVALID;
            }

            continue;
        }

        llmb_call_key(out, leg->key);
        llmb_call_next(call, out);

        llmb_out_int(out, leg->unit);
        llmb_call_number(out, leg->limit);
        llmb_call_number(out, leg->end_ms);
        llmb_call_number(out, llmb_call_forget(leg));
        llmb_call_next(call, out);

        llmb_call_view(call, leg->name.data, leg->name.len);
    }

    return LLMB_OK;
}


llmb_rc_e
llmb_call_void(llmb_call_t *call, const llmb_call_conf_t *conf,
    const llmb_str_t *tag, const unsigned char *id)
{
    llmb_out_t  out;

    if (llmb_call_start(call, &out, conf, tag) != LLMB_OK) {
        return LLMB_INVALID;
    }

    llmb_call_id(&out, id);
    llmb_call_next(call, &out);
    llmb_out_int(&out, conf->keep_ms);
    llmb_call_next(call, &out);

    return llmb_call_done(call, &out);
}


llmb_rc_e
llmb_call_extend(llmb_call_t *call, const llmb_call_conf_t *conf,
    const llmb_str_t *tag, const unsigned char *id, int64_t timeout_ms)
{
    llmb_out_t  out;

    if (timeout_ms < 0
        || llmb_call_start(call, &out, conf, tag) != LLMB_OK)
    {
        return LLMB_INVALID;
    }

    llmb_call_id(&out, id);
    llmb_call_next(call, &out);
    llmb_out_int(&out, timeout_ms);
    llmb_call_next(call, &out);

    return llmb_call_done(call, &out);
}


llmb_rc_e
llmb_call_peek(llmb_call_t *call, const llmb_call_conf_t *conf,
    const llmb_str_t *tag, const uint64_t (*keys)[2], unsigned n)
{
    unsigned    i;
    llmb_out_t  out;

    if (n > LLMB_LEDGER_LEGS
        || llmb_call_start(call, &out, conf, tag) != LLMB_OK)
    {
        return LLMB_INVALID;
    }

    llmb_out_int(&out, conf->keep_ms);
    llmb_call_number(&out, conf->charge != 0);
    llmb_call_next(call, &out);

    for (i = 0; i < n; i++) {
        llmb_call_key(&out, keys[i]);
        llmb_call_next(call, &out);
    }

    return llmb_call_done(call, &out);
}


llmb_rc_e
llmb_call_walk(llmb_call_t *call, const llmb_call_conf_t *conf,
    const llmb_str_t *tag, const llmb_str_t *cursor)
{
    llmb_out_t  out;

    if (llmb_call_start(call, &out, conf, tag) != LLMB_OK) {
        return LLMB_INVALID;
    }

    llmb_out_int(&out, conf->keep_ms);
    llmb_call_number(&out, conf->charge != 0);
    llmb_call_next(call, &out);

    /* copied, since it views the answer before */

    llmb_out_str(&out, cursor);
    llmb_call_next(call, &out);

    return llmb_call_done(call, &out);
}


/* Whether a leg before this one has its key, and which is the first. */

static int
llmb_call_again(const llmb_ledger_leg_t *legs, unsigned i, unsigned *first)
{
    unsigned  k;

    for (k = 0; k < i; k++) {

        if (legs[k].key[0] == legs[i].key[0]
            && legs[k].key[1] == legs[i].key[1])
        {
            break;
        }
    }

    *first = k;

    return k < i;
}


/* When an account is forgotten, unless its period never ends. */

static int64_t
llmb_call_forget(const llmb_ledger_leg_t *leg)
{
    int64_t  start_ms, keep_ms, at_ms;

    if (leg->end_ms <= 0 || leg->end_ms == INT64_MAX) {
        return 0;
    }

    start_ms = leg->start_ms;

    if (start_ms < 0) {
        start_ms = 0;
    }

    keep_ms = LLMB_LEDGER_HISTORY_MS;

    if (leg->end_ms - start_ms < LLMB_LEDGER_HISTORY_MS / LLMB_CALL_PERIODS) {
        keep_ms = (leg->end_ms - start_ms) * LLMB_CALL_PERIODS;
    }

    if (keep_ms < LLMB_CALL_HISTORY_MS) {
        keep_ms = LLMB_CALL_HISTORY_MS;
    }

    if (llmb_money_add(leg->end_ms, keep_ms, &at_ms) != LLMB_OK) {
        return INT64_MAX;
    }

    return at_ms;
}


/* The number of keys, and the keys. */

static llmb_rc_e
llmb_call_start(llmb_call_t *call, llmb_out_t *out,
    const llmb_call_conf_t *conf, const llmb_str_t *tag)
{
    unsigned  i;

    if (conf->keep_ms < 0
        || conf->prefix.len > LLMB_CALL_PREFIX
        || (conf->prefix.len != 0 && !llmb_call_is_tag(&conf->prefix))
        || !llmb_call_is_tag(tag))
    {
        return LLMB_INVALID;
    }

    call->n = 0;
    call->used = 0;

    llmb_out_init(out, call->text, sizeof(call->text));

    llmb_out_int(out, LLMB_CALL_KEYS);
    llmb_call_next(call, out);

    for (i = 0; i < LLMB_CALL_KEYS; i++) {
        llmb_out_str(out, &conf->prefix);
        llmb_out_text(out, "{");
        llmb_out_str(out, tag);
        llmb_out_text(out, "}:");
        llmb_out_text(out, llmb_call_keys[i]);
        llmb_call_next(call, out);
    }

    return LLMB_OK;
}


/* What was written since the last one is an argument. */

static void
llmb_call_next(llmb_call_t *call, llmb_out_t *out)
{
    size_t  used;

    used = call->used;
    call->used = (size_t) (out->pos - out->start);

    if (call->n < LLMB_CALL_ARGS) {
        call->arg[call->n].data = call->text + used;
        call->arg[call->n].len = call->used - used;
    }

    call->n++;
}


/* A name, cut, is an argument; NULL data are not passed on. */

static void
llmb_call_view(llmb_call_t *call, unsigned char *data, size_t len)
{
    if (call->n < LLMB_CALL_ARGS) {
        call->arg[call->n].data = (len != 0) ? data : call->text;
        call->arg[call->n].len = (len > LLMB_LEDGER_NAME) ? LLMB_LEDGER_NAME
                                                          : len;
    }

    call->n++;
}


static llmb_rc_e
llmb_call_done(const llmb_call_t *call, const llmb_out_t *out)
{
    return (out->full || call->n > LLMB_CALL_ARGS) ? LLMB_INVALID : LLMB_OK;
}


static void
llmb_call_id(llmb_out_t *out, const unsigned char *id)
{
    unsigned       i;
    unsigned char  pair[2];

    static const char  hex[] = "0123456789abcdef";

    for (i = 0; i < LLMB_LEDGER_ID; i++) {
        pair[0] = (unsigned char) hex[id[i] >> 4];
        pair[1] = (unsigned char) hex[id[i] & 15];

        llmb_out_bytes(out, pair, 2);
    }
}


static void
llmb_call_key(llmb_out_t *out, const uint64_t key[2])
{
    unsigned       i;
    unsigned char  bytes[16];

    for (i = 0; i < 16; i++) {
        bytes[i] = (unsigned char) (key[i / 8] >> (56 - 8 * (i % 8)) & 0xff);
    }

    llmb_call_id(out, bytes);
}


/* One of some numbers, not the first; none is below 0. */

static void
llmb_call_number(llmb_out_t *out, int64_t n)
{
    llmb_out_text(out, " ");
    llmb_out_int(out, (n < 0) ? 0 : n);
}
