
/*
 * Copyright (C) the ngx_http_llm_budget_module authors
 *
 * Incremental splitter of event streams (WHATWG HTML, 9.2.6), fed in pieces
 * of any size; constant memory.  Lines end in LF, CRLF or CR, mixed; "field:
 * value" or "field:value"; comments; a leading BOM; several data lines join
 * with LF; unknown fields are ignored.  Data is handed on as it arrives and
 * never gathered, so an event may be of any length (T12).
 */


#ifndef _NGX_HTTP_LLM_BUDGET_LLMB_SSE_H_INCLUDED_
#define _NGX_HTTP_LLM_BUDGET_LLMB_SSE_H_INCLUDED_


#include "core/llmb.h"


/* longest event name that is kept; a longer one counts as unknown (empty) */
#define LLMB_SSE_NAME           64


/* A piece of the current event's data; never empty.  Lines join with "\n". */
typedef void (*llmb_sse_data_pt)(void *data, const unsigned char *p,
    size_t len);


typedef struct {
    llmb_sse_data_pt        handler;
    void                   *data;

    /* of the current event, valid until the next call of feed */
    size_t                  name_len;
    unsigned char           name[LLMB_SSE_NAME];
    unsigned                has_data;   /* a data line was seen */

    /*
     * The last event ended in a CR and nothing followed yet: if the next byte
     * is an LF it still belongs to that event.
     */
    unsigned                skip_lf;

    /* private */
    unsigned                state;
    unsigned                field;
    size_t                  field_len;
    unsigned char           field_name[8];
    unsigned                bom;
    unsigned                open;       /* an event or data line was seen */
    unsigned                ended;      /* the next byte begins a new event */
} llmb_sse_t;


void llmb_sse_init(llmb_sse_t *sse, llmb_sse_data_pt handler, void *data);

/*
 * Consumes bytes up to and including the blank line that ends an event, or
 * all of them.  Returns the number consumed; *event is 1 when an event just
 * ended (one without data too: has_data tells), else 0.  Empty lines between
 * events end no event.  The next call begins a new event.
 */
size_t llmb_sse_feed(llmb_sse_t *sse, const unsigned char *p, size_t len,
    int *event);

/*
 * End of the stream.  Returns 1 if an event with data was open; providers do
 * close early, so its data counts although the standard would drop it.
 */
int llmb_sse_end(llmb_sse_t *sse);


#endif /* _NGX_HTTP_LLM_BUDGET_LLMB_SSE_H_INCLUDED_ */
