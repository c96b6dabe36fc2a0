
/*
 * Copyright (C) the ngx_http_llm_budget_module authors
 *
 * The frame of a Redis server's replies, followed byte by byte: how long they
 * are, how many elements they have and how deep these nest is bounded here,
 * since hiredis allocates what a length says and its versions differ in what
 * they refuse.  Whether the parts are valid is left to hiredis.
 */


#include "http/ngx_http_llm_budget_redis_conn_int.h"


enum {
    sw_type = 0,
    sw_line,
    sw_line_lf,
    sw_first,       /* of a length */
    sw_digits,
    sw_minus,
    sw_nil,
    sw_nil_lf,
    sw_digits_lf,
    sw_bulk,
    sw_bulk_cr,
    sw_bulk_lf
};


static ngx_int_t ngx_http_llm_budget_redis_scan_byte(
    ngx_http_llm_budget_redis_scan_t *s, u_char ch);
static ngx_int_t ngx_http_llm_budget_redis_scan_type(
    ngx_http_llm_budget_redis_scan_t *s, u_char ch);
static ngx_int_t ngx_http_llm_budget_redis_scan_digit(
    ngx_http_llm_budget_redis_scan_t *s, u_char ch);
static ngx_int_t ngx_http_llm_budget_redis_scan_length(
    ngx_http_llm_budget_redis_scan_t *s);
static ngx_int_t ngx_http_llm_budget_redis_scan_next(
    ngx_http_llm_budget_redis_scan_t *s);
static ngx_int_t ngx_http_llm_budget_redis_scan_large(
    ngx_http_llm_budget_redis_scan_t *s);


size_t
ngx_http_llm_budget_redis_scan(ngx_http_llm_budget_redis_scan_t *s, u_char *p,
    size_t len)
{
    size_t  i, n;

    i = 0;

    while (i < len) {

        n = 1;

        if (s->state == sw_bulk) {
            n = ngx_min(s->number, len - i);
        }

        if (n > NGX_HTTP_LLM_BUDGET_REPLY_MAX - s->bytes) {
            (void) ngx_http_llm_budget_redis_scan_large(s);
            break;
        }

        s->bytes += n;

        if (s->state == sw_bulk) {
            s->number -= n;

            if (s->number == 0) {
                s->state = sw_bulk_cr;
            }

        } else if (ngx_http_llm_budget_redis_scan_byte(s, p[i]) != NGX_OK) {

            if (s->error == NULL) {
                s->error = "what it answers is not the Redis protocol";
            }

            break;
        }

        i += n;
    }

    return i;
}


static ngx_int_t
ngx_http_llm_budget_redis_scan_byte(ngx_http_llm_budget_redis_scan_t *s,
    u_char ch)
{
    switch (s->state) {

    case sw_type:
        return ngx_http_llm_budget_redis_scan_type(s, ch);

    case sw_line:
    case sw_line_lf:
        if (ch == LF && s->state == sw_line_lf) {
            return ngx_http_llm_budget_redis_scan_next(s);
        }

        s->state = (ch == CR) ? sw_line_lf : sw_line;
        return NGX_OK;

    case sw_first:
        s->number = 0;

        if (ch == '-') {
            s->state = sw_minus;
            return NGX_OK;
        }

        s->state = sw_digits;
        return ngx_http_llm_budget_redis_scan_digit(s, ch);

    case sw_digits:
        if (ch == CR) {
            s->state = sw_digits_lf;
            return NGX_OK;
        }

        return ngx_http_llm_budget_redis_scan_digit(s, ch);

    case sw_digits_lf:
        return (ch == LF) ? ngx_http_llm_budget_redis_scan_length(s)
                          : NGX_ERROR;

    case sw_minus:
        s->state = sw_nil;
        return (ch == '1') ? NGX_OK : NGX_ERROR;

    case sw_nil:
        s->state = sw_nil_lf;
        return (ch == CR) ? NGX_OK : NGX_ERROR;

    case sw_bulk_cr:
        s->state = sw_bulk_lf;
        return (ch == CR) ? NGX_OK : NGX_ERROR;

    default: /* sw_nil_lf, sw_bulk_lf */
        return (ch == LF) ? ngx_http_llm_budget_redis_scan_next(s)
                          : NGX_ERROR;
    }
}


static ngx_int_t
ngx_http_llm_budget_redis_scan_type(ngx_http_llm_budget_redis_scan_t *s,
    u_char ch)
{
    s->type = ch;

    switch (ch) {

    case '+':
    case '-':
    case ':':
        s->state = sw_line;
        return NGX_OK;

    case '$':
    case '*':
        s->state = sw_first;
        return NGX_OK;

    default:
        return NGX_ERROR;
    }
}


static ngx_int_t
ngx_http_llm_budget_redis_scan_digit(ngx_http_llm_budget_redis_scan_t *s,
    u_char ch)
{
    if (ch < '0' || ch > '9') {
        return NGX_ERROR;
    }

    s->number = s->number * 10 + (ch - '0');

    if (s->number > NGX_HTTP_LLM_BUDGET_REPLY_MAX) {
        return ngx_http_llm_budget_redis_scan_large(s);
    }

    return NGX_OK;
}


static ngx_int_t
ngx_http_llm_budget_redis_scan_length(ngx_http_llm_budget_redis_scan_t *s)
{
    if (s->type == '$') {
        s->state = s->number ? sw_bulk : sw_bulk_cr;
        return NGX_OK;
    }

    if (s->number == 0) {
        return ngx_http_llm_budget_redis_scan_next(s);
    }

    s->items += s->number;

    if (s->items > NGX_HTTP_LLM_BUDGET_REPLY_ITEMS
        || s->depth == NGX_HTTP_LLM_BUDGET_REPLY_DEPTH)
    {
        return ngx_http_llm_budget_redis_scan_large(s);
    }

    s->left[s->depth++] = s->number;
    s->state = sw_type;

    return NGX_OK;
}


/* an element is complete, and the arrays that it was the last of */

static ngx_int_t
ngx_http_llm_budget_redis_scan_next(ngx_http_llm_budget_redis_scan_t *s)
{
    s->state = sw_type;

    while (s->depth) {

        if (--s->left[s->depth - 1]) {
            return NGX_OK;
        }

        s->depth--;
    }

    s->bytes = 0;
    s->items = 0;

    return NGX_OK;
}


static ngx_int_t
ngx_http_llm_budget_redis_scan_large(ngx_http_llm_budget_redis_scan_t *s)
{
    s->error = "a reply is too large";

    return NGX_ERROR;
}
