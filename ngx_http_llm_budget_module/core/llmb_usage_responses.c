
/*
 * Copyright (C) the ngx_http_llm_budget_module authors
 *
 * OpenAI Responses (wire-formats.md 6.2).  A stream's terminal event holds
 * the whole answer again, so generated text is counted in the deltas there.
 */


#include "core/llmb_usage_dialect.h"


static llmb_rc_e llmb_usage_responses_result(
    const llmb_usage_reader_t *reader, unsigned cache_1h,
    llmb_usage_t *usage);


static const llmb_usage_row_t  llmb_usage_responses_rows[] = {

    /* an event */

    llmb_usage_row(LLMB_NODE_EVENT, "type", LLMB_NODE_NONE, LLMB_DO_NAME,
                   LLMB_WHAT_TYPE, 0),
    llmb_usage_leaf(LLMB_NODE_EVENT, "delta", LLMB_DO_DELTA),
    llmb_usage_inner(LLMB_NODE_EVENT, "item", LLMB_NODE_ITEM),
    llmb_usage_inner(LLMB_NODE_EVENT, "response", LLMB_NODE_MESSAGE),
    llmb_usage_leaf(LLMB_NODE_EVENT, "error", LLMB_DO_ERROR),

    /* a response */

    llmb_usage_leaf(LLMB_NODE_MESSAGE, "model", LLMB_DO_MODEL),
    llmb_usage_leaf(LLMB_NODE_MESSAGE, "service_tier", LLMB_DO_TIER),
    llmb_usage_leaf(LLMB_NODE_MESSAGE, "error", LLMB_DO_ERROR),
    llmb_usage_row(LLMB_NODE_MESSAGE, "type", LLMB_NODE_NONE, LLMB_DO_NAME,
                   LLMB_WHAT_TYPE, LLMB_ROW_DOCUMENT),
    llmb_usage_row(LLMB_NODE_MESSAGE, "status", LLMB_NODE_NONE, LLMB_DO_NAME,
                   LLMB_WHAT_STATUS, LLMB_ROW_DOCUMENT),
    llmb_usage_row(LLMB_NODE_MESSAGE, "output", LLMB_NODE_ITEMS,
                   LLMB_DO_ITEMS, 0, 0),
    llmb_usage_inner(LLMB_NODE_MESSAGE, "usage", LLMB_NODE_USAGE),

    /* beside the usage: searches cost by the piece */
    llmb_usage_inner(LLMB_NODE_MESSAGE, "tool_usage", LLMB_NODE_SERVER),
    llmb_usage_inner(LLMB_NODE_SERVER, "web_search", LLMB_NODE_SEARCH),
    llmb_usage_count(LLMB_NODE_SEARCH, "num_requests", LLMB_USAGE_SEARCHES),

    /* the usage */

    llmb_usage_count(LLMB_NODE_USAGE, "input_tokens", LLMB_USAGE_INPUT),
    llmb_usage_count(LLMB_NODE_USAGE, "output_tokens", LLMB_USAGE_OUTPUT),
    llmb_usage_count(LLMB_NODE_USAGE, "total_tokens", LLMB_USAGE_TOTAL),
    llmb_usage_inner(LLMB_NODE_USAGE, "input_tokens_details",
                     LLMB_NODE_INPUT),
    llmb_usage_inner(LLMB_NODE_USAGE, "output_tokens_details",
                     LLMB_NODE_OUTPUT),
    llmb_usage_count(LLMB_NODE_INPUT, "cached_tokens",
                     LLMB_USAGE_CACHED_READ),
    llmb_usage_count(LLMB_NODE_INPUT, "cache_write_tokens",
                     LLMB_USAGE_CACHE_WRITE),
    llmb_usage_count(LLMB_NODE_INPUT, "audio_tokens", LLMB_USAGE_AUDIO_INPUT),
    llmb_usage_count(LLMB_NODE_OUTPUT, "reasoning_tokens",
                     LLMB_USAGE_REASONING),
    llmb_usage_count(LLMB_NODE_OUTPUT, "audio_tokens",
                     LLMB_USAGE_AUDIO_OUTPUT),

    /* what was generated */

    llmb_usage_inner(LLMB_NODE_ITEMS, "[]", LLMB_NODE_ITEM),
    llmb_usage_row(LLMB_NODE_ITEM, "type", LLMB_NODE_NONE, LLMB_DO_NAME,
                   LLMB_WHAT_ITEM, 0),
    llmb_usage_row(LLMB_NODE_ITEM, "content", LLMB_NODE_CONTENT,
                   LLMB_DO_NOTHING, 0, LLMB_ROW_DOCUMENT),
    llmb_usage_row(LLMB_NODE_ITEM, "summary", LLMB_NODE_CONTENT,
                   LLMB_DO_NOTHING, 0, LLMB_ROW_DOCUMENT),
    llmb_usage_row(LLMB_NODE_ITEM, "arguments", LLMB_NODE_NONE, LLMB_DO_TEXT,
                   0, LLMB_ROW_DOCUMENT),
    llmb_usage_row(LLMB_NODE_ITEM, "input", LLMB_NODE_NONE, LLMB_DO_TEXT,
                   0, LLMB_ROW_DOCUMENT),
    llmb_usage_row(LLMB_NODE_ITEM, "code", LLMB_NODE_NONE, LLMB_DO_TEXT,
                   0, LLMB_ROW_DOCUMENT),
    llmb_usage_inner(LLMB_NODE_CONTENT, "[]", LLMB_NODE_PART),
    llmb_usage_leaf(LLMB_NODE_PART, "text", LLMB_DO_TEXT),
    llmb_usage_leaf(LLMB_NODE_PART, "refusal", LLMB_DO_TEXT)
};


static const llmb_usage_name_t  llmb_usage_responses_names[] = {
    llmb_usage_name(LLMB_WHAT_TYPE, "response.output_text.delta",
                    LLMB_NAME_TEXT),
    llmb_usage_name(LLMB_WHAT_TYPE, "response.refusal.delta",
                    LLMB_NAME_TEXT),
    llmb_usage_name(LLMB_WHAT_TYPE, "response.reasoning_text.delta",
                    LLMB_NAME_TEXT),
    llmb_usage_name(LLMB_WHAT_TYPE, "response.reasoning_summary_text.delta",
                    LLMB_NAME_TEXT),
    llmb_usage_name(LLMB_WHAT_TYPE, "response.reasoning.delta",
                    LLMB_NAME_TEXT),
    llmb_usage_name(LLMB_WHAT_TYPE, "response.function_call_arguments.delta",
                    LLMB_NAME_TEXT),
    llmb_usage_name(LLMB_WHAT_TYPE, "response.custom_tool_call_input.delta",
                    LLMB_NAME_TEXT),
    llmb_usage_name(LLMB_WHAT_TYPE, "response.mcp_call_arguments.delta",
                    LLMB_NAME_TEXT),
    llmb_usage_name(LLMB_WHAT_TYPE,
                    "response.code_interpreter_call_code.delta",
                    LLMB_NAME_TEXT),
    llmb_usage_name(LLMB_WHAT_TYPE, "response.audio.transcript.delta",
                    LLMB_NAME_TEXT),

    llmb_usage_name(LLMB_WHAT_TYPE, "response.output_item.done",
                    LLMB_NAME_ITEM),

    llmb_usage_name(LLMB_WHAT_TYPE, "response.completed", LLMB_NAME_FINAL),
    llmb_usage_name(LLMB_WHAT_TYPE, "response.incomplete", LLMB_NAME_FINAL),
    llmb_usage_name(LLMB_WHAT_TYPE, "response.cancelled", LLMB_NAME_FINAL),
    llmb_usage_name(LLMB_WHAT_TYPE, "response.failed",
                    LLMB_NAME_FINAL|LLMB_NAME_ERROR),
    llmb_usage_name(LLMB_WHAT_TYPE, "error", LLMB_NAME_ERROR),

    llmb_usage_name(LLMB_WHAT_STATUS, "queued", LLMB_NAME_PENDING),
    llmb_usage_name(LLMB_WHAT_STATUS, "in_progress", LLMB_NAME_PENDING),
    llmb_usage_name(LLMB_WHAT_STATUS, "failed", LLMB_NAME_ERROR),

    llmb_usage_name(LLMB_WHAT_ITEM, "web_search_call", LLMB_NAME_SEARCH)
};


const llmb_usage_dialect_t  llmb_usage_responses = {
    llmb_usage_responses_rows,
    sizeof(llmb_usage_responses_rows) / sizeof(llmb_usage_row_t),
    llmb_usage_responses_names,
    sizeof(llmb_usage_responses_names) / sizeof(llmb_usage_name_t),
    LLMB_NODE_MESSAGE,
    LLMB_NODE_EVENT,
    0,
    0,
    llmb_usage_responses_result
};


/* without "tool_usage" the search items are counted (T18) */

static llmb_rc_e
llmb_usage_responses_result(const llmb_usage_reader_t *reader,
    unsigned cache_1h, llmb_usage_t *usage)
{
    int64_t               n;
    unsigned              need;
    llmb_usage_counts_t  *counts;

    (void) cache_1h;

    counts = &usage->counts;
    need = llmb_usage_bit(LLMB_USAGE_INPUT) | llmb_usage_bit(LLMB_USAGE_OUTPUT);

    if ((reader->bad & need) || (counts->present & need) != need) {
        return LLMB_DECLINED;
    }

    if (!(counts->present & llmb_usage_bit(LLMB_USAGE_SEARCHES))) {
        n = reader->searches_done;

        if (n < reader->searches_listed) {
            n = reader->searches_listed;
        }

        if (n > 0) {
            counts->n[LLMB_USAGE_SEARCHES] = n;
            counts->present |= llmb_usage_bit(LLMB_USAGE_SEARCHES);
        }
    }

    llmb_usage_surplus(counts, &usage->flags);
    llmb_usage_clamp(counts, &usage->flags);

    return LLMB_OK;
}
