
/*
 * Copyright (C) the ngx_http_llm_budget_module authors
 *
 * Checked integer money: exact reading of decimal text, checked add and
 * multiply, the one rounding, and the decimal text of an amount.
 */


#include "core/llmb_money.h"


/* no text is this long, so a greater exponent changes no result */
#define LLMB_MONEY_EXP_MAX      INT64_C(1000000000000000000)

#define LLMB_MONEY_PUSD_NUSD    1000


/* decimal text taken apart; the digits stay in the text */

typedef struct {
    int                     negative;
    int64_t                 ndigits;    /* before and after the point */
    int64_t                 nfraction;  /* after it */
    int64_t                 exponent;
    const unsigned char    *digits;     /* and the point among them */
} llmb_money_decimal_t;


static llmb_rc_e llmb_money_scan(const llmb_str_t *text,
    llmb_money_decimal_t *d);
static llmb_rc_e llmb_money_exponent(const unsigned char *p,
    const unsigned char *last, int64_t *exponent);
static llmb_rc_e llmb_money_scale(const llmb_money_decimal_t *d,
    int64_t nkept, int64_t *value);
static int llmb_money_digit(unsigned char ch);


llmb_rc_e
llmb_money_parse(const llmb_str_t *text, unsigned places, int64_t *out)
{
    int64_t               value;
    llmb_rc_e             rc;
    llmb_money_decimal_t  d;

    rc = llmb_money_scan(text, &d);

    if (rc != LLMB_OK) {
        return rc;
    }

    rc = llmb_money_scale(&d, d.ndigits - d.nfraction + d.exponent
                              + (int64_t) places,
                          &value);

    if (rc != LLMB_OK) {
        return rc;
    }

    /* value is the negated magnitude */

    if (!d.negative && __builtin_sub_overflow(INT64_C(0), value, &value)) {
        return LLMB_OVERFLOW;
    }

    *out = value;

    return LLMB_OK;
}


/* The whole text is looked at first, so that malformed wins over too big. */

static llmb_rc_e
llmb_money_scan(const llmb_str_t *text, llmb_money_decimal_t *d)
{
    int                   point;
    const unsigned char  *p, *last;

    d->negative = 0;
    d->ndigits = 0;
    d->nfraction = 0;
    d->exponent = 0;

    if (text->len == 0) {
        return LLMB_INVALID;
    }

    p = text->data;
    last = p + text->len;

    if (*p == '+' || *p == '-') {
        d->negative = (*p == '-');
        p++;
    }

    d->digits = p;
    point = 0;

    for ( /* void */ ; p < last; p++) {

        if (llmb_money_digit(*p)) {
            d->ndigits++;
            d->nfraction += point;
            continue;
        }

        if (*p != '.' || point) {
            break;
        }

        point = 1;
    }

    if (d->ndigits == 0) {
        return LLMB_INVALID;
    }

    if (p == last) {
        return LLMB_OK;
    }

    if (*p != 'e' && *p != 'E') {
        return LLMB_INVALID;
    }

    return llmb_money_exponent(p + 1, last, &d->exponent);
}


static llmb_rc_e
llmb_money_exponent(const unsigned char *p, const unsigned char *last,
    int64_t *exponent)
{
    int      negative;
    int64_t  n;

    negative = 0;

    if (p < last && (*p == '+' || *p == '-')) {
        negative = (*p == '-');
        p++;
    }

    if (p == last) {
        return LLMB_INVALID;
    }

    for (n = 0; p < last; p++) {

        if (!llmb_money_digit(*p)) {
            return LLMB_INVALID;
        }

        if (n < LLMB_MONEY_EXP_MAX / 10) {
            n = n * 10 + (*p - '0');
        } else {
            n = LLMB_MONEY_EXP_MAX;
        }
    }

    *exponent = negative ? -n : n;

    return LLMB_OK;
}


/*
 * The first nkept digits are the integer, zeros follow when the text has
 * fewer, and the rest rounds away from zero.  The sum is kept negative, so
 * that INT64_MIN is reached without a special case.
 */

static llmb_rc_e
llmb_money_scale(const llmb_money_decimal_t *d, int64_t nkept, int64_t *value)
{
    int                   digit;
    int64_t               i, n;
    const unsigned char  *p;

    n = 0;
    p = d->digits;

    for (i = 0; i < d->ndigits; p++) {

        if (*p == '.') {
            continue;
        }

        digit = *p - '0';

        if (i >= nkept) {

            if (digit == 0) {
                i++;
                continue;
            }

            if (__builtin_sub_overflow(n, INT64_C(1), &n)) {
                return LLMB_OVERFLOW;
            }

            break;
        }

        if (__builtin_mul_overflow(n, INT64_C(10), &n)
            || __builtin_sub_overflow(n, (int64_t) digit, &n))
        {
            return LLMB_OVERFLOW;
        }

        i++;
    }

    /* n != 0 overflows within nineteen turns, whatever the exponent */

    for (i = d->ndigits; n != 0 && i < nkept; i++) {

        if (__builtin_mul_overflow(n, INT64_C(10), &n)) {
            return LLMB_OVERFLOW;
        }
    }

    *value = n;

    return LLMB_OK;
}


static int
llmb_money_digit(unsigned char ch)
{
    return ch >= '0' && ch <= '9';
}


llmb_rc_e
llmb_money_add(int64_t a, int64_t b, int64_t *sum)
{
    int64_t  n;

    /* the builtin stores the wrapped result even when it overflows */

    if (__builtin_add_overflow(a, b, &n)) {
        return LLMB_OVERFLOW;
    }

    *sum = n;

    return LLMB_OK;
}


llmb_rc_e
llmb_money_charge(int64_t *sum_pusd, int64_t count, int64_t price_pusd)
{
    int64_t  product;

    /* a negative product would be a credit (T21) */

    if (count < 0 || price_pusd < 0) {
        return LLMB_INVALID;
    }

    if (__builtin_mul_overflow(count, price_pusd, &product)) {
        return LLMB_OVERFLOW;
    }

    return llmb_money_add(*sum_pusd, product, sum_pusd);
}


int64_t
llmb_money_round(int64_t sum_pusd)
{
    /* not "(sum + 999) / 1000", which overflows */

    return sum_pusd / LLMB_MONEY_PUSD_NUSD
           + (sum_pusd % LLMB_MONEY_PUSD_NUSD > 0);
}


size_t
llmb_money_format(unsigned char *buf, int64_t nusd)
{
    size_t          len, i;
    uint64_t        n;
    unsigned char  *p, text[LLMB_MONEY_LEN];

    /* unsigned, since INT64_MIN has no positive counterpart */

    n = (nusd < 0) ? UINT64_C(0) - (uint64_t) nusd : (uint64_t) nusd;
    p = text + LLMB_MONEY_LEN;
    i = 0;

    do {

        if (i == LLMB_MONEY_NUSD) {
            *--p = '.';
        }

        *--p = (unsigned char) ('0' + n % 10);
        n /= 10;
        i++;

    } while (n != 0 || i <= LLMB_MONEY_NUSD);

    if (nusd < 0) {
        *--p = '-';
    }

    len = (size_t) (text + LLMB_MONEY_LEN - p);

    for (i = 0; i < len; i++) {
        buf[i] = p[i];
    }

    return len;
}
