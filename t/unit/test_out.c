
/*
 * Copyright (C) the ngx_http_llm_budget_module authors
 *
 * The bounded writer: what fits, what does not, and JSON that is always
 * valid.
 */


#include "llmb_test.h"

#include "core/llmb_money.h"
#include "core/llmb_out.h"


#define RANDOM_RUNS 100000


static uint64_t  random_state = UINT64_C(0x9e3779b97f4a7c15);


static uint64_t
random_next(void)
{
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;

    return random_state;
}


static void
json_is(const char *text, size_t len, const char *want, const char *title)
{
    llmb_out_t     out;
    llmb_str_t     s;
    unsigned char  in[128], buf[512];

    memcpy(in, text, len);

    s.len = len;
    s.data = in;

    llmb_out_init(&out, buf, sizeof(buf));
    llmb_out_json(&out, &s);

    is_str(buf, (size_t) (out.pos - out.start), want, title);
}


static void
test_pieces(void)
{
    llmb_out_t     out;
    llmb_str_t     s = llmb_string("str");
    llmb_str_t     none = { 0, NULL };
    unsigned char  buf[64];

    llmb_out_init(&out, buf, sizeof(buf));
    llmb_out_bytes(&out, "a\0b", 3);
    llmb_out_str(&out, &s);
    llmb_out_str(&out, &none);
    llmb_out_bytes(&out, NULL, 0);
    llmb_out_text(&out, "");
    llmb_out_text(&out, "text");
    llmb_out_int(&out, -5);
    llmb_out_nusd(&out, 2700000);

    ok(out.pos - out.start == 23
       && memcmp(buf, "a\0bstrtext-50.002700000", 23) == 0,
       "pieces follow each other");
    is_int((int64_t) out.need, 23, "need is what was written");
    is_int(out.full, 0, "a writer with room is not full");
}


static void
test_bounds(void)
{
    int             bad;
    size_t          size;
    llmb_out_t      out;
    unsigned char  *buf;

    static const char  want[] = "one,-12,\"a\\nb\",1.000000001";
    llmb_str_t         s = llmb_string("a\nb");

    bad = 0;

    for (size = 0; size <= sizeof(want) + 3; size++) {

        /* a block of just this size, so that the sanitizer sees more */

        buf = malloc(size != 0 ? size : 1);

        if (buf == NULL) {
            abort();
        }

        llmb_out_init(&out, buf, size);
        llmb_out_text(&out, "one,");
        llmb_out_int(&out, -12);
        llmb_out_text(&out, ",");
        llmb_out_json(&out, &s);
        llmb_out_text(&out, ",");
        llmb_out_nusd(&out, 1000000001);

        if (out.need != sizeof(want) - 1
            || out.full != (size < sizeof(want) - 1)
            || out.start != buf
            || out.end != buf + size
            || out.pos > out.end
            || memcmp(buf, want, (size_t) (out.pos - out.start)) != 0)
        {
            bad++;
        }

        if (!out.full && out.pos - out.start != sizeof(want) - 1) {
            bad++;
        }

        free(buf);
    }

    is_int(bad, 0, "every size of buffer holds a beginning of the text, "
                   "and need is the same");
}


static void
test_full(void)
{
    llmb_out_t     out;
    unsigned char  buf[8];

    memset(buf, '#', sizeof(buf));

    llmb_out_init(&out, buf, 6);
    llmb_out_text(&out, "abc");
    llmb_out_int(&out, 1234567);
    ok(out.full, "a number that does not fit makes the writer full");
    is_int(out.pos - out.start, 3, "a number is never cut");

    llmb_out_text(&out, "d");
    is_int(out.pos - out.start, 3, "a full writer stays full");
    is_int((int64_t) out.need, 11, "a full writer goes on counting");
    ok(memcmp(buf, "abc#####", 8) == 0, "a full writer writes nothing");

    llmb_out_init(&out, buf, 6);
    llmb_out_text(&out, "abcdef");
    ok(!out.full && out.pos == out.end, "a text of just the size fits");
    llmb_out_text(&out, "");
    ok(!out.full, "nothing fits into no room");
    llmb_out_text(&out, "g");
    ok(out.full && out.pos == out.end && out.need == 7,
       "one byte more does not fit");

    llmb_out_init(&out, NULL, 0);
    llmb_out_text(&out, "abc");
    llmb_out_int(&out, 7);
    ok(out.need == 4 && out.full && out.pos == NULL,
       "a writer without a buffer counts");

    out.need = SIZE_MAX - 2;
    llmb_out_text(&out, "abcdef");
    ok(out.need == SIZE_MAX, "the count stops at its greatest value");
}


static void
test_numbers(void)
{
    int            i, bad;
    char           want[32];
    size_t         len;
    int64_t        n;
    llmb_out_t     out;
    unsigned char  buf[64], money[LLMB_MONEY_LEN];

    static const int64_t  edges[] = {
        0, 1, -1, 9, 10, -10, 99, 999999999, 1000000000, -1000000000,
        INT64_MAX, INT64_MIN, INT64_MIN + 1
    };

    bad = 0;

    for (i = 0; i < RANDOM_RUNS; i++) {

        if (i < (int) (sizeof(edges) / sizeof(edges[0]))) {
            n = edges[i];

        } else {
            n = (int64_t) (random_next() >> (random_next() % 64));
            n = (random_next() & 1) ? n : (int64_t) (0 - (uint64_t) n);
        }

        snprintf(want, sizeof(want), "%lld", (long long) n);

        llmb_out_init(&out, buf, sizeof(buf));
        llmb_out_int(&out, n);

        if (out.need != strlen(want) || memcmp(buf, want, out.need) != 0) {
            printf("# %s\n", want);
            bad++;
        }

        len = llmb_money_format(money, n);

        llmb_out_init(&out, buf, sizeof(buf));
        llmb_out_nusd(&out, n);

        if (out.need != len || memcmp(buf, money, len) != 0) {
            printf("# %s nano-USD\n", want);
            bad++;
        }
    }

    is_int(bad, 0, "integers are as of printf, amounts as of llmb_money");

    llmb_out_init(&out, buf, sizeof(buf));
    llmb_out_int(&out, INT64_MIN);
    is_str(buf, out.need, "-9223372036854775808", "INT64_MIN has a text");

    llmb_out_init(&out, buf, sizeof(buf));
    llmb_out_nusd(&out, INT64_MIN);
    is_str(buf, out.need, "-9223372036.854775808",
           "INT64_MIN as an amount has a text");
}


static void
test_json(void)
{
    json_is("", 0, "\"\"", "an empty string has its quotes");
    json_is("plain text/", 11, "\"plain text/\"", "plain text is kept");
    json_is("\"\\", 2, "\"\\\"\\\\\"", "quote and backslash are escaped");
    json_is("\b\f\n\r\t", 5, "\"\\b\\f\\n\\r\\t\"",
            "common controls have short escapes");
    json_is("\0\1\x1f\x7f", 4, "\"\\u0000\\u0001\\u001f\\u007f\"",
            "other controls are escaped by number, zero included");
    json_is("\xc2\x80\xc2\x9b\xc2\x9f\xc2\xa0", 8,
            "\"\\u0080\\u009b\\u009f\xc2\xa0\"",
            "the controls above ASCII are escaped too");
    json_is("\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80", 9,
            "\"\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80\"", "UTF-8 is kept");
    json_is("\xed\x9f\xbf\xee\x80\x80\xf4\x8f\xbf\xbf\xe0\xa0\x80"
            "\xf0\x90\x80\x80", 17,
            "\"\xed\x9f\xbf\xee\x80\x80\xf4\x8f\xbf\xbf\xe0\xa0\x80"
            "\xf0\x90\x80\x80\"",
            "the edges of UTF-8 are kept");
}


#define FFFD  "\xef\xbf\xbd"

static void
test_json_invalid(void)
{
    json_is("a\x80z", 3, "\"a" FFFD "z\"", "a stray byte is replaced");
    json_is("\xff\xfe", 2, "\"" FFFD FFFD "\"", "bytes of no character");
    json_is("\xc0\xaf", 2, "\"" FFFD FFFD "\"", "an overlong slash");
    json_is("\xc1\xbf", 2, "\"" FFFD FFFD "\"", "an overlong DEL");
    json_is("\xe0\x9f\xbf", 3, "\"" FFFD FFFD FFFD "\"",
            "an overlong form of three bytes");
    json_is("\xf0\x8f\xbf\xbf", 4, "\"" FFFD FFFD FFFD FFFD "\"",
            "an overlong form of four bytes");
    json_is("\xed\xa0\x80", 3, "\"" FFFD FFFD FFFD "\"", "a surrogate");
    json_is("\xf4\x90\x80\x80", 4, "\"" FFFD FFFD FFFD FFFD "\"",
            "a character beyond U+10FFFF");
    json_is("\xf5\x80", 2, "\"" FFFD FFFD "\"", "a lead byte of none");
    json_is("\xe2\x82", 2, "\"" FFFD "\"", "a character cut at the end");
    json_is("\xf0\x9f\x98", 3, "\"" FFFD "\"", "a longer one cut at the end");
    json_is("\xc3", 1, "\"" FFFD "\"", "a lone lead byte");
    json_is("\xe2\x82\"x", 4, "\"" FFFD "\\\"x\"",
            "a cut character does not swallow the quote after it");
    json_is("\xc3\nx", 3, "\"" FFFD "\\nx\"",
            "a lead byte does not swallow the control after it");
}


/* An independent look: valid UTF-8 by decoding, and no bare quote. */

static int
json_valid(const unsigned char *p, size_t len)
{
    size_t    i, j, n;
    uint32_t  code;

    static const uint32_t  least[] = { 0, 0, 0x80, 0x800, 0x10000 };

    if (len < 2 || p[0] != '"' || p[len - 1] != '"') {
        return 0;
    }

    for (i = 1; i < len - 1; i += n) {
        n = 1;

        if (p[i] < 0x20 || p[i] == 0x7f || p[i] == '"') {
            return 0;
        }

        if (p[i] == '\\') {
            n = (p[i + 1] == 'u') ? 6 : 2;

            if (i + n > len - 1 || strchr("\"\\bfnrtu", p[i + 1]) == NULL) {
                return 0;
            }

            continue;
        }

        if (p[i] < 0x80) {
            continue;
        }

        n = (p[i] >= 0xf0) ? 4 : (p[i] >= 0xe0) ? 3 : 2;
        code = p[i] & (0xffu >> (n + 1));

        if (p[i] < 0xc0 || p[i] >= 0xf8 || i + n > len - 1) {
            return 0;
        }

        for (j = 1; j < n; j++) {

            if ((p[i + j] & 0xc0) != 0x80) {
                return 0;
            }

            code = code << 6 | (p[i + j] & 0x3f);
        }

        if (code < least[n]
            || code > 0x10ffff
            || (code >= 0xd800 && code <= 0xdfff))
        {
            return 0;
        }
    }

    return 1;
}


static void
test_json_random(void)
{
    int             i, bad;
    size_t          j;
    llmb_out_t      out;
    llmb_str_t      s;
    unsigned char  *in, buf[256];

    static const unsigned char  some[] = {
        0x00, 0x0a, 0x22, 0x5c, 0x41, 0x7f, 0x80, 0x8f, 0x90, 0x9f, 0xa0,
        0xbf, 0xc0, 0xc2, 0xdf, 0xe0, 0xe1, 0xed, 0xef, 0xf0, 0xf4, 0xf5
    };

    bad = 0;

    for (i = 0; i < RANDOM_RUNS; i++) {
        s.len = random_next() % 13;

        /* a block of just this size, so that the sanitizer sees more */

        in = malloc(s.len != 0 ? s.len : 1);

        if (in == NULL) {
            abort();
        }

        for (j = 0; j < s.len; j++) {
            in[j] = (random_next() & 1)
                    ? some[random_next() % sizeof(some)]
                    : (unsigned char) random_next();
        }

        s.data = in;

        llmb_out_init(&out, buf, sizeof(buf));
        llmb_out_json(&out, &s);

        bad += (out.full || !json_valid(buf, out.need));

        free(in);
    }

    is_int(bad, 0, "random bytes become valid JSON strings");
}


int
main(void)
{
    test_pieces();
    test_bounds();
    test_full();
    test_numbers();
    test_json();
    test_json_invalid();
    test_json_random();

    return test_done();
}
