
/*
 * Copyright (C) the ngx_http_llm_budget_module authors
 *
 * Money: exact reading of decimals, checked sums and products, the rounding.
 * The reference is schoolbook arithmetic on decimal strings.
 */


#include "llmb_test.h"

#include "core/llmb_money.h"


#define BIG         320     /* digits of the reference's numbers */
#define RANDOM_RUNS 200000


typedef struct {
    const char  *text;
    unsigned     places;
    llmb_rc_e    rc;
    int64_t      value;
} parse_case_t;


static const parse_case_t  parse_cases[] = {

    /* plain */

    { "0", 9, LLMB_OK, 0 },
    { "5", 9, LLMB_OK, INT64_C(5000000000) },
    { "5", 0, LLMB_OK, 5 },
    { "0.25", 9, LLMB_OK, 250000000 },
    { "0.25", 2, LLMB_OK, 25 },
    { "+3", 9, LLMB_OK, INT64_C(3000000000) },
    { "-3", 9, LLMB_OK, INT64_C(-3000000000) },
    { "-0", 9, LLMB_OK, 0 },
    { "-0.0e5", 9, LLMB_OK, 0 },
    { "000000000000000000000000000005", 9, LLMB_OK, INT64_C(5000000000) },
    { "1.00000000000000000000000000000", 9, LLMB_OK, INT64_C(1000000000) },
    { "5.", 9, LLMB_OK, INT64_C(5000000000) },
    { ".5", 9, LLMB_OK, 500000000 },

    /* prices as they are published: dollars per token, 0.3125 per million */

    { "1.5e-07", 12, LLMB_OK, 150000 },
    { "3E-6", 12, LLMB_OK, 3000000 },
    { "3e-06", 12, LLMB_OK, 3000000 },
    { "0.0000003125", 12, LLMB_OK, 312500 },
    { "3.125e-07", 12, LLMB_OK, 312500 },
    { "1.25e+1", 9, LLMB_OK, INT64_C(12500000000) },
    { "0.3e1", 0, LLMB_OK, 3 },
    { "12345e-2", 2, LLMB_OK, 12345 },

    /* digits below the scale round away from zero */

    { "0.0000000001", 9, LLMB_OK, 1 },
    { "-0.0000000001", 9, LLMB_OK, -1 },
    { "0.0000000010", 9, LLMB_OK, 1 },
    { "0.00000000100000000000000000001", 9, LLMB_OK, 2 },
    { "1.0000000001", 9, LLMB_OK, INT64_C(1000000001) },
    { "-1.0000000009", 9, LLMB_OK, INT64_C(-1000000001) },
    { "0.9", 0, LLMB_OK, 1 },
    { "7.5e-13", 12, LLMB_OK, 1 },
    { "1e-400", 9, LLMB_OK, 1 },
    { "-1e-400", 9, LLMB_OK, -1 },
    { "1e-999999999999999999999999999999", 9, LLMB_OK, 1 },

    /* absurd exponents end at once */

    { "0e999999", 9, LLMB_OK, 0 },
    { "0.000e99999999999999999999999", 9, LLMB_OK, 0 },
    { "0e-99999999999999999999999", 9, LLMB_OK, 0 },
    { "1e999999999", 9, LLMB_OVERFLOW, 0 },
    { "-1e999999999", 9, LLMB_OVERFLOW, 0 },
    { "1e99999999999999999999999999999999999", 9, LLMB_OVERFLOW, 0 },
    { "1e9999999999999999999", 0, LLMB_OVERFLOW, 0 },
    { "1e-9999999999999999999", 0, LLMB_OK, 1 },
    { "1e400", 9, LLMB_OVERFLOW, 0 },
    { "5e-00000000000000000000000000000001", 9, LLMB_OK, 500000000 },
    { "5e+000000000000000000000000000000001", 0, LLMB_OK, 50 },
    { "0.000000000000000000000000000001e30", 9, LLMB_OK, 1000000000 },
    { "1000000000000000000000000000000e-30", 9, LLMB_OK, 1000000000 },

    /* the edges of int64_t */

    { "9223372036.854775807", 9, LLMB_OK, INT64_MAX },
    { "9223372036854775807", 0, LLMB_OK, INT64_MAX },
    { "9223372036.854775808", 9, LLMB_OVERFLOW, 0 },
    { "9223372036.8547758070", 9, LLMB_OK, INT64_MAX },
    { "9223372036.8547758071", 9, LLMB_OVERFLOW, 0 },
    { "9223372036.8547758061", 9, LLMB_OK, INT64_MAX },
    { "-9223372036.854775808", 9, LLMB_OK, INT64_MIN },
    { "-9223372036.8547758071", 9, LLMB_OK, INT64_MIN },
    { "-9223372036.8547758081", 9, LLMB_OVERFLOW, 0 },
    { "-9223372036.854775809", 9, LLMB_OVERFLOW, 0 },
    { "18446744073709551616", 0, LLMB_OVERFLOW, 0 },
    { "18446744073686646784", 0, LLMB_OVERFLOW, 0 },
    { "9223372036854775807e1", 0, LLMB_OVERFLOW, 0 },
    { "9e18", 0, LLMB_OK, INT64_C(9000000000000000000) },
    { "1e19", 0, LLMB_OVERFLOW, 0 },
    { "9000000", 9, LLMB_OK, LLMB_MONEY_LIMIT_NUSD },
    { "9000000.000000001", 9, LLMB_OK, LLMB_MONEY_LIMIT_NUSD + 1 },
    { "5", 40, LLMB_OVERFLOW, 0 },
    { "0", 4294967295, LLMB_OK, 0 },

    /* not decimal numbers */

    { "", 9, LLMB_INVALID, 0 },
    { " ", 9, LLMB_INVALID, 0 },
    { " 5", 9, LLMB_INVALID, 0 },
    { "5 ", 9, LLMB_INVALID, 0 },
    { "+", 9, LLMB_INVALID, 0 },
    { "-", 9, LLMB_INVALID, 0 },
    { ".", 9, LLMB_INVALID, 0 },
    { "-.", 9, LLMB_INVALID, 0 },
    { "+-5", 9, LLMB_INVALID, 0 },
    { "--5", 9, LLMB_INVALID, 0 },
    { "1.2.3", 9, LLMB_INVALID, 0 },
    { "1,5", 9, LLMB_INVALID, 0 },
    { "1_000", 9, LLMB_INVALID, 0 },
    { "$5", 9, LLMB_INVALID, 0 },
    { "5USD", 9, LLMB_INVALID, 0 },
    { "0x10", 9, LLMB_INVALID, 0 },
    { "inf", 9, LLMB_INVALID, 0 },
    { "-Infinity", 9, LLMB_INVALID, 0 },
    { "nan", 9, LLMB_INVALID, 0 },
    { "NaN", 9, LLMB_INVALID, 0 },
    { "e5", 9, LLMB_INVALID, 0 },
    { ".e5", 9, LLMB_INVALID, 0 },
    { "1e", 9, LLMB_INVALID, 0 },
    { "1e+", 9, LLMB_INVALID, 0 },
    { "1e-", 9, LLMB_INVALID, 0 },
    { "1e+-5", 9, LLMB_INVALID, 0 },
    { "1e1.5", 9, LLMB_INVALID, 0 },
    { "1e5e5", 9, LLMB_INVALID, 0 },
    { "1ee5", 9, LLMB_INVALID, 0 },
    { "1e999999999x", 9, LLMB_INVALID, 0 },
    { "99999999999999999999999x", 9, LLMB_INVALID, 0 },
    { "1/2", 9, LLMB_INVALID, 0 },
    { "1:2", 9, LLMB_INVALID, 0 }
};


static uint64_t  random_state = UINT64_C(0x9e3779b97f4a7c15);


static uint64_t
random_next(void)
{
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;

    return random_state;
}


static unsigned
random_below(unsigned n)
{
    return (unsigned) (random_next() % n);
}


/* Any size of number is as likely as any other. */

static int64_t
random_int(void)
{
    return (int64_t) (random_next() >> random_below(64));
}


static llmb_rc_e
parse(const char *text, unsigned places, int64_t *value)
{
    char        *copy;
    size_t       len;
    llmb_rc_e    rc;
    llmb_str_t   s;

    /* an exact copy, so that the sanitizer sees a read past the end */

    len = strlen(text);
    copy = malloc(len + 1);

    if (copy == NULL) {
        abort();
    }

    copy = realloc(copy, len != 0 ? len : 1);

    if (copy == NULL) {
        abort();
    }

    memcpy(copy, text, len);

    s.len = len;
    s.data = (unsigned char *) copy;

    rc = llmb_money_parse(&s, places, value);

    free(copy);

    return rc;
}


static void
test_parse_table(void)
{
    size_t               i;
    int64_t              value, want;
    llmb_rc_e            rc;
    const parse_case_t  *c;

    for (i = 0; i < sizeof(parse_cases) / sizeof(parse_cases[0]); i++) {
        c = &parse_cases[i];

        value = -77;
        rc = parse(c->text, c->places, &value);
        want = (c->rc == LLMB_OK) ? c->value : -77;

        ok(rc == c->rc && value == want,
           "\"%s\" with %u places is read as %d, %lld (got %d, %lld)",
           c->text, c->places, (int) c->rc, (long long) want, (int) rc,
           (long long) value);
    }
}


static void
test_parse_bytes(void)
{
    int            bad;
    int64_t        value;
    unsigned       ch;
    llmb_str_t     s;
    unsigned char  text[3];

    bad = 0;

    for (ch = 0; ch < 256; ch++) {

        text[0] = '1';
        text[1] = (unsigned char) ch;
        text[2] = '2';

        s.len = 3;
        s.data = text;

        if ((llmb_money_parse(&s, 2, &value) == LLMB_OK)
            != ((ch >= '0' && ch <= '9')
                || ch == '.' || ch == 'e' || ch == 'E'))
        {
            bad++;
        }
    }

    is_int(bad, 0, "no other byte is taken inside a number, zero included");
}


/* A hundred thousand digits are read in one pass. */

static void
test_parse_long(void)
{
    char     *text;
    size_t    i, n;
    int64_t   value;

    n = 100000;
    text = malloc(n + 32);

    if (text == NULL) {
        abort();
    }

    text[0] = '0';
    text[1] = '.';

    for (i = 2; i < n; i++) {
        text[i] = '0';
    }

    snprintf(text + n, 32, "5e99998");

    value = 0;
    ok(parse(text, 0, &value) == LLMB_OK && value == 1,
       "zeros after the point are undone by the exponent (half rounds up)");

    snprintf(text + n, 32, "5e99999");

    value = 0;
    ok(parse(text, 0, &value) == LLMB_OK && value == 5,
       "zeros after the point are undone by the exponent");

    snprintf(text + n, 32, "7");

    value = 0;
    ok(parse(text, 9, &value) == LLMB_OK && value == 1,
       "a digit far below the scale still rounds up");

    free(text);
}


/*
 * The reference: shifts a decimal string one place at a time and increments
 * it as a string.  Answers the digits of the magnitude, without leading
 * zeros.
 */

static void
slow_scale(const char *digits, int point, int shift, char *out)
{
    int    i, n, carry;
    char   whole[BIG];
    char   text[BIG];

    snprintf(text, sizeof(text), "%s", digits);
    n = (int) strlen(text);

    for ( /* void */ ; shift > 0; shift--) {
        point++;

        if (point > n) {
            text[n++] = '0';
        }
    }

    for ( /* void */ ; shift < 0; shift++) {
        point--;

        if (point < 0) {
            memmove(text + 1, text, (size_t) n);
            text[0] = '0';
            n++;
            point++;
        }
    }

    memcpy(whole + 1, text, (size_t) point);
    whole[0] = '0';

    carry = 0;

    for (i = point; i < n; i++) {
        if (text[i] != '0') {
            carry = 1;
        }
    }

    for (i = point; carry; i--) {

        if (whole[i] == '9') {
            whole[i] = '0';
            continue;
        }

        whole[i]++;
        carry = 0;
    }

    for (i = 0; i < point && whole[i] == '0'; i++) { /* void */ }

    memcpy(out, whole + i, (size_t) (point + 1 - i));
    out[point + 1 - i] = '\0';
}


static int
slow_fits(const char *digits, int negative)
{
    size_t       len;
    const char  *limit;

    limit = negative ? "9223372036854775808" : "9223372036854775807";
    len = strlen(digits);

    return len < 19 || (len == 19 && strcmp(digits, limit) <= 0);
}


static void
test_parse_random(void)
{
    int        i, j, n, point, negative, shift, exponent, bad, fits, overflows;
    char       digits[40], text[96], want[BIG], got[32];
    int64_t    value;
    unsigned   places;
    llmb_rc_e  rc;

    bad = 0;
    overflows = 0;

    for (i = 0; i < RANDOM_RUNS; i++) {

        n = 1 + (int) random_below(30);

        for (j = 0; j < n; j++) {
            digits[j] = (char) ('0' + (random_below(3) ? random_below(10)
                                       : random_below(2) * 9));
        }

        digits[n] = '\0';

        point = (int) random_below((unsigned) n + 1);
        negative = (int) random_below(2);
        exponent = random_below(2) ? (int) random_below(61) - 30 : 0;
        places = random_below(13);

        snprintf(text, sizeof(text), "%s%.*s.%se%d", negative ? "-" : "",
                 point, digits, digits + point, exponent);

        shift = exponent + (int) places;
        slow_scale(digits, point, shift, want);
        fits = slow_fits(want, negative);

        value = 0;
        rc = parse(text, places, &value);

        if (rc != (fits ? LLMB_OK : LLMB_OVERFLOW)) {
            bad++;
            printf("# \"%s\", %u places: %d\n", text, places, (int) rc);
            continue;
        }

        if (!fits) {
            overflows++;
            continue;
        }

        snprintf(got, sizeof(got), "%lld", (long long) value);

        if (strcmp(got + (got[0] == '-'), want) != 0
            || (value < 0) != (negative && strcmp(want, "0") != 0))
        {
            bad++;
            printf("# \"%s\", %u places: %s, not %s\n", text, places, got,
                   want);
        }
    }

    is_int(bad, 0, "random decimals are read as the string reference does");
    ok(overflows > RANDOM_RUNS / 20 && overflows < RANDOM_RUNS * 19 / 20,
       "random decimals cover numbers that fit and that do not");
}


/* The reference of a product: one digit at a time, most significant first. */

static void
slow_charge(uint64_t sum, uint64_t a, uint64_t b, char *out)
{
    int       i, j, carry, n, cell[64];
    char      x[32], y[32], z[32];

    memset(cell, 0, sizeof(cell));

    snprintf(x, sizeof(x), "%llu", (unsigned long long) a);
    snprintf(y, sizeof(y), "%llu", (unsigned long long) b);
    snprintf(z, sizeof(z), "%llu", (unsigned long long) sum);

    for (i = 0; x[i] != '\0'; i++) {
        for (j = 0; y[j] != '\0'; j++) {
            n = (int) (strlen(x) + strlen(y)) - 2 - i - j;
            cell[n] += (x[i] - '0') * (y[j] - '0');
        }
    }

    for (i = 0; z[i] != '\0'; i++) {
        cell[(int) strlen(z) - 1 - i] += z[i] - '0';
    }

    carry = 0;

    for (i = 0; i < 64; i++) {
        carry += cell[i];
        cell[i] = carry % 10;
        carry /= 10;
    }

    for (i = 63; i > 0 && cell[i] == 0; i--) { /* void */ }

    for (n = 0; i >= 0; i--) {
        out[n++] = (char) ('0' + cell[i]);
    }

    out[n] = '\0';
}


static void
test_charge(void)
{
    int        i, bad, fits, overflows;
    char       want[80], got[32];
    int64_t    sum, before, count, price;
    llmb_rc_e  rc;

    sum = 5;
    is_int(llmb_money_charge(&sum, 1000, 150000), LLMB_OK, "a charge is added");
    is_int(sum, 150000005, "a charge is count times price");

    is_int(llmb_money_charge(&sum, -1, 150000), LLMB_INVALID,
           "a negative count is refused");
    is_int(llmb_money_charge(&sum, 1, -150000), LLMB_INVALID,
           "a negative price is refused");
    is_int(llmb_money_charge(&sum, -1, -1), LLMB_INVALID,
           "two negatives do not make a charge");
    is_int(llmb_money_charge(&sum, INT64_MIN, INT64_MIN), LLMB_INVALID,
           "the most negative numbers are refused");
    is_int(llmb_money_charge(&sum, INT64_MAX, 2), LLMB_OVERFLOW,
           "a product that does not fit is refused");
    is_int(llmb_money_charge(&sum, INT64_MAX, 1), LLMB_OVERFLOW,
           "a sum that does not fit is refused");
    is_int(sum, 150000005, "a refused charge leaves the sum unchanged");

    is_int(llmb_money_charge(&sum, INT64_MAX - 150000005, 1), LLMB_OK,
           "a sum of exactly INT64_MAX fits");
    is_int(sum, INT64_MAX, "a sum of exactly INT64_MAX is exact");
    is_int(llmb_money_charge(&sum, 0, INT64_MAX), LLMB_OK,
           "nothing can be charged to a full sum");

    bad = 0;
    overflows = 0;

    for (i = 0; i < RANDOM_RUNS; i++) {
        sum = random_int() & INT64_MAX;
        count = random_int() & INT64_MAX;
        price = random_int() & INT64_MAX;
        before = sum;

        slow_charge((uint64_t) sum, (uint64_t) count, (uint64_t) price, want);
        fits = slow_fits(want, 0);

        rc = llmb_money_charge(&sum, count, price);

        if (rc != (fits ? LLMB_OK : LLMB_OVERFLOW)) {
            bad++;
            continue;
        }

        if (!fits) {
            overflows++;
            bad += (sum != before);
            continue;
        }

        snprintf(got, sizeof(got), "%lld", (long long) sum);
        bad += (strcmp(got, want) != 0);
    }

    is_int(bad, 0, "random charges agree with the string reference");
    ok(overflows > RANDOM_RUNS / 20 && overflows < RANDOM_RUNS * 19 / 20,
       "random charges cover sums that fit and that do not");
}


static void
test_add(void)
{
    int      i, bad;
    int64_t  sum;

    sum = 0;
    bad = 0;

    for (i = 0; i < 1000000; i++) {
        bad += (llmb_money_add(sum, 1, &sum) != LLMB_OK);
    }

    is_int(bad, 0, "a million adds of one nano-USD succeed");
    is_int(sum, 1000000, "a million adds of one nano-USD are a million");

    sum = LLMB_MONEY_LIMIT_NUSD - 1000000;

    for (i = 0; i < 1000000; i++) {
        bad += (llmb_money_add(sum, 1, &sum) != LLMB_OK);
    }

    is_int(sum, LLMB_MONEY_LIMIT_NUSD,
           "nine million dollars are reached to the nano-USD");

    sum = 42;
    is_int(llmb_money_add(INT64_MAX, 1, &sum), LLMB_OVERFLOW,
           "an add beyond INT64_MAX is refused");
    is_int(llmb_money_add(INT64_MIN, -1, &sum), LLMB_OVERFLOW,
           "an add below INT64_MIN is refused");
    is_int(llmb_money_add(INT64_MIN, INT64_MIN, &sum), LLMB_OVERFLOW,
           "an add of the two smallest is refused");
    is_int(sum, 42, "a refused add leaves the sum unchanged");

    is_int(llmb_money_add(INT64_MAX, INT64_MIN, &sum), LLMB_OK,
           "numbers of different signs can always be added");
    is_int(sum, -1, "numbers of different signs add up");

    sum = INT64_MAX;
    is_int(llmb_money_add(sum, 1, &sum), LLMB_OVERFLOW,
           "an add in place beyond INT64_MAX is refused");
    is_int(sum, INT64_MAX, "a refused add in place changes nothing");
}


static void
test_round(void)
{
    is_int(llmb_money_round(0), 0, "nothing costs nothing");
    is_int(llmb_money_round(1), 1, "one pico-USD rounds up to one nano-USD");
    is_int(llmb_money_round(999), 1, "999 pico-USD round up");
    is_int(llmb_money_round(1000), 1, "1000 pico-USD are one nano-USD");
    is_int(llmb_money_round(1001), 2, "1001 pico-USD round up");
    is_int(llmb_money_round(INT64_MAX), INT64_C(9223372036854776),
           "the greatest sum rounds up without overflow");
    is_int(llmb_money_round(INT64_MAX - 807), INT64_C(9223372036854775),
           "the greatest whole sum is exact");
}


static void
test_format(void)
{
    int            i, bad;
    size_t         len;
    int64_t        n, back;
    llmb_str_t     s;
    unsigned char  buf[LLMB_MONEY_LEN];

    static const struct {
        int64_t      nusd;
        const char  *text;
    } cases[] = {
        { 0, "0.000000000" },
        { 1, "0.000000001" },
        { -1, "-0.000000001" },
        { 2700000, "0.002700000" },
        { 999999999, "0.999999999" },
        { 1000000000, "1.000000000" },
        { -1000000000, "-1.000000000" },
        { INT64_C(12345678901), "12.345678901" },
        { LLMB_MONEY_LIMIT_NUSD, "9000000.000000000" },
        { INT64_MAX, "9223372036.854775807" },
        { INT64_MIN, "-9223372036.854775808" }
    };

    for (i = 0; i < (int) (sizeof(cases) / sizeof(cases[0])); i++) {
        len = llmb_money_format(buf, cases[i].nusd);
        is_str(buf, len, cases[i].text, "an amount has nine places");
    }

    bad = 0;

    for (i = 0; i < RANDOM_RUNS; i++) {
        n = random_int();

        s.len = llmb_money_format(buf, n);
        s.data = buf;

        bad += (llmb_money_parse(&s, LLMB_MONEY_NUSD, &back) != LLMB_OK
                || back != n);
    }

    is_int(bad, 0, "a formatted amount is read back as it was");
}


int
main(void)
{
    test_parse_table();
    test_parse_bytes();
    test_parse_long();
    test_parse_random();
    test_charge();
    test_add();
    test_round();
    test_format();

    return test_done();
}
