
/*
 * Copyright (C) the ngx_http_llm_budget_module authors
 *
 * A bounded writer over the caller's buffer.  Nothing is written past the
 * end; once something did not fit the writer is "full" and stays so, and
 * "need" goes on counting what the whole text would have taken.
 */


#ifndef _NGX_HTTP_LLM_BUDGET_LLMB_OUT_H_INCLUDED_
#define _NGX_HTTP_LLM_BUDGET_LLMB_OUT_H_INCLUDED_


#include "core/llmb.h"


typedef struct {
    unsigned char          *start;
    unsigned char          *pos;        /* start <= pos <= end */
    unsigned char          *end;
    size_t                  need;       /* bytes asked for so far */
    int                     full;       /* something was left out */
} llmb_out_t;


/* buf may be NULL with size 0: then the writer only counts. */
void llmb_out_init(llmb_out_t *out, unsigned char *buf, size_t size);

void llmb_out_bytes(llmb_out_t *out, const void *data, size_t len);
void llmb_out_str(llmb_out_t *out, const llmb_str_t *s);

/* text is zero-terminated */
void llmb_out_text(llmb_out_t *out, const char *text);

void llmb_out_int(llmb_out_t *out, int64_t n);

/* nano-USD as decimal USD, nine places, without quotes */
void llmb_out_nusd(llmb_out_t *out, int64_t nusd);

/*
 * A JSON string with its quotes.  Escapes ", \, and controls; bytes that
 * are not valid UTF-8 become U+FFFD, so that the output is always valid.
 */
void llmb_out_json(llmb_out_t *out, const llmb_str_t *s);


#endif /* _NGX_HTTP_LLM_BUDGET_LLMB_OUT_H_INCLUDED_ */
