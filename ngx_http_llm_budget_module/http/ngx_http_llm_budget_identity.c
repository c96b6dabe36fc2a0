
/*
 * Copyright (C) the ngx_http_llm_budget_module authors
 *
 * Who pays: carriers of keys, llm_budget_key, and their SHA-256.
 */


#include "http/ngx_http_llm_budget_identity.h"

#include <openssl/evp.h>
#include <openssl/rand.h>


/* ids whose bytes are drawn at a time */
#define NGX_HTTP_LLM_BUDGET_IDS     32


static ngx_http_llm_budget_key_e ngx_http_llm_budget_carrier_value(
    ngx_table_elt_t *h, ngx_str_t *key);
static ngx_int_t ngx_http_llm_budget_identify_variables(ngx_http_request_t *r,
    ngx_http_llm_budget_ctx_t *ctx, ngx_str_t *value);
static void ngx_http_llm_budget_bare_key(ngx_str_t *value);
static void ngx_http_llm_budget_identify_refuse(
    ngx_http_llm_budget_ctx_t *ctx, ngx_http_llm_budget_key_e why);


ngx_str_t  ngx_http_llm_budget_carriers[NGX_HTTP_LLM_BUDGET_CARRIERS] = {
    ngx_string("authorization"),
    ngx_string("x-api-key"),
    ngx_string("api-key"),
    ngx_string("x-goog-api-key")
};


ngx_int_t
ngx_http_llm_budget_identify(ngx_http_request_t *r,
    ngx_http_llm_budget_ctx_t *ctx)
{
    u_char                     *hex;
    ngx_int_t                   rc;
    ngx_str_t                   key;
    ngx_http_llm_budget_key_e   why;

    hex = ngx_pnalloc(r->pool, 2 * NGX_HTTP_LLM_BUDGET_HASH_LEN);
    if (hex == NULL) {
        return NGX_ERROR;
    }

    why = ngx_http_llm_budget_presented(r, &key);

    if (why == NGX_HTTP_LLM_BUDGET_KEY_CONFLICT) {

        /* never guess which of two keys pays (T50) */

        ngx_http_llm_budget_identify_refuse(ctx, why);
        return NGX_DECLINED;
    }

    if (why == NGX_HTTP_LLM_BUDGET_KEY_FOUND) {
        if (ngx_http_llm_budget_sha256(hex, key.data, key.len) != NGX_OK) {
            return NGX_ERROR;
        }

        ctx->secret.data = hex;
        ctx->secret.len = NGX_HTTP_LLM_BUDGET_HASH_LEN;
    }

    if (ctx->llcf->keys == NULL) {

        if (why != NGX_HTTP_LLM_BUDGET_KEY_FOUND) {
            ngx_http_llm_budget_identify_refuse(ctx, why);
            return NGX_DECLINED;
        }

        ctx->key_id = ctx->secret;
        return NGX_OK;
    }

    rc = ngx_http_llm_budget_identify_variables(r, ctx, &key);

    if (rc != NGX_OK) {
        return rc;
    }

    hex += NGX_HTTP_LLM_BUDGET_HASH_LEN;

    if (ngx_http_llm_budget_sha256(hex, key.data, key.len) != NGX_OK) {
        return NGX_ERROR;
    }

    ctx->key_id.data = hex;
    ctx->key_id.len = NGX_HTTP_LLM_BUDGET_HASH_LEN;

    return NGX_OK;
}


/*
 * The values of llm_budget_key joined by NUL, which no variable of a request
 * can forge into another split.  An empty value is no identity.
 */

static ngx_int_t
ngx_http_llm_budget_identify_variables(ngx_http_request_t *r,
    ngx_http_llm_budget_ctx_t *ctx, ngx_str_t *value)
{
    u_char                    *p;
    size_t                     len;
    ngx_str_t                 *values;
    ngx_uint_t                 i, n;
    ngx_http_complex_value_t  *cv;

    cv = ctx->llcf->keys->elts;
    n = ctx->llcf->keys->nelts;
    len = 0;

    values = ngx_palloc(r->pool, n * sizeof(ngx_str_t));
    if (values == NULL) {
        return NGX_ERROR;
    }

    for (i = 0; i < n; i++) {

        if (ngx_http_complex_value(r, &cv[i], &values[i]) != NGX_OK) {
            return NGX_ERROR;
        }

        ngx_http_llm_budget_bare_key(&values[i]);

        if (values[i].len == 0) {
            ngx_http_llm_budget_identify_refuse(ctx,
                                                NGX_HTTP_LLM_BUDGET_KEY_NONE);
            return NGX_DECLINED;
        }

        len += values[i].len + 1;
    }

    if (len > NGX_HTTP_LLM_BUDGET_KEY_MAX) {
        ngx_http_llm_budget_identify_refuse(ctx,
                                            NGX_HTTP_LLM_BUDGET_KEY_MALFORMED);
        return NGX_DECLINED;
    }

    p = ngx_pnalloc(r->pool, len);
    if (p == NULL) {
        return NGX_ERROR;
    }

    value->data = p;

    for (i = 0; i < n; i++) {
        p = ngx_cpymem(p, values[i].data, values[i].len);
        *p++ = '\0';
    }

    value->len = len - 1;

    return NGX_OK;
}


/*
 * "llm_budget_key $http_authorization": providers take any case of "Bearer"
 * and any run of spaces, so neither may make another payer.
 */

static void
ngx_http_llm_budget_bare_key(ngx_str_t *value)
{
    if (value->len < sizeof("Bearer") - 1
        || ngx_strncasecmp(value->data, (u_char *) "Bearer",
                           sizeof("Bearer") - 1)
           != 0
        || (value->len > sizeof("Bearer") - 1
            && value->data[sizeof("Bearer") - 1] != ' '))
    {
        return;
    }

    value->data += sizeof("Bearer") - 1;
    value->len -= sizeof("Bearer") - 1;

    while (value->len && value->data[0] == ' ') {
        value->data++;
        value->len--;
    }

    while (value->len && value->data[value->len - 1] == ' ') {
        value->len--;
    }
}


static void
ngx_http_llm_budget_identify_refuse(ngx_http_llm_budget_ctx_t *ctx,
    ngx_http_llm_budget_key_e why)
{
    ngx_http_llm_budget_refusal_t  *refusal;

    refusal = &ctx->refusal;

    switch (why) {

    case NGX_HTTP_LLM_BUDGET_KEY_CONFLICT:
        refusal->status = NGX_HTTP_BAD_REQUEST;
        ngx_str_set(&refusal->code, "key_conflict");
        ngx_str_set(&refusal->message, "The request carries several API keys; "
                    "send one.");
        break;

    case NGX_HTTP_LLM_BUDGET_KEY_MALFORMED:
        refusal->status = NGX_HTTP_UNAUTHORIZED;
        ngx_str_set(&refusal->code, "key_invalid");
        ngx_str_set(&refusal->message, "The API key is malformed.");
        break;

    default:
        refusal->status = NGX_HTTP_UNAUTHORIZED;
        ngx_str_set(&refusal->code, "key_invalid");
        ngx_str_set(&refusal->message, "No valid API key was given.");
        break;
    }
}


ngx_http_llm_budget_key_e
ngx_http_llm_budget_presented(ngx_http_request_t *r, ngx_str_t *key)
{
    ngx_str_t                   args, value;
    ngx_uint_t                  i, n, seen;
    ngx_list_part_t            *part;
    ngx_table_elt_t            *h;
    ngx_http_llm_budget_key_e   rc, found;

    found = NGX_HTTP_LLM_BUDGET_KEY_NONE;
    seen = 0;
    ngx_str_null(key);

    part = &r->headers_in.headers.part;
    h = part->elts;

    for (i = 0; /* void */ ; i++) {

        if (i >= part->nelts) {
            if (part->next == NULL) {
                break;
            }

            part = part->next;
            h = part->elts;
            i = 0;
        }

        if (h[i].lowcase_key == NULL) {
            continue;
        }

        value.len = h[i].key.len;
        value.data = h[i].lowcase_key;

        n = ngx_http_llm_budget_is_carrier(&value);

        if (n == 0) {
            continue;
        }

        if (seen & ((ngx_uint_t) 1 << n)) {

            /* which of them nginx's variables and the provider read differs
               by version and provider */

            return NGX_HTTP_LLM_BUDGET_KEY_CONFLICT;
        }

        seen |= (ngx_uint_t) 1 << n;

        rc = ngx_http_llm_budget_carrier_value(&h[i], &value);

        if (rc == NGX_HTTP_LLM_BUDGET_KEY_MALFORMED) {
            if (found == NGX_HTTP_LLM_BUDGET_KEY_NONE) {
                found = rc;
            }

            continue;
        }

        if (found == NGX_HTTP_LLM_BUDGET_KEY_FOUND
            && (value.len != key->len
                || ngx_memcmp(value.data, key->data, key->len) != 0))
        {
            return NGX_HTTP_LLM_BUDGET_KEY_CONFLICT;
        }

        found = NGX_HTTP_LLM_BUDGET_KEY_FOUND;
        *key = value;
    }

    args = r->args;

    while (ngx_http_llm_budget_query_key(&args, &value) == NGX_OK) {

        /* the provider may read another one of them than we do */

        args.len -= (size_t) (value.data + value.len - args.data);
        args.data = value.data + value.len;

        if (value.len == 0) {
            continue;
        }

        if (found == NGX_HTTP_LLM_BUDGET_KEY_FOUND
            && (value.len != key->len
                || ngx_memcmp(value.data, key->data, key->len) != 0))
        {
            return NGX_HTTP_LLM_BUDGET_KEY_CONFLICT;
        }

        found = NGX_HTTP_LLM_BUDGET_KEY_FOUND;
        *key = value;
    }

    return found;
}


static ngx_http_llm_budget_key_e
ngx_http_llm_budget_carrier_value(ngx_table_elt_t *h, ngx_str_t *key)
{
    size_t   len;
    u_char  *p, *last;

    p = h->value.data;
    last = p + h->value.len;

    if (h->key.len == ngx_http_llm_budget_carriers[0].len) {

        /* "authorization": any case of "Bearer", any run of spaces */

        if (h->value.len < sizeof("Bearer ") - 1
            || ngx_strncasecmp(p, (u_char *) "Bearer ",
                               sizeof("Bearer ") - 1)
               != 0)
        {
            return NGX_HTTP_LLM_BUDGET_KEY_MALFORMED;
        }

        p += sizeof("Bearer ") - 1;
    }

    while (p < last && *p == ' ') {
        p++;
    }

    while (p < last && last[-1] == ' ') {
        last--;
    }

    len = (size_t) (last - p);

    if (len == 0 || len > NGX_HTTP_LLM_BUDGET_KEY_MAX) {
        return NGX_HTTP_LLM_BUDGET_KEY_MALFORMED;
    }

    key->data = p;
    key->len = len;

    for ( /* void */ ; p < last; p++) {
        if (*p <= ' ' || *p == 0x7f) {
            return NGX_HTTP_LLM_BUDGET_KEY_MALFORMED;
        }
    }

    return NGX_HTTP_LLM_BUDGET_KEY_FOUND;
}


ngx_int_t
ngx_http_llm_budget_query_key(ngx_str_t *args, ngx_str_t *value)
{
    u_char  *p, *last, *end;

    p = args->data;
    last = p + args->len;

    while (p < last) {
        end = ngx_strlchr(p, last, '&');

        if (end == NULL) {
            end = last;
        }

        if (end - p >= 4 && ngx_memcmp(p, "key=", 4) == 0) {
            value->data = p + 4;
            value->len = (size_t) (end - p - 4);
            return NGX_OK;
        }

        p = end + 1;
    }

    return NGX_DECLINED;
}


ngx_uint_t
ngx_http_llm_budget_is_carrier(ngx_str_t *lowcase)
{
    ngx_uint_t  i;

    for (i = 0; i < NGX_HTTP_LLM_BUDGET_CARRIERS; i++) {
        if (lowcase->len == ngx_http_llm_budget_carriers[i].len
            && ngx_memcmp(lowcase->data, ngx_http_llm_budget_carriers[i].data,
                          lowcase->len)
               == 0)
        {
            return i + 1;
        }
    }

    return 0;
}


ngx_int_t
ngx_http_llm_budget_sha256(u_char *hex, const void *data, size_t len)
{
    u_char        hash[EVP_MAX_MD_SIZE];
    unsigned int  n;

    if (EVP_Digest(data, len, hash, &n, EVP_sha256(), NULL) != 1) {
        return NGX_ERROR;
    }

    (void) ngx_hex_dump(hex, hash, n);

    return NGX_OK;
}


/*
 * Random bytes are drawn for some ids at a time, since each draw asks the
 * system which process this is.  Requests, and so ids, are in workers only:
 * what was drawn is never shared by a fork.
 */

ngx_int_t
ngx_http_llm_budget_new_id(u_char *id)
{
    static u_char      ids[NGX_HTTP_LLM_BUDGET_IDS][LLMB_LEDGER_ID];
    static ngx_uint_t  left;

    if (left == 0) {

        if (RAND_bytes(ids[0], sizeof(ids)) != 1) {
            return NGX_ERROR;
        }

        left = NGX_HTTP_LLM_BUDGET_IDS;
    }

    ngx_memcpy(id, ids[--left], LLMB_LEDGER_ID);

    return NGX_OK;
}
