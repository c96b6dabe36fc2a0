
/*
 * Copyright (C) the ngx_http_llm_budget_module authors
 *
 * Anthropic Messages (wire-formats.md section 7).  The input count excludes
 * the cache (trap 3), and samplings stand in a list of their own (trap 2).
 */


#include "core/llmb_usage_dialect.h"


static llmb_rc_e llmb_usage_anthropic_result(
    const llmb_usage_reader_t *reader, unsigned cache_1h,
    llmb_usage_t *usage);
static void llmb_usage_anthropic_fold(llmb_usage_counts_t *counts,
    unsigned cache_1h, unsigned *flags);


/* of the usage and of each sampling in it */

#define llmb_usage_tokens(parent)                                             \
    llmb_usage_count(parent, "input_tokens", LLMB_USAGE_INPUT),               \
    llmb_usage_count(parent, "output_tokens", LLMB_USAGE_OUTPUT),             \
    llmb_usage_count(parent, "cache_read_input_tokens",                       \
                     LLMB_USAGE_CACHED_READ),                                 \
    llmb_usage_count(parent, "cache_creation_input_tokens",                   \
                     LLMB_USAGE_CACHE_WRITE),                                 \
    llmb_usage_inner(parent, "cache_creation", LLMB_NODE_CACHE)


static const llmb_usage_row_t  llmb_usage_anthropic_rows[] = {

    /* an event */

    llmb_usage_row(LLMB_NODE_EVENT, "type", LLMB_NODE_NONE, LLMB_DO_NAME,
                   LLMB_WHAT_TYPE, 0),
    llmb_usage_inner(LLMB_NODE_EVENT, "delta", LLMB_NODE_DELTA),
    llmb_usage_inner(LLMB_NODE_EVENT, "content_block", LLMB_NODE_PART),
    llmb_usage_inner(LLMB_NODE_EVENT, "message", LLMB_NODE_MESSAGE),
    llmb_usage_inner(LLMB_NODE_EVENT, "usage", LLMB_NODE_USAGE),
    llmb_usage_leaf(LLMB_NODE_EVENT, "error", LLMB_DO_ERROR),

    /* a message */

    llmb_usage_leaf(LLMB_NODE_MESSAGE, "model", LLMB_DO_MODEL),
    llmb_usage_leaf(LLMB_NODE_MESSAGE, "error", LLMB_DO_ERROR),
    llmb_usage_row(LLMB_NODE_MESSAGE, "type", LLMB_NODE_NONE, LLMB_DO_NAME,
                   LLMB_WHAT_TYPE, 0),
    llmb_usage_inner(LLMB_NODE_MESSAGE, "content", LLMB_NODE_CONTENT),
    llmb_usage_inner(LLMB_NODE_MESSAGE, "usage", LLMB_NODE_USAGE),

    /* the usage */

    llmb_usage_tokens(LLMB_NODE_USAGE),
    llmb_usage_leaf(LLMB_NODE_USAGE, "service_tier", LLMB_DO_TIER),
    llmb_usage_inner(LLMB_NODE_USAGE, "output_tokens_details",
                     LLMB_NODE_OUTPUT),
    llmb_usage_inner(LLMB_NODE_USAGE, "server_tool_use", LLMB_NODE_SERVER),
    llmb_usage_row(LLMB_NODE_USAGE, "iterations", LLMB_NODE_SAMPLINGS,
                   LLMB_DO_SAMPLINGS, 0, 0),

    llmb_usage_count(LLMB_NODE_CACHE, "ephemeral_5m_input_tokens",
                     LLMB_USAGE_CACHE_WRITE_5M),
    llmb_usage_count(LLMB_NODE_CACHE, "ephemeral_1h_input_tokens",
                     LLMB_USAGE_CACHE_WRITE_1H),
    llmb_usage_count(LLMB_NODE_OUTPUT, "thinking_tokens",
                     LLMB_USAGE_REASONING),
    llmb_usage_count(LLMB_NODE_SERVER, "web_search_requests",
                     LLMB_USAGE_SEARCHES),

    llmb_usage_inner(LLMB_NODE_SAMPLINGS, "[]", LLMB_NODE_SAMPLING),
    llmb_usage_tokens(LLMB_NODE_SAMPLING),
    llmb_usage_leaf(LLMB_NODE_SAMPLING, "model", LLMB_DO_MODEL),
    llmb_usage_row(LLMB_NODE_SAMPLING, "type", LLMB_NODE_NONE, LLMB_DO_NAME,
                   LLMB_WHAT_SAMPLING, 0),

    /* what was generated */

    llmb_usage_leaf(LLMB_NODE_DELTA, "text", LLMB_DO_TEXT),
    llmb_usage_leaf(LLMB_NODE_DELTA, "thinking", LLMB_DO_TEXT),
    llmb_usage_leaf(LLMB_NODE_DELTA, "partial_json", LLMB_DO_TEXT),

    llmb_usage_inner(LLMB_NODE_CONTENT, "[]", LLMB_NODE_PART),
    llmb_usage_leaf(LLMB_NODE_PART, "text", LLMB_DO_TEXT),
    llmb_usage_leaf(LLMB_NODE_PART, "thinking", LLMB_DO_TEXT),
    llmb_usage_row(LLMB_NODE_PART, "input", LLMB_NODE_NONE, LLMB_DO_RAW, 0,
                   LLMB_ROW_DOCUMENT)
};


/* a sampling of any other type is not in the top level counts */

static const llmb_usage_name_t  llmb_usage_anthropic_names[] = {
    llmb_usage_name(LLMB_WHAT_TYPE, "message_stop", LLMB_NAME_FINAL),
    llmb_usage_name(LLMB_WHAT_TYPE, "error", LLMB_NAME_ERROR),
    llmb_usage_name(LLMB_WHAT_SAMPLING, "message", LLMB_NAME_INSIDE),
    llmb_usage_name(LLMB_WHAT_SAMPLING, "fallback_message", LLMB_NAME_INSIDE)
};


const llmb_usage_dialect_t  llmb_usage_anthropic = {
    llmb_usage_anthropic_rows,
    sizeof(llmb_usage_anthropic_rows) / sizeof(llmb_usage_row_t),
    llmb_usage_anthropic_names,
    sizeof(llmb_usage_anthropic_names) / sizeof(llmb_usage_name_t),
    LLMB_NODE_MESSAGE,
    LLMB_NODE_EVENT,
    0,
    0,
    llmb_usage_anthropic_result
};


static llmb_rc_e
llmb_usage_anthropic_result(const llmb_usage_reader_t *reader,
    unsigned cache_1h, llmb_usage_t *usage)
{
    unsigned  i, need;

    need = llmb_usage_bit(LLMB_USAGE_INPUT)
           | llmb_usage_bit(LLMB_USAGE_OUTPUT)
           | llmb_usage_bit(LLMB_USAGE_CACHED_READ)
           | llmb_usage_bit(LLMB_USAGE_CACHE_WRITE);

    if ((reader->bad & need) || reader->split.bad
        || !(usage->counts.present & llmb_usage_bit(LLMB_USAGE_INPUT)))
    {
        return LLMB_DECLINED;
    }

    /* an answer that came to its end must tell its output */

    if ((reader->seen & LLMB_SEEN_FINAL)
        && !(usage->counts.present & llmb_usage_bit(LLMB_USAGE_OUTPUT)))
    {
        return LLMB_DECLINED;
    }

    llmb_usage_anthropic_fold(&usage->counts, cache_1h, &usage->flags);

    for (i = 0; i < usage->n_extra; i++) {
        llmb_usage_anthropic_fold(&usage->extra[i].counts, cache_1h,
                                  &usage->flags);
    }

    return LLMB_OK;
}


/*
 * The cache counts become parts of the input, and the kinds of writes parts
 * of the writes: what is not broken down is the five-minute kind, if nothing
 * is, the kind that was asked for (T14).
 */

static void
llmb_usage_anthropic_fold(llmb_usage_counts_t *counts, unsigned cache_1h,
    unsigned *flags)
{
    int64_t   write, write_5m, write_1h;
    unsigned  bit;

    bit = llmb_usage_bit(LLMB_USAGE_CACHE_WRITE);

    write = counts->n[LLMB_USAGE_CACHE_WRITE];
    write_5m = counts->n[LLMB_USAGE_CACHE_WRITE_5M];
    write_1h = counts->n[LLMB_USAGE_CACHE_WRITE_1H];

    if (!(counts->present & bit)) {
        write = write_5m + write_1h;
    }

    if (write_5m + write_1h > write) {
        *flags |= LLMB_USAGE_CLAMPED;
    }

    if (write_5m == 0 && write_1h == 0 && cache_1h) {
        write_1h = write;
    }

    if (write_1h > write) {
        write_1h = write;
    }

    counts->n[LLMB_USAGE_CACHE_WRITE] = write;
    counts->n[LLMB_USAGE_CACHE_WRITE_5M] = write - write_1h;
    counts->n[LLMB_USAGE_CACHE_WRITE_1H] = write_1h;

    counts->n[LLMB_USAGE_INPUT] += counts->n[LLMB_USAGE_CACHED_READ] + write;
}
