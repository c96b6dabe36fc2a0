
/*
 * Copyright (C) the ngx_http_llm_budget_module authors
 *
 * The bounded writer.  A piece that does not fit is left out whole, and so is
 * all that follows it: a cut number would be a wrong number.
 */


#include "core/llmb_out.h"

#include <string.h>


/* sign, the digits of a 64-bit integer, point */
#define LLMB_OUT_DECIMAL_LEN    24

/* decimal places of nano-USD */
#define LLMB_OUT_NUSD_PLACES    9


static void llmb_out_decimal(llmb_out_t *out, int64_t value, unsigned places);
static void llmb_out_escape(llmb_out_t *out, unsigned char ch);
static size_t llmb_out_utf8(const unsigned char *p, size_t len, int *valid);


void
llmb_out_init(llmb_out_t *out, unsigned char *buf, size_t size)
{
    out->start = buf;
    out->pos = buf;
    out->end = (size != 0) ? buf + size : buf;
    out->need = 0;
    out->full = 0;
}


void
llmb_out_bytes(llmb_out_t *out, const void *data, size_t len)
{
    if (len == 0) {
        return;
    }

    out->need = (len > SIZE_MAX - out->need) ? SIZE_MAX : out->need + len;

    if (out->full || len > (size_t) (out->end - out->pos)) {
        out->full = 1;
        return;
    }

    memcpy(out->pos, data, len);
    out->pos += len;
}


void
llmb_out_str(llmb_out_t *out, const llmb_str_t *s)
{
    llmb_out_bytes(out, s->data, s->len);
}


void
llmb_out_text(llmb_out_t *out, const char *text)
{
    llmb_out_bytes(out, text, strlen(text));
}


void
llmb_out_int(llmb_out_t *out, int64_t n)
{
    llmb_out_decimal(out, n, 0);
}


void
llmb_out_nusd(llmb_out_t *out, int64_t nusd)
{
    llmb_out_decimal(out, nusd, LLMB_OUT_NUSD_PLACES);
}


/* value * 10^-places; places is less than nineteen */

static void
llmb_out_decimal(llmb_out_t *out, int64_t value, unsigned places)
{
    unsigned        i;
    uint64_t        n;
    unsigned char  *p, text[LLMB_OUT_DECIMAL_LEN];

    /* unsigned, since INT64_MIN has no positive counterpart */

    n = (value < 0) ? UINT64_C(0) - (uint64_t) value : (uint64_t) value;
    p = text + LLMB_OUT_DECIMAL_LEN;
    i = 0;

    do {

        if (i == places && i != 0) {
            *--p = '.';
        }

        *--p = (unsigned char) ('0' + n % 10);
        n /= 10;
        i++;

    } while (n != 0 || i <= places);

    if (value < 0) {
        *--p = '-';
    }

    llmb_out_bytes(out, p, (size_t) (text + LLMB_OUT_DECIMAL_LEN - p));
}


void
llmb_out_json(llmb_out_t *out, const llmb_str_t *s)
{
    int                   valid;
    size_t                n, left;
    const unsigned char  *p;

    llmb_out_bytes(out, "\"", 1);

    p = s->data;
    left = s->len;

    while (left != 0) {
        n = llmb_out_utf8(p, left, &valid);

        if (!valid) {
            llmb_out_bytes(out, "\xef\xbf\xbd", 3);

        } else if (n == 1) {
            llmb_out_escape(out, *p);

        } else if (p[0] == 0xc2 && p[1] < 0xa0) {

            /* U+0080 - U+009F: controls too, and terminals obey them */

            llmb_out_escape(out, p[1]);

        } else {
            llmb_out_bytes(out, p, n);
        }

        p += n;
        left -= n;
    }

    llmb_out_bytes(out, "\"", 1);
}


/* A code point below U+0100, ASCII or a control. */

static void
llmb_out_escape(llmb_out_t *out, unsigned char ch)
{
    size_t         i;
    unsigned char  text[6];

    static const char  from[] = "\"\\\b\f\n\r\t";
    static const char  to[] = "\"\\bfnrt";
    static const char  hex[] = "0123456789abcdef";

    for (i = 0; i < sizeof(from) - 1; i++) {

        if (ch == (unsigned char) from[i]) {
            text[0] = '\\';
            text[1] = (unsigned char) to[i];
            llmb_out_bytes(out, text, 2);
            return;
        }
    }

    if (ch >= 0x20 && ch < 0x7f) {
        llmb_out_bytes(out, &ch, 1);
        return;
    }

    text[0] = '\\';
    text[1] = 'u';
    text[2] = '0';
    text[3] = '0';
    text[4] = (unsigned char) hex[ch >> 4];
    text[5] = (unsigned char) hex[ch & 0x0f];

    llmb_out_bytes(out, text, sizeof(text));
}


/*
 * The length of the character at p, which has at least one byte.  When it is
 * not valid, the length of the longest part that could have begun one, as
 * Unicode recommends for replacement.
 */

static size_t
llmb_out_utf8(const unsigned char *p, size_t len, int *valid)
{
    size_t         i, n;
    unsigned char  low, high;

    *valid = 1;

    if (p[0] < 0x80) {
        return 1;
    }

    *valid = 0;
    low = 0x80;
    high = 0xbf;

    if (p[0] >= 0xc2 && p[0] <= 0xdf) {
        n = 2;

    } else if (p[0] >= 0xe0 && p[0] <= 0xef) {
        n = 3;

        /* overlong forms and surrogates */

        if (p[0] == 0xe0) {
            low = 0xa0;

        } else if (p[0] == 0xed) {
            high = 0x9f;
        }

    } else if (p[0] >= 0xf0 && p[0] <= 0xf4) {
        n = 4;

        /* overlong forms and beyond U+10FFFF */

        if (p[0] == 0xf0) {
            low = 0x90;

        } else if (p[0] == 0xf4) {
            high = 0x8f;
        }

    } else {
        return 1;
    }

    for (i = 1; i < n; i++) {

        if (i == len || p[i] < low || p[i] > high) {
            return i;
        }

        low = 0x80;
        high = 0xbf;
    }

    *valid = 1;

    return n;
}
