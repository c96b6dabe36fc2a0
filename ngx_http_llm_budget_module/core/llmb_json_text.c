
/*
 * Copyright (C) the ngx_http_llm_budget_module authors
 *
 * The JSON scanner: the text of strings and keys.  The bulk of it goes through
 * a search for the next special byte, 16 at a time where SSE2 is at hand.
 */


#include "core/llmb_json_state.h"

#include <string.h>

#if defined(__SSE2__) && defined(__GNUC__)
#include <emmintrin.h>
#define LLMB_JSON_SIMD  1
#else
#define LLMB_JSON_SIMD  0
#endif


#define LLMB_JSON_SURROGATE_HIGH  0xd800
#define LLMB_JSON_SURROGATE_LOW   0xdc00
#define LLMB_JSON_SURROGATE_END   0xe000
#define LLMB_JSON_REPLACEMENT     0xfffd


static void llmb_json_utf8_lead(llmb_json_t *js, unsigned char c);
static void llmb_json_utf8_next(llmb_json_t *js, unsigned char c);
static void llmb_json_escape(llmb_json_t *js, unsigned char c);
static void llmb_json_hex(llmb_json_t *js, unsigned char c);
static void llmb_json_unit(llmb_json_t *js, uint32_t unit);
static void llmb_json_lone(llmb_json_t *js, unsigned state);
static const unsigned char *llmb_json_run(const unsigned char *p,
    const unsigned char *last, unsigned flags);
static const unsigned char *llmb_json_ascii(const unsigned char *p,
    const unsigned char *last);
static const unsigned char *llmb_json_bytes(const unsigned char *p,
    const unsigned char *last);
static const unsigned char *llmb_json_utf8(const unsigned char *p,
    const unsigned char *last);
static void llmb_json_keep_code(llmb_json_t *js, uint32_t code);


const unsigned char *
llmb_json_string(llmb_json_t *js, const unsigned char *p,
    const unsigned char *last)
{
    const unsigned char  *q;

    q = llmb_json_run(p, last, js->flags);

    if (q != p) {
        llmb_json_keep(js, p, (size_t) (q - p));
    }

    if (q == last) {
        return q;
    }

    switch (*q) {

    case '"':
        llmb_json_finish(js, js->offset + (uint64_t) (q + 1 - p));
        break;

    case '\\':
        js->state = LLMB_JSON_S_ESCAPE;
        break;

    default:
        llmb_json_utf8_lead(js, *q);
        break;
    }

    return (js->state == LLMB_JSON_S_STOPPED) ? q : q + 1;
}


/*
 * First byte of a character that is cut by the end of the piece or is not
 * valid; or a control character.
 */

static void
llmb_json_utf8_lead(llmb_json_t *js, unsigned char c)
{
    if (c < 0xc2 || c > 0xf4) {
        llmb_json_stop(js, LLMB_INVALID);
        return;
    }

    js->utf8_left = (c < 0xe0) ? 1 : (c < 0xf0) ? 2 : 3;

    /* neither overlong, nor a surrogate, nor above U+10FFFF */

    js->utf8_low = (c == 0xe0) ? 0xa0 : (c == 0xf0) ? 0x90 : 0x80;
    js->utf8_high = (c == 0xed) ? 0x9f : (c == 0xf4) ? 0x8f : 0xbf;

    llmb_json_keep(js, &c, 1);

    js->state = LLMB_JSON_S_UTF8;
}


/* One byte of an escape or of a cut character; returns 0 if not taken. */

size_t
llmb_json_byte(llmb_json_t *js, unsigned char c)
{
    switch (js->state) {

    case LLMB_JSON_S_UTF8:
        llmb_json_utf8_next(js, c);
        break;

    case LLMB_JSON_S_ESCAPE:
        llmb_json_escape(js, c);
        break;

    case LLMB_JSON_S_HEX:
        llmb_json_hex(js, c);
        break;

    case LLMB_JSON_S_LOW:

        if (c != '\\') {
            llmb_json_lone(js, LLMB_JSON_S_STRING);
            return 0;
        }

        js->state = LLMB_JSON_S_LOW_U;
        break;

    default: /* LLMB_JSON_S_LOW_U */

        if (c != 'u') {
            llmb_json_lone(js, LLMB_JSON_S_ESCAPE);
            return 0;
        }

        llmb_json_escape(js, c);
        break;
    }

    return (js->state == LLMB_JSON_S_STOPPED) ? 0 : 1;
}


static void
llmb_json_utf8_next(llmb_json_t *js, unsigned char c)
{
    if (c < js->utf8_low || c > js->utf8_high) {
        llmb_json_stop(js, LLMB_INVALID);
        return;
    }

    llmb_json_keep(js, &c, 1);

    js->utf8_low = 0x80;
    js->utf8_high = 0xbf;
    js->utf8_left--;

    if (js->utf8_left == 0) {
        js->state = LLMB_JSON_S_STRING;
    }
}


static void
llmb_json_escape(llmb_json_t *js, unsigned char c)
{
    switch (c) {

    case 'u':
        js->hex = 0;
        js->hex_left = 4;
        js->state = LLMB_JSON_S_HEX;
        return;

    case '"':
    case '\\':
    case '/':
        break;

    case 'b':
        c = 0x08;
        break;

    case 'f':
        c = 0x0c;
        break;

    case 'n':
        c = 0x0a;
        break;

    case 'r':
        c = 0x0d;
        break;

    case 't':
        c = 0x09;
        break;

    default:
        llmb_json_stop(js, LLMB_INVALID);
        return;
    }

    llmb_json_keep(js, &c, 1);

    js->state = LLMB_JSON_S_STRING;
}


static void
llmb_json_hex(llmb_json_t *js, unsigned char c)
{
    uint32_t       digit;
    unsigned char  lower;

    lower = (unsigned char) (c | 0x20);

    if (c >= '0' && c <= '9') {
        digit = (uint32_t) (c - '0');

    } else if (lower >= 'a' && lower <= 'f') {
        digit = (uint32_t) (lower - 'a') + 10;

    } else {
        llmb_json_stop(js, LLMB_INVALID);
        return;
    }

    js->hex = js->hex * 16 + digit;
    js->hex_left--;

    if (js->hex_left == 0) {
        llmb_json_unit(js, js->hex);
    }
}


/* A UTF-16 unit of a "\uXXXX"; js->surrogate is a high one before it. */

static void
llmb_json_unit(llmb_json_t *js, uint32_t unit)
{
    uint32_t  high;

    high = js->surrogate;
    js->surrogate = 0;
    js->state = LLMB_JSON_S_STRING;

    if (unit >= LLMB_JSON_SURROGATE_LOW && unit < LLMB_JSON_SURROGATE_END) {

        if (high != 0) {
            llmb_json_keep_code(js, 0x10000
                                + (high - LLMB_JSON_SURROGATE_HIGH) * 0x400
                                + (unit - LLMB_JSON_SURROGATE_LOW));
            return;
        }

        llmb_json_lone(js, LLMB_JSON_S_STRING);
        return;
    }

    if (high != 0) {
        llmb_json_lone(js, LLMB_JSON_S_STRING);

        if (js->state == LLMB_JSON_S_STOPPED) {
            return;
        }
    }

    if (unit >= LLMB_JSON_SURROGATE_HIGH && unit < LLMB_JSON_SURROGATE_LOW) {
        js->surrogate = unit;
        js->state = LLMB_JSON_S_LOW;
        return;
    }

    llmb_json_keep_code(js, unit);
}


/* A surrogate without its other half. */

static void
llmb_json_lone(llmb_json_t *js, unsigned state)
{
    if (!(js->flags & LLMB_JSON_LAX_TEXT)) {
        llmb_json_stop(js, LLMB_INVALID);
        return;
    }

    js->surrogate = 0;
    js->state = state;

    llmb_json_keep_code(js, LLMB_JSON_REPLACEMENT);
}


/* Skips what needs no decoding: stops at a quote, a backslash or trouble. */

static const unsigned char *
llmb_json_run(const unsigned char *p, const unsigned char *last,
    unsigned flags)
{
    const unsigned char  *q;

    if (flags & LLMB_JSON_LAX_TEXT) {
        return llmb_json_bytes(p, last);
    }

    for ( ;; ) {
        p = llmb_json_ascii(p, last);

        if (p == last || *p < 0x80) {
            return p;
        }

        q = llmb_json_utf8(p, last);

        if (q == p) {
            return p;
        }

        p = q;
    }
}


static const unsigned char *
llmb_json_ascii(const unsigned char *p, const unsigned char *last)
{
#if LLMB_JSON_SIMD

    int      mask;
    __m128i  quote, slash, space, x, bad;

    quote = _mm_set1_epi8('"');
    slash = _mm_set1_epi8('\\');
    space = _mm_set1_epi8(' ');

    while (last - p >= 16) {
        x = _mm_loadu_si128((const __m128i *) (const void *) p);

        /* signed: bytes from 0x80 are below a space as well */

        bad = _mm_or_si128(_mm_cmplt_epi8(x, space),
                           _mm_or_si128(_mm_cmpeq_epi8(x, quote),
                                        _mm_cmpeq_epi8(x, slash)));

        mask = _mm_movemask_epi8(bad);

        if (mask != 0) {
            return p + __builtin_ctz((unsigned) mask);
        }

        p += 16;
    }

#endif

    while (p < last && *p >= ' ' && *p < 0x80 && *p != '"' && *p != '\\') {
        p++;
    }

    return p;
}


/* The same, but all bytes from 0x80 pass. */

static const unsigned char *
llmb_json_bytes(const unsigned char *p, const unsigned char *last)
{
#if LLMB_JSON_SIMD

    int      mask;
    __m128i  quote, slash, control, x, bad;

    quote = _mm_set1_epi8('"');
    slash = _mm_set1_epi8('\\');
    control = _mm_set1_epi8(' ' - 1);

    while (last - p >= 16) {
        x = _mm_loadu_si128((const __m128i *) (const void *) p);

        bad = _mm_or_si128(_mm_cmpeq_epi8(_mm_max_epu8(x, control), control),
                           _mm_or_si128(_mm_cmpeq_epi8(x, quote),
                                        _mm_cmpeq_epi8(x, slash)));

        mask = _mm_movemask_epi8(bad);

        if (mask != 0) {
            return p + __builtin_ctz((unsigned) mask);
        }

        p += 16;
    }

#endif

    while (p < last && *p >= ' ' && *p != '"' && *p != '\\') {
        p++;
    }

    return p;
}


/*
 * Skips valid characters from U+0080 on, as long as four bytes are at hand;
 * what it does not take goes the slow way.
 */

static const unsigned char *
llmb_json_utf8(const unsigned char *p, const unsigned char *last)
{
    unsigned char  c;

    while (last - p >= 4) {
        c = p[0];

        if (c < 0xc2 || c > 0xf4) {
            return p;
        }

        if ((p[1] & 0xc0) != 0x80) {
            return p;
        }

        if (c < 0xe0) {
            p += 2;
            continue;
        }

        if ((p[2] & 0xc0) != 0x80
            || (c == 0xe0 && p[1] < 0xa0)
            || (c == 0xed && p[1] > 0x9f))
        {
            return p;
        }

        if (c < 0xf0) {
            p += 3;
            continue;
        }

        if ((p[3] & 0xc0) != 0x80
            || (c == 0xf0 && p[1] < 0x90)
            || (c == 0xf4 && p[1] > 0x8f))
        {
            return p;
        }

        p += 4;
    }

    return p;
}


void
llmb_json_keep(llmb_json_t *js, const unsigned char *p, size_t len)
{
    size_t  room;

    js->token.text_len += len;

    room = LLMB_JSON_TEXT - js->token.text.len;

    if (room == 0) {
        return;
    }

    if (len > room) {
        len = room;
    }

    memcpy(js->text + js->token.text.len, p, len);
    js->token.text.len += len;
}


static void
llmb_json_keep_code(llmb_json_t *js, uint32_t code)
{
    size_t         n;
    unsigned char  buf[4];

    if (code < 0x80) {
        buf[0] = (unsigned char) code;
        n = 1;

    } else if (code < 0x800) {
        buf[0] = (unsigned char) (0xc0 | (code >> 6));
        buf[1] = (unsigned char) (0x80 | (code & 0x3f));
        n = 2;

    } else if (code < 0x10000) {
        buf[0] = (unsigned char) (0xe0 | (code >> 12));
        buf[1] = (unsigned char) (0x80 | ((code >> 6) & 0x3f));
        buf[2] = (unsigned char) (0x80 | (code & 0x3f));
        n = 3;

    } else {
        buf[0] = (unsigned char) (0xf0 | (code >> 18));
        buf[1] = (unsigned char) (0x80 | ((code >> 12) & 0x3f));
        buf[2] = (unsigned char) (0x80 | ((code >> 6) & 0x3f));
        buf[3] = (unsigned char) (0x80 | (code & 0x3f));
        n = 4;
    }

    llmb_json_keep(js, buf, n);
}
