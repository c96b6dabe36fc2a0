
/*
 * Copyright (C) the ngx_http_llm_budget_module authors
 *
 * The endpoint table: what a method and a normalized path are.  Default
 * deny: what is not in the table is refused (T05).  Paths are compared by
 * byte, case included, after nginx has normalized them.
 */


#ifndef _NGX_HTTP_LLM_BUDGET_LLMB_ENDPOINT_H_INCLUDED_
#define _NGX_HTTP_LLM_BUDGET_LLMB_ENDPOINT_H_INCLUDED_


#include "core/llmb.h"


typedef enum {
    LLMB_ENDPOINT_REFUSED = 0,
    LLMB_ENDPOINT_FREE,         /* costs nothing: passed on, not metered */
    LLMB_ENDPOINT_METERED
} llmb_endpoint_e;


typedef struct {
    llmb_str_t              method;     /* "POST" */

    /*
     * "/v1/chat/completions": matches the whole path or its end (base paths
     * vary, wire-formats.md section 3), at a segment's edge.  A "*" segment
     * matches any one segment that is not empty.
     */
    llmb_str_t              path;

    llmb_endpoint_e         kind;
    llmb_dialect_e          dialect;    /* also of errors, if not metered */
} llmb_endpoint_t;


/*
 * The built-in table (wire-formats.md 3.1, 3.2): the metered endpoints of
 * the dialects, model lists and token counting.
 */
extern const llmb_endpoint_t  llmb_endpoints[];
extern const unsigned         llmb_endpoints_n;


/*
 * Finds the entry of a call in own[0..n) from the last to the first, then in
 * the built-in table; NULL if there is none.  *tail, if not NULL, receives
 * where the matched path begins within path (the base before it is the
 * operator's own).  A base that has a metered path in it is refused: whoever
 * reads the path from its beginning would serve that one.
 */
const llmb_endpoint_t *llmb_endpoint_find(const llmb_endpoint_t *own,
    unsigned n, const llmb_str_t *method, const llmb_str_t *path,
    size_t *tail);

/*
 * A normalized path that must not be forwarded, because the provider might
 * read another one: an empty, "." or ".." segment, "%", "\", ";", a control
 * or a NUL byte left in it, or no leading "/" (T05).  LLMB_OK or
 * LLMB_INVALID.
 */
llmb_rc_e llmb_endpoint_check_path(const llmb_str_t *path);

/* "chat", "completions", "responses", "embeddings", "messages" */
llmb_rc_e llmb_dialect_parse(const llmb_str_t *name, llmb_dialect_e *dialect);
const char *llmb_dialect_name(llmb_dialect_e dialect);

/* OTel gen_ai.operation.name: "chat", "text_completion", "embeddings" */
const char *llmb_dialect_operation(llmb_dialect_e dialect);

/*
 * The dialect whose error shape an unknown path should get: Anthropic's for
 * paths with a "messages" or "complete" segment, else OpenAI's.
 */
llmb_dialect_e llmb_dialect_guess(const llmb_str_t *path);


#endif /* _NGX_HTTP_LLM_BUDGET_LLMB_ENDPOINT_H_INCLUDED_ */
