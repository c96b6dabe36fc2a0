
/*
 * Copyright (C) the ngx_http_llm_budget_module authors
 *
 * The JSON scanner.  Each step takes what it can of the piece at hand and
 * returns the first byte it did not take; js->offset always stands at the
 * first byte of a step, so a refused byte is where the step stopped.  The
 * bulk of strings goes through a search for the next special byte, 16 at a
 * time where SSE2 is at hand.
 */


#include <string.h>

#include "core/llmb_json.h"

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

/* bounds an exponent, far above what a kept literal can make an int64_t of */
#define LLMB_JSON_EXPONENT_MAX    100000


/* up to DONE: between tokens; from MINUS: inside a number, ZERO ends one */

typedef enum {
    LLMB_JSON_S_VALUE = 0,
    LLMB_JSON_S_FIRST_VALUE,    /* or "]" */
    LLMB_JSON_S_KEY,
    LLMB_JSON_S_FIRST_KEY,      /* or "}" */
    LLMB_JSON_S_COLON,
    LLMB_JSON_S_NEXT,           /* "," or the end of the container */
    LLMB_JSON_S_DONE,
    LLMB_JSON_S_STOPPED,
    LLMB_JSON_S_STRING,
    LLMB_JSON_S_UTF8,           /* utf8_left more bytes of a character */
    LLMB_JSON_S_ESCAPE,
    LLMB_JSON_S_HEX,
    LLMB_JSON_S_LOW,            /* "\" of a low surrogate */
    LLMB_JSON_S_LOW_U,          /* and its "u" */
    LLMB_JSON_S_LITERAL,
    LLMB_JSON_S_MINUS,
    LLMB_JSON_S_POINT,
    LLMB_JSON_S_E,
    LLMB_JSON_S_E_SIGN,
    LLMB_JSON_S_ZERO,
    LLMB_JSON_S_INT,
    LLMB_JSON_S_FRACTION,
    LLMB_JSON_S_EXPONENT
} llmb_json_state_e;


static long llmb_json_int_exponent(const unsigned char *p,
    const unsigned char *last);
static llmb_rc_e llmb_json_int_value(const unsigned char *p, long used,
    long point, int negative, int64_t *n);
static const unsigned char *llmb_json_step(llmb_json_t *js,
    const unsigned char *p, const unsigned char *last);
static const unsigned char *llmb_json_structure(llmb_json_t *js,
    const unsigned char *p, const unsigned char *last);
static void llmb_json_mark(llmb_json_t *js, unsigned char c);
static void llmb_json_value(llmb_json_t *js, unsigned char c);
static void llmb_json_begin(llmb_json_t *js, llmb_json_type_e type,
    unsigned state);
static void llmb_json_open(llmb_json_t *js, llmb_json_type_e type);
static void llmb_json_close(llmb_json_t *js, llmb_json_type_e type);
static unsigned llmb_json_in_object(const llmb_json_t *js);
static const unsigned char *llmb_json_literal(llmb_json_t *js,
    const unsigned char *p, const unsigned char *last);
static const unsigned char *llmb_json_number(llmb_json_t *js,
    const unsigned char *p, const unsigned char *last);
static unsigned llmb_json_number_next(unsigned state, unsigned char c);
static const unsigned char *llmb_json_string(llmb_json_t *js,
    const unsigned char *p, const unsigned char *last);
static void llmb_json_utf8_lead(llmb_json_t *js, unsigned char c);
static size_t llmb_json_byte(llmb_json_t *js, unsigned char c);
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
static void llmb_json_keep(llmb_json_t *js, const unsigned char *p,
    size_t len);
static void llmb_json_keep_code(llmb_json_t *js, uint32_t code);
static void llmb_json_finish(llmb_json_t *js, uint64_t end);
static llmb_rc_e llmb_json_emit(llmb_json_t *js, uint64_t end);
static void llmb_json_stop(llmb_json_t *js, llmb_rc_e rc);


void
llmb_json_init(llmb_json_t *js, unsigned flags, unsigned max_depth,
    llmb_json_handler_pt handler, void *data)
{
    memset(js, 0, offsetof(llmb_json_t, text));

    js->handler = handler;
    js->data = data;
    js->rc = LLMB_AGAIN;
    js->flags = flags;
    js->max_depth = (max_depth < LLMB_ANSWER_DEPTH) ? max_depth
                                                    : LLMB_ANSWER_DEPTH;
    js->state = LLMB_JSON_S_VALUE;
}


llmb_rc_e
llmb_json_feed(llmb_json_t *js, const unsigned char *p, size_t len)
{
    const unsigned char  *q, *last;

    if (len == 0) {
        return js->rc;
    }

    last = p + len;

    while (p < last && js->state != LLMB_JSON_S_STOPPED) {
        q = llmb_json_step(js, p, last);

        js->offset += (uint64_t) (q - p);
        p = q;
    }

    return js->rc;
}


llmb_rc_e
llmb_json_end(llmb_json_t *js)
{
    if (js->state == LLMB_JSON_S_STOPPED) {
        return js->rc;
    }

    if (js->depth == 0 && js->state >= LLMB_JSON_S_ZERO) {
        llmb_json_finish(js, js->offset);

    } else if (js->state != LLMB_JSON_S_DONE) {
        llmb_json_stop(js, LLMB_INVALID);
    }

    return js->rc;
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


static const unsigned char *
llmb_json_step(llmb_json_t *js, const unsigned char *p,
    const unsigned char *last)
{
    if (js->state <= LLMB_JSON_S_DONE) {
        return llmb_json_structure(js, p, last);
    }

    if (js->state == LLMB_JSON_S_STRING) {
        return llmb_json_string(js, p, last);
    }

    if (js->state == LLMB_JSON_S_LITERAL) {
        return llmb_json_literal(js, p, last);
    }

    if (js->state >= LLMB_JSON_S_MINUS) {
        return llmb_json_number(js, p, last);
    }

    return p + llmb_json_byte(js, *p);
}


/* White space and marks, up to a token that is longer than a byte. */

static const unsigned char *
llmb_json_structure(llmb_json_t *js, const unsigned char *p,
    const unsigned char *last)
{
    unsigned char         c;
    const unsigned char  *q;

    for (q = p; q < last; q++) {
        c = *q;

        if (c == ' ' || c == '\n' || c == '\r' || c == '\t') {
            continue;
        }

        js->token.start = js->offset + (uint64_t) (q - p);

        llmb_json_mark(js, c);

        if (js->state == LLMB_JSON_S_STOPPED) {
            return q;
        }

        if (js->state > LLMB_JSON_S_DONE) {
            return q + 1;
        }
    }

    return q;
}


static void
llmb_json_mark(llmb_json_t *js, unsigned char c)
{
    switch (js->state) {

    case LLMB_JSON_S_VALUE:
    case LLMB_JSON_S_FIRST_VALUE:

        if (c == ']' && js->state == LLMB_JSON_S_FIRST_VALUE) {
            llmb_json_close(js, LLMB_JSON_ARRAY_END);
            return;
        }

        llmb_json_value(js, c);
        return;

    case LLMB_JSON_S_KEY:
    case LLMB_JSON_S_FIRST_KEY:

        if (c == '"') {
            llmb_json_begin(js, LLMB_JSON_KEY, LLMB_JSON_S_STRING);
            return;
        }

        if (c == '}' && js->state == LLMB_JSON_S_FIRST_KEY) {
            llmb_json_close(js, LLMB_JSON_OBJECT_END);
            return;
        }

        break;

    case LLMB_JSON_S_COLON:

        if (c == ':') {
            js->state = LLMB_JSON_S_VALUE;
            return;
        }

        break;

    case LLMB_JSON_S_NEXT:

        if (c == ',') {
            js->state = llmb_json_in_object(js) ? LLMB_JSON_S_KEY
                                                : LLMB_JSON_S_VALUE;
            return;
        }

        if (c == '}' && llmb_json_in_object(js)) {
            llmb_json_close(js, LLMB_JSON_OBJECT_END);
            return;
        }

        if (c == ']' && !llmb_json_in_object(js)) {
            llmb_json_close(js, LLMB_JSON_ARRAY_END);
            return;
        }

        break;

    default: /* LLMB_JSON_S_DONE */
        break;
    }

    llmb_json_stop(js, LLMB_INVALID);
}


static void
llmb_json_value(llmb_json_t *js, unsigned char c)
{
    switch (c) {

    case '"':
        llmb_json_begin(js, LLMB_JSON_STRING, LLMB_JSON_S_STRING);
        return;

    case '{':
        llmb_json_open(js, LLMB_JSON_OBJECT);
        return;

    case '[':
        llmb_json_open(js, LLMB_JSON_ARRAY);
        return;

    case 't':
        llmb_json_begin(js, LLMB_JSON_TRUE, LLMB_JSON_S_LITERAL);
        return;

    case 'f':
        llmb_json_begin(js, LLMB_JSON_FALSE, LLMB_JSON_S_LITERAL);
        return;

    case 'n':
        llmb_json_begin(js, LLMB_JSON_NULL, LLMB_JSON_S_LITERAL);
        return;

    case '-':
        llmb_json_begin(js, LLMB_JSON_NUMBER, LLMB_JSON_S_MINUS);
        llmb_json_keep(js, &c, 1);
        return;

    default:

        if (c < '0' || c > '9') {
            llmb_json_stop(js, LLMB_INVALID);
            return;
        }

        llmb_json_begin(js, LLMB_JSON_NUMBER,
                        (c == '0') ? LLMB_JSON_S_ZERO : LLMB_JSON_S_INT);
        llmb_json_keep(js, &c, 1);
        return;
    }
}


static void
llmb_json_begin(llmb_json_t *js, llmb_json_type_e type, unsigned state)
{
    js->token.type = type;
    js->token.text.len = 0;
    js->token.text_len = 0;
    js->literal = 1;
    js->state = state;
}


static void
llmb_json_open(llmb_json_t *js, llmb_json_type_e type)
{
    uint64_t  bit, *word;

    if (js->depth == js->max_depth) {
        llmb_json_stop(js, LLMB_LIMIT);
        return;
    }

    llmb_json_begin(js, type, LLMB_JSON_S_VALUE);

    if (llmb_json_emit(js, js->token.start + 1) != LLMB_OK) {
        return;
    }

    word = &js->stack[js->depth / 64];
    bit = UINT64_C(1) << (js->depth % 64);

    js->depth++;

    if (type == LLMB_JSON_OBJECT) {
        *word |= bit;
        js->state = LLMB_JSON_S_FIRST_KEY;

    } else {
        *word &= ~bit;
        js->state = LLMB_JSON_S_FIRST_VALUE;
    }
}


static void
llmb_json_close(llmb_json_t *js, llmb_json_type_e type)
{
    js->depth--;

    llmb_json_begin(js, type, LLMB_JSON_S_NEXT);
    llmb_json_finish(js, js->token.start + 1);
}


/* Is the innermost container an object?  There is one: depth > 0. */

static unsigned
llmb_json_in_object(const llmb_json_t *js)
{
    unsigned  top;

    top = js->depth - 1;

    return (unsigned) (js->stack[top / 64] >> (top % 64)) & 1;
}


static const unsigned char *
llmb_json_literal(llmb_json_t *js, const unsigned char *p,
    const unsigned char *last)
{
    const char           *word;
    const unsigned char  *q;

    word = (js->token.type == LLMB_JSON_TRUE) ? "true"
           : (js->token.type == LLMB_JSON_FALSE) ? "false" : "null";

    for (q = p; q < last; q++) {

        if (*q != (unsigned char) word[js->literal]) {
            llmb_json_stop(js, LLMB_INVALID);
            return q;
        }

        js->literal++;

        if (word[js->literal] == '\0') {
            llmb_json_finish(js, js->offset + (uint64_t) (q + 1 - p));
            return (js->state == LLMB_JSON_S_STOPPED) ? q : q + 1;
        }
    }

    return q;
}


static const unsigned char *
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


static const unsigned char *
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

static size_t
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


static void
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


/* A key or a value is complete. */

static void
llmb_json_finish(llmb_json_t *js, uint64_t end)
{
    if (llmb_json_emit(js, end) != LLMB_OK) {
        return;
    }

    if (js->token.type == LLMB_JSON_KEY) {
        js->state = LLMB_JSON_S_COLON;

    } else if (js->depth > 0) {
        js->state = LLMB_JSON_S_NEXT;

    } else {
        js->state = LLMB_JSON_S_DONE;
        js->rc = LLMB_OK;
    }
}


/* A handler that refuses stops the scanner. */

static llmb_rc_e
llmb_json_emit(llmb_json_t *js, uint64_t end)
{
    llmb_rc_e  rc;

    js->token.depth = js->depth;
    js->token.end = end;
    js->token.text.data = js->text;

    rc = js->handler(js->data, &js->token);

    if (rc != LLMB_OK) {
        llmb_json_stop(js, rc);
    }

    return rc;
}


static void
llmb_json_stop(llmb_json_t *js, llmb_rc_e rc)
{
    js->state = LLMB_JSON_S_STOPPED;
    js->rc = rc;
}
