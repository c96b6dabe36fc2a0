
/*
 * Copyright (C) the ngx_http_llm_budget_module authors
 *
 * The JSON scanner: numbers, as they are scanned and as integers.
 */


#include "core/llmb_json_state.h"


/* bounds an exponent, far above what a kept literal can make an int64_t of */
#define LLMB_JSON_EXPONENT_MAX    100000


static unsigned llmb_json_number_next(unsigned state, unsigned char c);
static long llmb_json_int_exponent(const unsigned char *p,
    const unsigned char *last);
static llmb_rc_e llmb_json_int_value(const unsigned char *p, long used,
    long point, int negative, int64_t *n);


const unsigned char *
llmb_json_number(llmb_json_t *js, const unsigned char *p,
    const unsigned char *last)
{
    unsigned              next;
    const unsigned char  *q;

    for (q = p; q < last; q++) {

        if (*q >= '0' && *q <= '9' && js->state >= LLMB_JSON_S_INT) {
            continue;
        }

        next = llmb_json_number_next(js->state, *q);

        if (next == LLMB_JSON_S_STOPPED) {
            llmb_json_stop(js, LLMB_INVALID);
            return q;
        }

        if (next == LLMB_JSON_S_NEXT) {
            llmb_json_keep(js, p, (size_t) (q - p));
            llmb_json_finish(js, js->offset + (uint64_t) (q - p));
            return q;
        }

        js->state = next;
    }

    llmb_json_keep(js, p, (size_t) (q - p));

    return q;
}


/* NEXT: the number ended before this byte; STOPPED: the byte is refused. */

static unsigned
llmb_json_number_next(unsigned state, unsigned char c)
{
    if (c >= '0' && c <= '9') {

        switch (state) {

        case LLMB_JSON_S_MINUS:
            return (c == '0') ? LLMB_JSON_S_ZERO : LLMB_JSON_S_INT;

        case LLMB_JSON_S_ZERO:
            return LLMB_JSON_S_STOPPED;

        case LLMB_JSON_S_INT:
            return LLMB_JSON_S_INT;

        case LLMB_JSON_S_POINT:
        case LLMB_JSON_S_FRACTION:
            return LLMB_JSON_S_FRACTION;

        default: /* LLMB_JSON_S_E, LLMB_JSON_S_E_SIGN, LLMB_JSON_S_EXPONENT */
            return LLMB_JSON_S_EXPONENT;
        }
    }

    if ((c == '+' || c == '-') && state == LLMB_JSON_S_E) {
        return LLMB_JSON_S_E_SIGN;
    }

    if (state < LLMB_JSON_S_ZERO) {
        return LLMB_JSON_S_STOPPED;
    }

    if (c == '.' && state <= LLMB_JSON_S_INT) {
        return LLMB_JSON_S_POINT;
    }

    if ((c == 'e' || c == 'E') && state != LLMB_JSON_S_EXPONENT) {
        return LLMB_JSON_S_E;
    }

    return LLMB_JSON_S_NEXT;
}


/*
 * The digits, taken without the point, are d1 d2 ... dn; the last one that is
 * not zero is d[used], and the value is 0.d1d2...dn * 10^point.  So it is an
 * integer of "point" digits if point >= used.
 */

llmb_rc_e
llmb_json_int(const llmb_json_token_t *token, int64_t *n)
{
    int                   negative;
    long                  used, point, digits;
    const unsigned char  *p, *first, *last;

    if (token->type != LLMB_JSON_NUMBER || token->text.len == 0
        || token->text_len != token->text.len)
    {
        return LLMB_INVALID;
    }

    negative = (token->text.data[0] == '-');
    first = token->text.data + negative;
    last = token->text.data + token->text.len;

    used = 0;
    point = -1;
    digits = 0;

    for (p = first; p < last && *p != 'e' && *p != 'E'; p++) {

        if (*p == '.') {
            point = digits;
            continue;
        }

        digits++;

        if (*p != '0') {
            used = digits;
        }
    }

    if (used == 0) {
        *n = 0;
        return LLMB_OK;
    }

    if (point == -1) {
        point = digits;
    }

    point += llmb_json_int_exponent(p, last);

    if (point < used) {
        return LLMB_INVALID;
    }

    return llmb_json_int_value(first, used, point, negative, n);
}


/* "e+12" is 12, nothing is 0. */

static long
llmb_json_int_exponent(const unsigned char *p, const unsigned char *last)
{
    long  e, sign;

    e = 0;
    sign = 1;

    for ( /* void */ ; p < last; p++) {

        if (*p == '-') {
            sign = -1;

        } else if (*p >= '0' && *p <= '9' && e < LLMB_JSON_EXPONENT_MAX) {
            e = e * 10 + (*p - '0');
        }
    }

    return sign * e;
}


static llmb_rc_e
llmb_json_int_value(const unsigned char *p, long used, long point,
    int negative, int64_t *n)
{
    long      i;
    uint64_t  v, digit, limit;

    v = 0;
    limit = (uint64_t) INT64_MAX + (negative ? 1 : 0);

    /* not long: past the used digits v is not zero and soon overflows */

    for (i = 0; i < point; i++) {
        digit = 0;

        if (i < used) {

            if (*p == '.') {
                p++;
            }

            digit = (uint64_t) (*p++ - '0');
        }

        if (v > limit / 10 || digit > limit - v * 10) {
            return LLMB_OVERFLOW;
        }

        v = v * 10 + digit;
    }

    /* v is not zero; -INT64_MIN would not fit */

    *n = negative ? -(int64_t) (v - 1) - 1 : (int64_t) v;

    return LLMB_OK;
}
