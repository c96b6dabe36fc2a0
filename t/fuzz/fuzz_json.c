
/*
 * Copyright (C) the ngx_http_llm_budget_module authors
 *
 * Fuzz target of the JSON scanner: a document fed whole, in pieces chosen by
 * the input and byte by byte gives the same tokens, result and offset; and a
 * plain checker of whole documents agrees on what is accepted.  Built with
 * -DLLMB_WITH_JANSSON, jansson has to agree as well.
 *
 * The first byte chooses the mode and the depth, the second one the pieces.
 */


#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/llmb_json.h"

#if defined(LLMB_WITH_JANSSON)
#include <jansson.h>
#endif


#define FUZZ_MAX  8192


/* tokens in a digest, and what must hold from one to the next */

typedef struct {
    uint64_t                digest;
    uint64_t                end;
    uint64_t                count;
    unsigned                depth;
    llmb_rc_e               rc;
    uint64_t                offset;
    unsigned                flags;
    unsigned                max_depth;
} fuzz_log_t;


int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void fuzz_pieces(fuzz_log_t *log, const uint8_t *data, size_t size,
    unsigned seed);
static void fuzz_feed(llmb_json_t *js, const uint8_t *data, size_t size);
static llmb_rc_e fuzz_token(void *data, const llmb_json_token_t *token);
static void fuzz_digest(fuzz_log_t *log, const void *p, size_t len);
static void fuzz_same(const fuzz_log_t *a, const fuzz_log_t *b,
    const char *what);
static int fuzz_plain(const uint8_t *p, size_t size, size_t max_depth);
static const uint8_t *fuzz_plain_space(const uint8_t *p, const uint8_t *last);
static const uint8_t *fuzz_plain_scalar(const uint8_t *p,
    const uint8_t *last);
static const uint8_t *fuzz_plain_digits(const uint8_t *p,
    const uint8_t *last);
static const uint8_t *fuzz_plain_number(const uint8_t *p,
    const uint8_t *last);
static const uint8_t *fuzz_plain_string(const uint8_t *p,
    const uint8_t *last);
static const uint8_t *fuzz_plain_escape(const uint8_t *p,
    const uint8_t *last);
static int fuzz_plain_hex(const uint8_t *p, const uint8_t *last);
static const uint8_t *fuzz_plain_code(const uint8_t *p, const uint8_t *last);
static void fuzz_jansson(const uint8_t *data, size_t size, llmb_rc_e rc);
static void fuzz_check(int pass, const char *what);


int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    int         plain;
    unsigned    seed;
    fuzz_log_t  whole, parts;

    if (size < 2 || size > FUZZ_MAX) {
        return 0;
    }

    memset(&whole, 0, sizeof(fuzz_log_t));
    whole.flags = (data[0] & 1) ? LLMB_JSON_LAX_TEXT : 0;
    whole.max_depth = data[0] >> 1;
    parts = whole;

    /* 0 is whole, 1 is byte by byte, others are pieces of changing size */

    seed = 2 + data[1];
    data += 2;
    size -= 2;

    fuzz_pieces(&whole, data, size, 0);

    fuzz_pieces(&parts, data, size, 1);
    fuzz_same(&whole, &parts, "byte by byte");

    fuzz_pieces(&parts, data, size, seed);
    fuzz_same(&whole, &parts, "pieces");

    fuzz_check(whole.offset <= size, "offset outside");
    fuzz_check(whole.rc != LLMB_OK || whole.offset == size, "not all taken");

    plain = fuzz_plain(data, size, whole.max_depth);

    if (whole.flags == 0) {
        fuzz_check((whole.rc == LLMB_OK) == plain,
                   "the plain checker differs");
        fuzz_jansson(data, size, whole.rc);

    } else {
        fuzz_check(!plain || whole.rc == LLMB_OK, "lax refuses strict");
    }

    return 0;
}


static void
fuzz_pieces(fuzz_log_t *log, const uint8_t *data, size_t size, unsigned seed)
{
    size_t       n;
    llmb_json_t  js;

    log->digest = UINT64_C(14695981039346656037);
    log->end = 0;
    log->count = 0;
    log->depth = 0;

    memset(&js, 0xa5, sizeof(llmb_json_t));
    llmb_json_init(&js, log->flags, log->max_depth, fuzz_token, log);

    while (size != 0) {
        n = size;

        if (seed == 1) {
            n = 1;

        } else if (seed != 0) {
            seed = (seed * 1103515245 + 12345) | 2;
            n = 1 + (seed >> 16) % 23;
        }

        if (n > size) {
            n = size;
        }

        fuzz_feed(&js, data, n);

        data += n;
        size -= n;
    }

    log->rc = llmb_json_end(&js);
    log->offset = js.offset;

    fuzz_check(js.rc == log->rc && llmb_json_end(&js) == log->rc,
               "the result does not stay");
    fuzz_check(log->rc == LLMB_OK || log->rc == LLMB_INVALID
               || log->rc == LLMB_LIMIT, "result of no kind");
    fuzz_check(log->rc != LLMB_OK || log->depth == 0, "open at the end");
}


/* Each piece has its own memory, so that a sanitizer sees a step outside. */

static void
fuzz_feed(llmb_json_t *js, const uint8_t *data, size_t size)
{
    uint64_t        offset;
    llmb_rc_e       rc;
    unsigned char  *copy;

    copy = malloc(size);

    if (copy == NULL) {
        abort();
    }

    memcpy(copy, data, size);

    rc = js->rc;
    offset = js->offset;

    if (rc == LLMB_INVALID || rc == LLMB_LIMIT) {
        fuzz_check(llmb_json_feed(js, copy, size) == rc
                   && js->offset == offset, "a failure does not stay");

    } else {
        rc = llmb_json_feed(js, copy, size);

        fuzz_check(rc == LLMB_INVALID || rc == LLMB_LIMIT
                   || js->offset == offset + size, "not all taken");
    }

    free(copy);
}


static llmb_rc_e
fuzz_token(void *data, const llmb_json_token_t *token)
{
    fuzz_log_t *log = data;

    int64_t    n;
    llmb_rc_e  rc;

    if (token->type == LLMB_JSON_OBJECT_END
        || token->type == LLMB_JSON_ARRAY_END)
    {
        log->depth--;
    }

    fuzz_check(token->depth == log->depth && token->depth <= log->max_depth,
               "wrong depth");
    fuzz_check(token->start >= log->end && token->end > token->start,
               "tokens overlap");
    fuzz_check(token->text.len <= LLMB_JSON_TEXT
               && token->text.len <= token->text_len
               && (token->text.len == token->text_len
                   || token->text.len == LLMB_JSON_TEXT),
               "wrong length of text");

    if (token->type == LLMB_JSON_OBJECT || token->type == LLMB_JSON_ARRAY) {
        log->depth++;
    }

    if (token->type == LLMB_JSON_NUMBER) {
        n = 0;
        rc = llmb_json_int(token, &n);

        fuzz_check(token->text_len == token->end - token->start,
                   "a number is not its text");
        fuzz_digest(log, &rc, sizeof(llmb_rc_e));
        fuzz_digest(log, &n, sizeof(int64_t));
    }

    log->count++;
    log->end = token->end;

    fuzz_digest(log, &token->type, sizeof(llmb_json_type_e));
    fuzz_digest(log, &token->depth, sizeof(unsigned));
    fuzz_digest(log, &token->start, sizeof(uint64_t));
    fuzz_digest(log, &token->end, sizeof(uint64_t));
    fuzz_digest(log, &token->text_len, sizeof(uint64_t));
    fuzz_digest(log, token->text.data, token->text.len);

    return LLMB_OK;
}


static void
fuzz_digest(fuzz_log_t *log, const void *p, size_t len)
{
    size_t          i;
    const uint8_t  *bytes;

    bytes = p;

    for (i = 0; i < len; i++) {
        log->digest = (log->digest ^ bytes[i]) * UINT64_C(1099511628211);
    }
}


static void
fuzz_same(const fuzz_log_t *a, const fuzz_log_t *b, const char *what)
{
    fuzz_check(a->digest == b->digest && a->count == b->count
               && a->end == b->end && a->depth == b->depth && a->rc == b->rc
               && a->offset == b->offset, what);
}


/*
 * The plain checker: the whole document at hand, a stack of brackets, and
 * for each part a function that returns its end or NULL.  Brackets, commas
 * and colons are judged by the mark before them.
 */

static int
fuzz_plain(const uint8_t *p, size_t size, size_t max_depth)
{
    size_t          depth;
    uint8_t         c, before;
    const uint8_t  *last;

    static uint8_t  stack[FUZZ_MAX];

    last = p + size;
    depth = 0;
    before = 'S';       /* S start, V value, K key, else the mark itself */

    for ( ;; ) {
        p = fuzz_plain_space(p, last);

        if (p == last) {
            return before == 'V' && depth == 0;
        }

        c = *p;

        if (before == 'V' && depth == 0) {
            return 0;
        }

        if (c == '}' || c == ']') {

            if (depth == 0 || stack[depth - 1] != (c == '}' ? '{' : '[')
                || (before != 'V' && before != stack[depth - 1]))
            {
                return 0;
            }

            depth--;
            before = 'V';
            p++;
            continue;
        }

        if (c == ',' || c == ':') {

            if (before != (c == ',' ? 'V' : 'K')) {
                return 0;
            }

            before = c;
            p++;
            continue;
        }

        if (before == 'V' || before == 'K') {
            return 0;
        }

        if (depth > 0 && stack[depth - 1] == '{' && before != ':') {
            p = (c == '"') ? fuzz_plain_string(p, last) : NULL;
            before = 'K';

        } else if (c == '{' || c == '[') {

            if (depth == max_depth) {
                return 0;
            }

            stack[depth++] = c;
            before = c;
            p++;

        } else {
            p = fuzz_plain_scalar(p, last);
            before = 'V';
        }

        if (p == NULL) {
            return 0;
        }
    }
}


static const uint8_t *
fuzz_plain_space(const uint8_t *p, const uint8_t *last)
{
    while (p < last && (*p == 0x20 || *p == 0x09 || *p == 0x0a
                        || *p == 0x0d))
    {
        p++;
    }

    return p;
}


static const uint8_t *
fuzz_plain_scalar(const uint8_t *p, const uint8_t *last)
{
    if (last - p >= 4 && memcmp(p, "true", 4) == 0) {
        return p + 4;
    }

    if (last - p >= 4 && memcmp(p, "null", 4) == 0) {
        return p + 4;
    }

    if (last - p >= 5 && memcmp(p, "false", 5) == 0) {
        return p + 5;
    }

    if (*p == '"') {
        return fuzz_plain_string(p, last);
    }

    return fuzz_plain_number(p, last);
}


static const uint8_t *
fuzz_plain_digits(const uint8_t *p, const uint8_t *last)
{
    const uint8_t  *start;

    start = p;

    while (p < last && *p >= '0' && *p <= '9') {
        p++;
    }

    return (p == start) ? NULL : p;
}


static const uint8_t *
fuzz_plain_number(const uint8_t *p, const uint8_t *last)
{
    const uint8_t  *start;

    if (*p == '-') {
        p++;
    }

    start = p;
    p = fuzz_plain_digits(p, last);

    if (p == NULL || (*start == '0' && p - start > 1)) {
        return NULL;
    }

    if (p < last && *p == '.') {
        p = fuzz_plain_digits(p + 1, last);
    }

    if (p != NULL && p < last && (*p == 'e' || *p == 'E')) {
        p++;

        if (p < last && (*p == '+' || *p == '-')) {
            p++;
        }

        p = fuzz_plain_digits(p, last);
    }

    return p;
}


static const uint8_t *
fuzz_plain_string(const uint8_t *p, const uint8_t *last)
{
    for (p++; p != NULL && p < last; /* void */) {

        if (*p == '"') {
            return p + 1;
        }

        if (*p == '\\') {
            p = fuzz_plain_escape(p, last);

        } else {
            p = fuzz_plain_code(p, last);
        }
    }

    return NULL;
}


static const uint8_t *
fuzz_plain_escape(const uint8_t *p, const uint8_t *last)
{
    int  unit;

    if (last - p < 2) {
        return NULL;
    }

    if (p[1] != 'u') {
        return (p[1] != 0 && strchr("\"\\/bfnrt", p[1])) ? p + 2 : NULL;
    }

    unit = fuzz_plain_hex(p, last);

    if (unit >= 0xd800 && unit <= 0xdbff) {
        p += 6;
        unit = fuzz_plain_hex(p, last);

        return (unit >= 0xdc00 && unit <= 0xdfff) ? p + 6 : NULL;
    }

    return (unit < 0 || (unit >= 0xdc00 && unit <= 0xdfff)) ? NULL : p + 6;
}


static int
fuzz_plain_hex(const uint8_t *p, const uint8_t *last)
{
    int          i, unit;
    const char  *at;

    static const char  digits[] = "0123456789abcdefABCDEF";

    if (last - p < 6 || p[0] != '\\' || p[1] != 'u') {
        return -1;
    }

    unit = 0;

    for (i = 2; i < 6; i++) {
        at = (p[i] != 0) ? strchr(digits, p[i]) : NULL;

        if (at == NULL) {
            return -1;
        }

        unit = unit * 16 + (int) (at - digits) - (at - digits > 15 ? 6 : 0);
    }

    return unit;
}


/* A character, decoded and then judged by its number. */

static const uint8_t *
fuzz_plain_code(const uint8_t *p, const uint8_t *last)
{
    long  code, i, n;

    static const long  least[] = { 0x20, 0x80, 0x800, 0x10000 };

    n = (*p < 0x80) ? 0 : ((*p & 0xe0) == 0xc0) ? 1 : ((*p & 0xf0) == 0xe0) ? 2
        : ((*p & 0xf8) == 0xf0) ? 3 : -1;

    if (n == -1 || last - p <= n) {
        return NULL;
    }

    code = (n == 0) ? *p : *p & (0x3f >> n);

    for (i = 1; i <= n; i++) {

        if ((p[i] & 0xc0) != 0x80) {
            return NULL;
        }

        code = code * 64 + (p[i] & 0x3f);
    }

    if (code < least[n] || code > 0x10ffff
        || (code >= 0xd800 && code <= 0xdfff))
    {
        return NULL;
    }

    return p + n + 1;
}


/*
 * jansson accepts what we accept, but numbers that do not fit its types and
 * NULs in keys; and we accept what it accepts, but what is too deep and a NUL
 * after a top-level number.
 */

static void
fuzz_jansson(const uint8_t *data, size_t size, llmb_rc_e rc)
{
#if defined(LLMB_WITH_JANSSON)

    json_t        *root;
    json_error_t   error;

    root = json_loadb((const char *) data, size,
                      JSON_DECODE_ANY|JSON_ALLOW_NUL, &error);

    if (root != NULL) {
        json_decref(root);
        fuzz_check(rc == LLMB_OK || rc == LLMB_LIMIT
                   || memchr(data, 0, size) != NULL,
                   "jansson accepts what we refuse");
        return;
    }

    fuzz_check(rc != LLMB_OK || strstr(error.text, "too big") != NULL
               || strstr(error.text, "real number overflow") != NULL
               || strstr(error.text, "NUL byte in object key") != NULL,
               "jansson refuses what we accept");

#else

    (void) data;
    (void) size;
    (void) rc;

#endif
}


static void
fuzz_check(int pass, const char *what)
{
    if (!pass) {
        fprintf(stderr, "fuzz_json: %s\n", what);
        abort();
    }
}
