
/*
 * Copyright (C) the ngx_http_llm_budget_module authors
 *
 * OpenAI chat, legacy completions and embeddings (wire-formats.md 6.1, 6.3,
 * 6.4), with the additions of the providers that answer in the same shape
 * (section 11), since clients are pointed at those, too.
 */


#include "core/llmb_usage_dialect.h"


static llmb_rc_e llmb_usage_openai_result(const llmb_usage_reader_t *reader,
    unsigned cache_1h, llmb_usage_t *usage);
static llmb_rc_e llmb_usage_embeddings_result(
    const llmb_usage_reader_t *reader, unsigned cache_1h,
    llmb_usage_t *usage);


#define llmb_usage_cached(parent, name)                                       \
    llmb_usage_row(parent, name, LLMB_NODE_NONE, LLMB_DO_COUNT,               \
                   LLMB_USAGE_CACHED_READ, LLMB_ROW_MAX)


static const llmb_usage_row_t  llmb_usage_openai_rows[] = {

    /* the answer, or a chunk of it */

    llmb_usage_leaf(LLMB_NODE_MESSAGE, "model", LLMB_DO_MODEL),
    llmb_usage_leaf(LLMB_NODE_MESSAGE, "service_tier", LLMB_DO_TIER),
    llmb_usage_leaf(LLMB_NODE_MESSAGE, "error", LLMB_DO_ERROR),

    /* Voyage, and servers that check requests with FastAPI */
    llmb_usage_leaf(LLMB_NODE_MESSAGE, "detail", LLMB_DO_ERROR),

    /* Mistral's errors are told by "object" alone */
    llmb_usage_row(LLMB_NODE_MESSAGE, "object", LLMB_NODE_NONE, LLMB_DO_NAME,
                   LLMB_WHAT_TYPE, 0),
    llmb_usage_row(LLMB_NODE_MESSAGE, "type", LLMB_NODE_NONE, LLMB_DO_NAME,
                   LLMB_WHAT_TYPE, 0),

    llmb_usage_row(LLMB_NODE_MESSAGE, "choices", LLMB_NODE_CHOICES,
                   LLMB_DO_CHOICES, 0, 0),
    llmb_usage_row(LLMB_NODE_MESSAGE, "usage", LLMB_NODE_USAGE,
                   LLMB_DO_USAGE, 0, 0),

    /* Groq: older streams have no other usage */
    llmb_usage_inner(LLMB_NODE_MESSAGE, "x_groq", LLMB_NODE_GROQ),
    llmb_usage_inner(LLMB_NODE_GROQ, "usage", LLMB_NODE_USAGE),
    llmb_usage_leaf(LLMB_NODE_GROQ, "error", LLMB_DO_ERROR),

    /* Groq's compound systems: the usage is that of one model of several */
    llmb_usage_inner(LLMB_NODE_MESSAGE, "usage_breakdown",
                     LLMB_NODE_BREAKDOWN),
    llmb_usage_inner(LLMB_NODE_GROQ, "usage_breakdown", LLMB_NODE_BREAKDOWN),
    llmb_usage_row(LLMB_NODE_BREAKDOWN, "models", LLMB_NODE_SAMPLINGS,
                   LLMB_DO_SAMPLINGS, 0, 0),
    llmb_usage_inner(LLMB_NODE_SAMPLINGS, "[]", LLMB_NODE_SAMPLING),
    llmb_usage_leaf(LLMB_NODE_SAMPLING, "model", LLMB_DO_MODEL),
    llmb_usage_inner(LLMB_NODE_SAMPLING, "usage", LLMB_NODE_USAGE),

    /* the usage */

    llmb_usage_count(LLMB_NODE_USAGE, "prompt_tokens", LLMB_USAGE_INPUT),
    llmb_usage_count(LLMB_NODE_USAGE, "completion_tokens", LLMB_USAGE_OUTPUT),
    llmb_usage_count(LLMB_NODE_USAGE, "total_tokens", LLMB_USAGE_TOTAL),
    llmb_usage_inner(LLMB_NODE_USAGE, "prompt_tokens_details",
                     LLMB_NODE_INPUT),
    llmb_usage_inner(LLMB_NODE_USAGE, "completion_tokens_details",
                     LLMB_NODE_OUTPUT),

    llmb_usage_cached(LLMB_NODE_INPUT, "cached_tokens"),
    llmb_usage_count(LLMB_NODE_INPUT, "cache_write_tokens",
                     LLMB_USAGE_CACHE_WRITE),
    llmb_usage_count(LLMB_NODE_INPUT, "audio_tokens", LLMB_USAGE_AUDIO_INPUT),
    llmb_usage_count(LLMB_NODE_OUTPUT, "reasoning_tokens",
                     LLMB_USAGE_REASONING),
    llmb_usage_count(LLMB_NODE_OUTPUT, "audio_tokens",
                     LLMB_USAGE_AUDIO_OUTPUT),

    /* Mistral, Writer */
    llmb_usage_inner(LLMB_NODE_USAGE, "prompt_token_details",
                     LLMB_NODE_INPUT),

    /* DeepSeek, Together, Mistral */
    llmb_usage_cached(LLMB_NODE_USAGE, "prompt_cache_hit_tokens"),
    llmb_usage_cached(LLMB_NODE_USAGE, "cached_tokens"),
    llmb_usage_cached(LLMB_NODE_USAGE, "num_cached_tokens"),

    /* OpenRouter */
    llmb_usage_inner(LLMB_NODE_USAGE, "server_tool_use", LLMB_NODE_SERVER),
    llmb_usage_inner(LLMB_NODE_USAGE, "server_tool_use_details",
                     LLMB_NODE_SERVER),
    llmb_usage_count(LLMB_NODE_SERVER, "web_search_requests",
                     LLMB_USAGE_SEARCHES),

    /* what was generated; Writer repeats the message in its chunks */

    llmb_usage_row(LLMB_NODE_CHOICES, "[]", LLMB_NODE_CHOICE, LLMB_DO_CHOICE,
                   0, 0),
    llmb_usage_inner(LLMB_NODE_CHOICE, "delta", LLMB_NODE_DELTA),
    llmb_usage_row(LLMB_NODE_CHOICE, "message", LLMB_NODE_DELTA,
                   LLMB_DO_NOTHING, 0, LLMB_ROW_DOCUMENT),
    llmb_usage_leaf(LLMB_NODE_CHOICE, "text", LLMB_DO_TEXT),
    llmb_usage_leaf(LLMB_NODE_CHOICE, "error", LLMB_DO_ERROR),

    llmb_usage_row(LLMB_NODE_DELTA, "content", LLMB_NODE_CONTENT,
                   LLMB_DO_TEXT, 0, 0),
    llmb_usage_leaf(LLMB_NODE_DELTA, "reasoning_content", LLMB_DO_REASONING),
    llmb_usage_leaf(LLMB_NODE_DELTA, "reasoning", LLMB_DO_REASONING),
    llmb_usage_leaf(LLMB_NODE_DELTA, "refusal", LLMB_DO_TEXT),
    llmb_usage_inner(LLMB_NODE_DELTA, "audio", LLMB_NODE_AUDIO),
    llmb_usage_inner(LLMB_NODE_DELTA, "function_call", LLMB_NODE_FUNCTION),
    llmb_usage_inner(LLMB_NODE_DELTA, "tool_calls", LLMB_NODE_CALLS),
    llmb_usage_inner(LLMB_NODE_CALLS, "[]", LLMB_NODE_CALL),
    llmb_usage_inner(LLMB_NODE_CALL, "function", LLMB_NODE_FUNCTION),
    llmb_usage_inner(LLMB_NODE_CALL, "custom", LLMB_NODE_FUNCTION),
    llmb_usage_leaf(LLMB_NODE_FUNCTION, "arguments", LLMB_DO_TEXT),
    llmb_usage_leaf(LLMB_NODE_FUNCTION, "input", LLMB_DO_TEXT),
    llmb_usage_leaf(LLMB_NODE_AUDIO, "transcript", LLMB_DO_TEXT),

    /* Mistral's content in parts */
    llmb_usage_inner(LLMB_NODE_CONTENT, "[]", LLMB_NODE_PART),
    llmb_usage_leaf(LLMB_NODE_PART, "text", LLMB_DO_TEXT),
    llmb_usage_leaf(LLMB_NODE_PART, "refusal", LLMB_DO_TEXT),
    llmb_usage_row(LLMB_NODE_PART, "thinking", LLMB_NODE_CONTENT,
                   LLMB_DO_TEXT, 0, 0)
};


static const llmb_usage_name_t  llmb_usage_openai_names[] = {
    llmb_usage_name(LLMB_WHAT_TYPE, "error", LLMB_NAME_ERROR)
};


const llmb_usage_dialect_t  llmb_usage_chat = {
    llmb_usage_openai_rows,
    sizeof(llmb_usage_openai_rows) / sizeof(llmb_usage_row_t),
    llmb_usage_openai_names,
    sizeof(llmb_usage_openai_names) / sizeof(llmb_usage_name_t),
    LLMB_NODE_MESSAGE,
    LLMB_NODE_MESSAGE,
    1,
    1,
    llmb_usage_openai_result
};


const llmb_usage_dialect_t  llmb_usage_completions = {
    llmb_usage_openai_rows,
    sizeof(llmb_usage_openai_rows) / sizeof(llmb_usage_row_t),
    llmb_usage_openai_names,
    sizeof(llmb_usage_openai_names) / sizeof(llmb_usage_name_t),
    LLMB_NODE_MESSAGE,
    LLMB_NODE_MESSAGE,
    1,
    1,
    llmb_usage_openai_result
};


const llmb_usage_dialect_t  llmb_usage_embeddings = {
    llmb_usage_openai_rows,
    sizeof(llmb_usage_openai_rows) / sizeof(llmb_usage_row_t),
    llmb_usage_openai_names,
    sizeof(llmb_usage_openai_names) / sizeof(llmb_usage_name_t),
    LLMB_NODE_MESSAGE,
    LLMB_NODE_MESSAGE,
    0,
    1,
    llmb_usage_embeddings_result
};


/* completion_tokens is missing when no text was produced (6.3) */

static llmb_rc_e
llmb_usage_openai_result(const llmb_usage_reader_t *reader, unsigned cache_1h,
    llmb_usage_t *usage)
{
    unsigned  i, need;

    (void) cache_1h;

    need = llmb_usage_bit(LLMB_USAGE_INPUT) | llmb_usage_bit(LLMB_USAGE_OUTPUT);

    if ((reader->bad & need) || reader->split.bad
        || !(usage->counts.present & llmb_usage_bit(LLMB_USAGE_INPUT)))
    {
        return LLMB_DECLINED;
    }

    usage->counts.present |= llmb_usage_bit(LLMB_USAGE_OUTPUT);

    /* a breakdown has replaced the counts to which the total belongs */

    if (!reader->split.listed) {
        llmb_usage_surplus(&usage->counts, &usage->flags);
    }

    llmb_usage_clamp(&usage->counts, &usage->flags);

    for (i = 0; i < usage->n_extra; i++) {
        llmb_usage_surplus(&usage->extra[i].counts, &usage->flags);
        llmb_usage_clamp(&usage->extra[i].counts, &usage->flags);
    }

    return LLMB_OK;
}


/* some have a total only; there is no output to which a surplus could go */

static llmb_rc_e
llmb_usage_embeddings_result(const llmb_usage_reader_t *reader,
    unsigned cache_1h, llmb_usage_t *usage)
{
    int64_t               surplus;
    llmb_usage_counts_t  *counts;

    counts = &usage->counts;

    if (!(counts->present & llmb_usage_bit(LLMB_USAGE_TOTAL))) {
        return llmb_usage_openai_result(reader, cache_1h, usage);
    }

    surplus = counts->n[LLMB_USAGE_TOTAL] - counts->n[LLMB_USAGE_INPUT]
              - counts->n[LLMB_USAGE_OUTPUT];

    if (surplus > 0) {

        if (counts->present & llmb_usage_bit(LLMB_USAGE_INPUT)) {
            usage->flags |= LLMB_USAGE_SURPLUS;
        }

        counts->n[LLMB_USAGE_INPUT] += surplus;
    }

    counts->present |= llmb_usage_bit(LLMB_USAGE_INPUT);

    return llmb_usage_openai_result(reader, cache_1h, usage);
}


void
llmb_usage_clamp(llmb_usage_counts_t *counts, unsigned *flags)
{
    int64_t  room;

    room = counts->n[LLMB_USAGE_INPUT];

    if (counts->n[LLMB_USAGE_CACHED_READ] > room) {
        counts->n[LLMB_USAGE_CACHED_READ] = room;
        *flags |= LLMB_USAGE_CLAMPED;
    }

    room -= counts->n[LLMB_USAGE_CACHED_READ];

    if (counts->n[LLMB_USAGE_CACHE_WRITE] > room) {
        counts->n[LLMB_USAGE_CACHE_WRITE] = room;
        *flags |= LLMB_USAGE_CLAMPED;
    }

    counts->n[LLMB_USAGE_CACHE_WRITE_5M] = counts->n[LLMB_USAGE_CACHE_WRITE];
    counts->n[LLMB_USAGE_CACHE_WRITE_1H] = 0;
}


void
llmb_usage_surplus(llmb_usage_counts_t *counts, unsigned *flags)
{
    int64_t  surplus;

    surplus = counts->n[LLMB_USAGE_TOTAL] - counts->n[LLMB_USAGE_INPUT]
              - counts->n[LLMB_USAGE_OUTPUT];

    if (surplus <= 0) {
        return;
    }

    *flags |= LLMB_USAGE_SURPLUS;

    if (surplus == counts->n[LLMB_USAGE_AUDIO_INPUT]) {
        counts->n[LLMB_USAGE_INPUT] += surplus;
        return;
    }

    counts->n[LLMB_USAGE_OUTPUT] += surplus;

    /* xAI says so itself; Gemini's thoughts are in the total only */

    if (!(counts->present & llmb_usage_bit(LLMB_USAGE_REASONING))) {
        counts->n[LLMB_USAGE_REASONING] = surplus;
        counts->present |= llmb_usage_bit(LLMB_USAGE_REASONING);
    }
}
