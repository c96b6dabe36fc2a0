
/*
 * Copyright (C) the ngx_http_llm_budget_module authors
 *
 * The JSON scanner.  Each step takes what it can of the piece at hand and
 * returns the first byte it did not take; js->offset always stands at the
 * first byte of a step, so a refused byte is where the step stopped.  Here is
 * the structure, and the tokens that are words.
 */


#include "core/llmb_json_state.h"

#include <string.h>


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
static llmb_rc_e llmb_json_emit(llmb_json_t *js, uint64_t end);


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


/* A key or a value is complete. */

void
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


void
llmb_json_stop(llmb_json_t *js, llmb_rc_e rc)
{
    js->state = LLMB_JSON_S_STOPPED;
    js->rc = rc;
}
