
/*
 * Copyright (C) the ngx_http_llm_budget_module authors
 *
 * What every core file shares: the byte view, the result codes and the
 * limits.  The core is plain C99: it knows nothing of nginx, reads no clock,
 * does no I/O, keeps no global state and allocates nothing on the request
 * path; storage is passed in by the caller.
 */


#ifndef _NGX_HTTP_LLM_BUDGET_LLMB_H_INCLUDED_
#define _NGX_HTTP_LLM_BUDGET_LLMB_H_INCLUDED_


#include <stddef.h>
#include <stdint.h>


/*
 * Bytes, not zero-terminated.  Same fields in the same order as ngx_str_t,
 * which the glue asserts at compile time.
 */

typedef struct {
    size_t                  len;
    unsigned char          *data;
} llmb_str_t;


/* by way of an integer, since literals count as const with -Wwrite-strings */
#define llmb_string(s)                                                        \
    { sizeof(s) - 1, (unsigned char *) (uintptr_t) (s) }


typedef enum {
    LLMB_OK = 0,
    LLMB_AGAIN,             /* fine so far, more input is wanted */
    LLMB_DECLINED,          /* not found, does not apply, nothing to do */
    LLMB_INVALID,           /* malformed input */
    LLMB_OVERFLOW,          /* a number does not fit */
    LLMB_NOSPACE,           /* the caller's storage is full */
    LLMB_LIMIT              /* one of the named limits below is exceeded */
} llmb_rc_e;


/* deepest nesting of a request body (T34), and of an answer */
#define LLMB_REQUEST_DEPTH      64
#define LLMB_ANSWER_DEPTH       128

/* decoded bytes of a key or string that the scanner keeps */
#define LLMB_JSON_TEXT          256

/* a model name, a service tier, a member name */
#define LLMB_MODEL_LEN          256
#define LLMB_TIER_LEN           32
#define LLMB_NAME_LEN           64

/* greatest integer accepted in a request (T21), and per usage field */
#define LLMB_REQUEST_INT_MAX    INT64_C(2147483647)
#define LLMB_USAGE_INT_MAX      INT64_C(1000000000)


/* how an endpoint's request, answer, stream and error are read */

typedef enum {
    LLMB_DIALECT_CHAT = 0,      /* OpenAI chat completions */
    LLMB_DIALECT_COMPLETIONS,   /* OpenAI legacy completions */
    LLMB_DIALECT_RESPONSES,     /* OpenAI Responses */
    LLMB_DIALECT_EMBEDDINGS,    /* OpenAI embeddings */
    LLMB_DIALECT_MESSAGES,      /* Anthropic Messages */
    LLMB_DIALECT_N
} llmb_dialect_e;


#endif /* _NGX_HTTP_LLM_BUDGET_LLMB_H_INCLUDED_ */
