
/*
 * Copyright (C) the ngx_http_llm_budget_module authors
 *
 * Who pays: from the key a client presents, or from variables, to an id.
 */


#ifndef _NGX_HTTP_LLM_BUDGET_IDENTITY_H_INCLUDED_
#define _NGX_HTTP_LLM_BUDGET_IDENTITY_H_INCLUDED_


#include "http/ngx_http_llm_budget.h"


/* the carriers of a key: header names, lower case */

#define NGX_HTTP_LLM_BUDGET_CARRIERS    4

extern ngx_str_t
    ngx_http_llm_budget_carriers[NGX_HTTP_LLM_BUDGET_CARRIERS];


typedef enum {
    NGX_HTTP_LLM_BUDGET_KEY_FOUND = 0,
    NGX_HTTP_LLM_BUDGET_KEY_NONE,       /* no carrier has a key */
    NGX_HTTP_LLM_BUDGET_KEY_CONFLICT,   /* carriers differ, or a header
                                           stands twice */
    NGX_HTTP_LLM_BUDGET_KEY_MALFORMED   /* empty, too long, bad bytes, or not
                                           a bearer */
} ngx_http_llm_budget_key_e;


/*
 * The key a request presents in the accepted carriers: Authorization: Bearer,
 * x-api-key, api-key, x-goog-api-key, ?key=.  *key views the request.
 */
ngx_http_llm_budget_key_e ngx_http_llm_budget_presented(ngx_http_request_t *r,
    ngx_str_t *key);

/*
 * Sets ctx->key_id from llm_budget_key, or from the key presented.  NGX_OK;
 * NGX_DECLINED: refused, ctx->refusal is filled in; NGX_ERROR.
 */
ngx_int_t ngx_http_llm_budget_identify(ngx_http_request_t *r,
    ngx_http_llm_budget_ctx_t *ctx);

/* hex holds NGX_HTTP_LLM_BUDGET_HASH_LEN bytes */
ngx_int_t ngx_http_llm_budget_sha256(u_char *hex, const void *data,
    size_t len);

/* A fresh 128-bit id of a hold, never from the client (T41). */
ngx_int_t ngx_http_llm_budget_new_id(u_char *id);

/* Which of the carriers a header, lower case, is, from 1; 0: none. */
ngx_uint_t ngx_http_llm_budget_is_carrier(ngx_str_t *lowcase);

/* Finds "key" in a query: NGX_OK with its value, or NGX_DECLINED. */
ngx_int_t ngx_http_llm_budget_query_key(ngx_str_t *args, ngx_str_t *value);


#endif /* _NGX_HTTP_LLM_BUDGET_IDENTITY_H_INCLUDED_ */
