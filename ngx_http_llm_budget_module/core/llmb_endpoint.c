
/*
 * Copyright (C) the ngx_http_llm_budget_module authors
 *
 * The endpoint table and the comparison of paths by their end.
 */


#include "core/llmb_endpoint.h"

#include <string.h>


static const llmb_endpoint_t *llmb_endpoint_search(
    const llmb_endpoint_t *endpoint, const llmb_str_t *method,
    const llmb_str_t *path, size_t *tail);
static unsigned llmb_endpoint_nested(const llmb_endpoint_t *endpoint,
    const llmb_str_t *path, size_t tail);
static unsigned llmb_endpoint_match(const llmb_str_t *pattern,
    const llmb_str_t *path, size_t *tail);
static unsigned llmb_endpoint_str_eq(const llmb_str_t *a,
    const llmb_str_t *b);


typedef struct {
    llmb_str_t              name;
    const char             *text;
    const char             *operation;
} llmb_dialect_t;


static const llmb_dialect_t  llmb_dialects[LLMB_DIALECT_N] = {

    [LLMB_DIALECT_CHAT] = { llmb_string("chat"), "chat", "chat" },

    [LLMB_DIALECT_COMPLETIONS] =
        { llmb_string("completions"), "completions", "text_completion" },

    [LLMB_DIALECT_RESPONSES] =
        { llmb_string("responses"), "responses", "chat" },

    [LLMB_DIALECT_EMBEDDINGS] =
        { llmb_string("embeddings"), "embeddings", "embeddings" },

    [LLMB_DIALECT_MESSAGES] =
        { llmb_string("messages"), "messages", "chat" }
};


const llmb_endpoint_t  llmb_endpoints[] = {

    { llmb_string("POST"), llmb_string("/v1/chat/completions"),
      LLMB_ENDPOINT_METERED, LLMB_DIALECT_CHAT },

    { llmb_string("POST"), llmb_string("/v1/completions"),
      LLMB_ENDPOINT_METERED, LLMB_DIALECT_COMPLETIONS },

    { llmb_string("POST"), llmb_string("/v1/responses"),
      LLMB_ENDPOINT_METERED, LLMB_DIALECT_RESPONSES },

    { llmb_string("POST"), llmb_string("/v1/embeddings"),
      LLMB_ENDPOINT_METERED, LLMB_DIALECT_EMBEDDINGS },

    { llmb_string("POST"), llmb_string("/v1/messages"),
      LLMB_ENDPOINT_METERED, LLMB_DIALECT_MESSAGES },

    { llmb_string("GET"), llmb_string("/v1/models"),
      LLMB_ENDPOINT_FREE, LLMB_DIALECT_CHAT },

    { llmb_string("GET"), llmb_string("/v1/models/*"),
      LLMB_ENDPOINT_FREE, LLMB_DIALECT_CHAT },

    { llmb_string("POST"), llmb_string("/v1/messages/count_tokens"),
      LLMB_ENDPOINT_FREE, LLMB_DIALECT_MESSAGES },

    { llmb_string("POST"), llmb_string("/v1/responses/input_tokens"),
      LLMB_ENDPOINT_FREE, LLMB_DIALECT_RESPONSES }
};


const unsigned  llmb_endpoints_n = sizeof(llmb_endpoints)
                                   / sizeof(llmb_endpoints[0]);


const llmb_endpoint_t *
llmb_endpoint_find(const llmb_endpoint_t *own, unsigned n,
    const llmb_str_t *method, const llmb_str_t *path, size_t *tail)
{
    size_t                  begin;
    unsigned                i;
    const llmb_endpoint_t  *found;

    /* the base before the match must be clean as well */

    if (llmb_endpoint_check_path(path) != LLMB_OK) {
        return NULL;
    }

    found = NULL;
    begin = 0;

    for (i = n; i > 0 && found == NULL; i--) {
        found = llmb_endpoint_search(&own[i - 1], method, path, &begin);
    }

    for (i = 0; i < llmb_endpoints_n && found == NULL; i++) {
        found = llmb_endpoint_search(&llmb_endpoints[i], method, path, &begin);
    }

    if (found == NULL) {
        return NULL;
    }

    /* a provider, or a proxy_pass with an URI, may take the first of two */

    for (i = 0; i < n; i++) {
        if (llmb_endpoint_nested(&own[i], path, begin)) {
            return NULL;
        }
    }

    for (i = 0; i < llmb_endpoints_n; i++) {
        if (llmb_endpoint_nested(&llmb_endpoints[i], path, begin)) {
            return NULL;
        }
    }

    if (tail) {
        *tail = begin;
    }

    return found;
}


/* A path of the endpoint within the base that is before the match. */

static unsigned
llmb_endpoint_nested(const llmb_endpoint_t *endpoint, const llmb_str_t *path,
    size_t tail)
{
    size_t      i, begin;
    llmb_str_t  base;

    if (endpoint->kind != LLMB_ENDPOINT_METERED
        || endpoint->path.len == 0
        || endpoint->path.data[endpoint->path.len - 1] == '*')
    {
        /* what ends with any segment is in every base */

        return 0;
    }

    base.data = path->data;

    for (i = 1; i <= tail; i++) {

        if (path->data[i] != '/' && path->data[i - 1] != '/') {
            continue;
        }

        base.len = i;

        if (llmb_endpoint_match(&endpoint->path, &base, &begin)) {
            return 1;
        }
    }

    return 0;
}


static const llmb_endpoint_t *
llmb_endpoint_search(const llmb_endpoint_t *endpoint,
    const llmb_str_t *method, const llmb_str_t *path, size_t *tail)
{
    if (!llmb_endpoint_str_eq(&endpoint->method, method)
        || !llmb_endpoint_match(&endpoint->path, path, tail))
    {
        return NULL;
    }

    return endpoint;
}


/* Compares backwards: from the ends to the beginning of the pattern. */

static unsigned
llmb_endpoint_match(const llmb_str_t *pattern, const llmb_str_t *path,
    size_t *tail)
{
    size_t                i, j;
    unsigned              whole;
    const unsigned char  *p, *s;

    p = pattern->data;
    s = path->data;
    j = pattern->len;
    i = path->len;

    if (j == 0) {
        return 0;
    }

    while (j > 0) {

        whole = p[j - 1] == '*'
                && (j == 1 || p[j - 2] == '/')
                && (j == pattern->len || p[j] == '/');

        if (i == 0 || (whole && s[i - 1] == '/')) {
            return 0;
        }

        if (whole) {
            while (i > 0 && s[i - 1] != '/') {
                i--;
            }

            j--;
            continue;
        }

        if (s[i - 1] != p[j - 1]) {
            return 0;
        }

        i--;
        j--;
    }

    /* at a segment's edge: before a "/", or right behind it */

    if (p[0] != '/' && i > 0 && s[i - 1] != '/') {
        return 0;
    }

    *tail = i;

    return 1;
}


llmb_rc_e
llmb_endpoint_check_path(const llmb_str_t *path)
{
    size_t                i, start, len;
    unsigned char         ch;
    const unsigned char  *p;

    p = path->data;

    if (path->len == 0 || p[0] != '/') {
        return LLMB_INVALID;
    }

    if (path->len == 1) {
        return LLMB_OK;
    }

    start = 1;

    for (i = 1; i <= path->len; i++) {

        if (i < path->len && p[i] != '/') {
            ch = p[i];

            if (ch < 0x20 || ch == 0x7f || ch == '%' || ch == '\\'
                || ch == ';')
            {
                return LLMB_INVALID;
            }

            continue;
        }

        /* a segment ends */

        len = i - start;

        if (len == 0
            || (len == 1 && p[start] == '.')
            || (len == 2 && p[start] == '.' && p[start + 1] == '.'))
        {
            return LLMB_INVALID;
        }

        start = i + 1;
    }

    return LLMB_OK;
}


llmb_rc_e
llmb_dialect_parse(const llmb_str_t *name, llmb_dialect_e *dialect)
{
    unsigned  i;

    for (i = 0; i < LLMB_DIALECT_N; i++) {
        if (llmb_endpoint_str_eq(&llmb_dialects[i].name, name)) {
            *dialect = (llmb_dialect_e) i;
            return LLMB_OK;
        }
    }

    return LLMB_DECLINED;
}


const char *
llmb_dialect_name(llmb_dialect_e dialect)
{
    return dialect < LLMB_DIALECT_N ? llmb_dialects[dialect].text : "unknown";
}


const char *
llmb_dialect_operation(llmb_dialect_e dialect)
{
    return dialect < LLMB_DIALECT_N ? llmb_dialects[dialect].operation
                                    : "unknown";
}


llmb_dialect_e
llmb_dialect_guess(const llmb_str_t *path)
{
    size_t                   i, start;
    llmb_str_t               segment;
    static const llmb_str_t  messages = llmb_string("messages");
    static const llmb_str_t  complete = llmb_string("complete");

    start = 0;

    for (i = 0; i <= path->len; i++) {

        if (i < path->len && path->data[i] != '/') {
            continue;
        }

        segment.data = path->data + start;
        segment.len = i - start;

        if (llmb_endpoint_str_eq(&segment, &messages)
            || llmb_endpoint_str_eq(&segment, &complete))
        {
            return LLMB_DIALECT_MESSAGES;
        }

        start = i + 1;
    }

    return LLMB_DIALECT_CHAT;
}


static unsigned
llmb_endpoint_str_eq(const llmb_str_t *a, const llmb_str_t *b)
{
    return a->len == b->len
           && (a->len == 0 || memcmp(a->data, b->data, a->len) == 0);
}
