
/*
 * Copyright (C) the ngx_http_llm_budget_module authors
 *
 * The request reader: what the values of our keys say.
 */


#include "core/llmb_request_reader.h"

#include <string.h>


static void llmb_request_range(llmb_range_t *range,
    const llmb_json_token_t *token);
static llmb_rc_e llmb_request_int(llmb_request_t *req,
    const llmb_json_token_t *token, unsigned key);
static llmb_request_int_t *llmb_request_int_field(llmb_request_t *req,
    unsigned key);
static llmb_rc_e llmb_request_name(llmb_request_t *req,
    const llmb_json_token_t *token, unsigned key);
static llmb_rc_e llmb_request_prompt(llmb_request_t *req,
    const llmb_json_token_t *token);
static void llmb_request_user(llmb_request_t *req,
    const llmb_json_token_t *token, unsigned key);


llmb_rc_e
llmb_request_act(llmb_request_t *req, const llmb_json_token_t *token,
    unsigned key)
{
    unsigned  is_null;

    is_null = (token->type == LLMB_JSON_NULL);

    switch (key) {

    case LLMB_KEY_NONE:
        return LLMB_OK;

    case LLMB_KEY_MODEL:
    case LLMB_KEY_SERVICE_TIER:
        return llmb_request_name(req, token, key);

    case LLMB_KEY_STREAM:
        req->stream = (token->type == LLMB_JSON_TRUE);
        return LLMB_OK;

    case LLMB_KEY_STREAM_OPTIONS:
        llmb_request_range(&req->stream_options, token);
        req->stream_options_object = !is_null;
        req->stream_options_empty = !is_null;
        return LLMB_OK;

    case LLMB_KEY_INCLUDE_USAGE:
        llmb_request_range(&req->include_usage, token);
        req->include_usage_true = (token->type == LLMB_JSON_TRUE);
        return LLMB_OK;

    case LLMB_KEY_MAX_TOKENS:
    case LLMB_KEY_MAX_COMPLETION_TOKENS:
    case LLMB_KEY_MAX_OUTPUT_TOKENS:
    case LLMB_KEY_BUDGET_TOKENS:
    case LLMB_KEY_N:
    case LLMB_KEY_BEST_OF:
    case LLMB_KEY_MAX_USES:
        return llmb_request_int(req, token, key);

    case LLMB_KEY_PROMPT:
        return llmb_request_prompt(req, token);

    case LLMB_KEY_BACKGROUND:
        if (token->type == LLMB_JSON_TRUE) {
            return llmb_request_fail(req, LLMB_REQUEST_BACKGROUND,
                                     token->start, key);
        }

        return LLMB_OK;

    case LLMB_KEY_SPEED:

        /* several times the price, and the price map does not tell it */

        if (req->dialect == LLMB_DIALECT_MESSAGES && !is_null
            && (token->type != LLMB_JSON_STRING
                || !llmb_request_is(token, "standard")))
        {
            return llmb_request_fail(req, LLMB_REQUEST_BAD_TYPE, token->start,
                                     key);
        }

        return LLMB_OK;

    case LLMB_KEY_USER:
    case LLMB_KEY_USER_ID:
        llmb_request_user(req, token, key);
        return LLMB_OK;

    case LLMB_KEY_PREVIOUS_RESPONSE_ID:
    case LLMB_KEY_CONVERSATION:
        req->remote_input |= !is_null;
        return LLMB_OK;

    case LLMB_KEY_WEB_SEARCH_OPTIONS:
        if (!is_null) {
            llmb_request_hosted(req, 1, 0);
        }

        return LLMB_OK;

    case LLMB_KEY_TOOL_TYPE:
        llmb_request_tool_type(req, token);
        return LLMB_OK;

    case LLMB_KEY_CACHE_CONTROL:
        req->cache_control |= !is_null;
        return LLMB_OK;

    case LLMB_KEY_TTL:
        req->cache_1h |= !is_null && !llmb_request_is(token, "5m");
        return LLMB_OK;

    default:
        if (token->type == LLMB_JSON_STRING) {
            llmb_request_media(req, token, key);
        }

        return LLMB_OK;
    }
}


static void
llmb_request_range(llmb_range_t *range, const llmb_json_token_t *token)
{
    range->start = token->start;
    range->end = token->end;
}


static llmb_rc_e
llmb_request_int(llmb_request_t *req, const llmb_json_token_t *token,
    unsigned key)
{
    int64_t              value;
    llmb_request_int_t  *field;

    field = llmb_request_int_field(req, key);

    llmb_request_range(&field->range, token);

    if (token->type == LLMB_JSON_NULL) {
        return LLMB_OK;
    }

    if (llmb_json_int(token, &value) != LLMB_OK
        || value < 0
        || value > LLMB_REQUEST_INT_MAX
        || (value == 0 && (key == LLMB_KEY_N || key == LLMB_KEY_BEST_OF)))
    {
        return llmb_request_fail(req, LLMB_REQUEST_BAD_NUMBER, token->start,
                                 key);
    }

    field->value = value;
    field->is_set = 1;

    return LLMB_OK;
}


static llmb_request_int_t *
llmb_request_int_field(llmb_request_t *req, unsigned key)
{
    switch (key) {

    case LLMB_KEY_MAX_TOKENS:
        return &req->max_tokens;

    case LLMB_KEY_MAX_COMPLETION_TOKENS:
        return &req->max_completion_tokens;

    case LLMB_KEY_MAX_OUTPUT_TOKENS:
        return &req->max_output_tokens;

    case LLMB_KEY_BUDGET_TOKENS:
        return &req->thinking_budget;

    case LLMB_KEY_N:
        return &req->n;

    case LLMB_KEY_BEST_OF:
        return &req->best_of;

    default: /* LLMB_KEY_MAX_USES */
        return &req->tool_uses;
    }
}


/* model or service_tier */

static llmb_rc_e
llmb_request_name(llmb_request_t *req, const llmb_json_token_t *token,
    unsigned key)
{
    size_t         i, max;
    unsigned char  ch;

    if (token->type == LLMB_JSON_NULL) {
        return LLMB_OK;
    }

    max = (key == LLMB_KEY_MODEL) ? LLMB_MODEL_LEN : LLMB_TIER_LEN;

    if (token->text_len > max || token->text_len != token->text.len) {
        return llmb_request_fail(req, LLMB_REQUEST_TOO_LONG, token->start,
                                 key);
    }

    for (i = 0; i < token->text.len; i++) {
        ch = token->text.data[i];

        if (ch < 0x20 || ch == 0x7f) {
            return llmb_request_fail(req, LLMB_REQUEST_BAD_TYPE, token->start,
                                     key);
        }
    }

    if (key == LLMB_KEY_SERVICE_TIER) {
        memcpy(req->tier, token->text.data, token->text.len);
        req->tier_len = token->text.len;
        return LLMB_OK;
    }

    if (token->text.len == 0) {
        return llmb_request_fail(req, LLMB_REQUEST_BAD_TYPE, token->start,
                                 key);
    }

    memcpy(req->model, token->text.data, token->text.len);
    req->model_len = token->text.len;
    llmb_request_range(&req->model_range, token);

    return LLMB_OK;
}


static llmb_rc_e
llmb_request_prompt(llmb_request_t *req, const llmb_json_token_t *token)
{
    unsigned  completions;

    completions = (req->dialect == LLMB_DIALECT_COMPLETIONS);

    if (token->type == LLMB_JSON_OBJECT) {

        if (completions) {
            return llmb_request_fail(req, LLMB_REQUEST_BAD_TYPE, token->start,
                                     LLMB_KEY_PROMPT);
        }

        req->remote_input = 1;
        req->stored_prompt = 1;

    } else if (token->type == LLMB_JSON_STRING && completions) {
        req->prompts = 1;
    }

    return LLMB_OK;
}


/* "user" goes before "metadata.user_id"; a long one is cut. */

static void
llmb_request_user(llmb_request_t *req, const llmb_json_token_t *token,
    unsigned key)
{
    size_t                len;
    const unsigned char  *p;

    if (token->type == LLMB_JSON_NULL
        || (key == LLMB_KEY_USER_ID && req->user_top))
    {
        return;
    }

    p = token->text.data;
    len = token->text.len;

    if (len == 0) {
        return;
    }

    if (len > LLMB_NAME_LEN) {
        len = LLMB_NAME_LEN;

        /* not inside a character */

        while (len && (p[len] & 0xc0) == 0x80) {
            len--;
        }
    }

    memset(req->user, 0, LLMB_NAME_LEN);
    memcpy(req->user, p, len);

    req->user_len = len;
    req->user_top = (key == LLMB_KEY_USER);
}
