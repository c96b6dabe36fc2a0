
/*
 * Copyright (C) the ngx_http_llm_budget_module authors
 *
 * The request reader: a table of the keys we know at each place, and a stack
 * of places.  What is not in the table is text, and text is counted.
 */


#include "core/llmb_request_reader.h"

#include <string.h>


static llmb_rc_e llmb_request_result(llmb_request_t *req, llmb_rc_e rc);
static llmb_rc_e llmb_request_token(void *data,
    const llmb_json_token_t *token);
static llmb_rc_e llmb_request_key(llmb_request_t *req,
    const llmb_json_token_t *token);
static llmb_rc_e llmb_request_member_add(llmb_request_t *req,
    const llmb_json_token_t *token);
static llmb_rc_e llmb_request_value(llmb_request_t *req,
    const llmb_json_token_t *token);
static void llmb_request_count(llmb_request_t *req,
    const llmb_json_token_t *token);
static void llmb_request_open(llmb_request_t *req,
    const llmb_json_token_t *token, unsigned key);
static void llmb_request_close(llmb_request_t *req,
    const llmb_json_token_t *token);


void
llmb_request_init(llmb_request_t *req, llmb_dialect_e dialect)
{
    memset(req, 0, offsetof(llmb_request_t, json));

    req->dialect = dialect;
    req->seen = 0;
    req->key = LLMB_KEY_NONE;
    req->source_depth = 0;
    req->source_len = 0;
    req->stored_prompt = 0;
    req->user_top = 0;
    req->tool_hosted = 0;
    req->tool_search = 0;
    req->unbounded = 0;

    memset(&req->tool_uses, 0, sizeof(llmb_request_int_t));

    llmb_json_init(&req->json, 0, LLMB_REQUEST_DEPTH, llmb_request_token,
                   req);
}


llmb_rc_e
llmb_request_feed(llmb_request_t *req, const unsigned char *p, size_t len)
{
    if (req->error != LLMB_REQUEST_OK) {
        return LLMB_INVALID;
    }

    return llmb_request_result(req, llmb_json_feed(&req->json, p, len));
}


llmb_rc_e
llmb_request_end(llmb_request_t *req)
{
    llmb_rc_e  rc;

    if (req->error != LLMB_REQUEST_OK) {
        return LLMB_INVALID;
    }

    rc = llmb_request_result(req, llmb_json_end(&req->json));
    if (rc != LLMB_OK) {
        return rc;
    }

    if (req->model_len == 0
        && !(req->dialect == LLMB_DIALECT_RESPONSES && req->stored_prompt))
    {
        return llmb_request_fail(req, LLMB_REQUEST_NO_MODEL,
                                 req->object_start, LLMB_KEY_MODEL);
    }

    return LLMB_OK;
}


/* The scanner's result as ours. */

static llmb_rc_e
llmb_request_result(llmb_request_t *req, llmb_rc_e rc)
{
    if (rc == LLMB_OK || rc == LLMB_AGAIN) {
        return rc;
    }

    if (req->error == LLMB_REQUEST_OK) {
        (void) llmb_request_fail(req, rc == LLMB_LIMIT
                                          ? LLMB_REQUEST_TOO_DEEP
                                          : LLMB_REQUEST_NOT_JSON,
                                 req->json.offset, LLMB_KEY_NONE);
    }

    return LLMB_INVALID;
}


static llmb_rc_e
llmb_request_token(void *data, const llmb_json_token_t *token)
{
    llmb_request_t  *req;

    req = data;

    if (token->depth > LLMB_REQUEST_DEPTH) {
        return llmb_request_fail(req, LLMB_REQUEST_TOO_DEEP, token->start,
                                 LLMB_KEY_NONE);
    }

    switch ((unsigned) token->type) {

    case LLMB_JSON_KEY:
        return llmb_request_key(req, token);

    case LLMB_JSON_OBJECT_END:
    case LLMB_JSON_ARRAY_END:
        llmb_request_close(req, token);
        return LLMB_OK;

    default:
        return llmb_request_value(req, token);
    }
}


static llmb_rc_e
llmb_request_key(llmb_request_t *req, const llmb_json_token_t *token)
{
    uint64_t                     bit;
    unsigned                     in, key, exact;
    llmb_rc_e                    rc;
    const llmb_request_place_t  *place;

    in = req->path[token->depth] & LLMB_IN_MASK;
    place = &llmb_request_places[in];

    req->text_bytes += token->text_len;

    if (in == LLMB_IN_TOP) {
        rc = llmb_request_member_add(req, token);
        if (rc != LLMB_OK) {
            return rc;
        }

    } else if (in == LLMB_IN_STREAM_OPTIONS) {
        req->stream_options_empty = 0;
    }

    key = llmb_request_key_find(place, token, &exact);

    if (key != LLMB_KEY_NONE && !exact) {

        if (place->governed) {
            return llmb_request_fail(req, LLMB_REQUEST_LOOKALIKE,
                                     token->start, key);
        }

        if (in == LLMB_IN_SOURCE) {
            /* who knows what the provider makes of it: it stays text */
            req->path[token->depth] |= LLMB_SEEN_NOT_BASE64;
        }

        key = LLMB_KEY_NONE;
    }

    if (key != LLMB_KEY_NONE && place->governed) {
        bit = (uint64_t) 1 << key;

        if (req->seen & bit) {
            return llmb_request_fail(req, LLMB_REQUEST_DUPLICATE,
                                     token->start, key);
        }

        req->seen |= bit;
    }

    if (key == LLMB_KEY_NONE && llmb_request_is(token, "cache_control")) {
        key = LLMB_KEY_CACHE_CONTROL;
    }

    req->key = key;

    return LLMB_OK;
}


static llmb_rc_e
llmb_request_member_add(llmb_request_t *req, const llmb_json_token_t *token)
{
    llmb_request_member_t  *member;

    if (req->n_members == LLMB_REQUEST_MEMBERS) {
        return llmb_request_fail(req, LLMB_REQUEST_TOO_MANY, token->start,
                                 LLMB_KEY_NONE);
    }

    member = &req->members[req->n_members++];

    member->key_start = token->start;
    member->end = token->end;
    member->name_hash = llmb_request_hash(token->text.data, token->text.len);
    member->name_len = (uint16_t) (token->text_len < UINT16_MAX
                                   ? token->text_len : UINT16_MAX);

    return LLMB_OK;
}


static llmb_rc_e
llmb_request_value(llmb_request_t *req, const llmb_json_token_t *token)
{
    unsigned   in, key;
    llmb_rc_e  rc;

    key = req->key;
    req->key = LLMB_KEY_NONE;

    if (token->depth == 0) {
        if (token->type != LLMB_JSON_OBJECT) {
            return llmb_request_fail(req, LLMB_REQUEST_NOT_OBJECT,
                                     token->start, LLMB_KEY_NONE);
        }

        req->object_start = token->start;
        req->path[0] = LLMB_IN_OTHER;
        req->path[1] = LLMB_IN_TOP;

        return LLMB_OK;
    }

    in = req->path[token->depth] & LLMB_IN_MASK;

    /* other models, which nobody judged: the list must be empty */

    if (in == LLMB_IN_FALLBACKS || in == LLMB_IN_MODELS) {
        return llmb_request_fail(req, LLMB_REQUEST_BAD_TYPE, token->start,
                                 in == LLMB_IN_MODELS ? LLMB_KEY_MODELS
                                                      : LLMB_KEY_FALLBACKS);
    }

    if ((llmb_request_keys[key].types & LLMB_REQUEST_BIT(token->type)) == 0) {
        return llmb_request_fail(req, LLMB_REQUEST_BAD_TYPE, token->start,
                                 key);
    }

    llmb_request_count(req, token);

    rc = llmb_request_act(req, token, key);
    if (rc != LLMB_OK) {
        return rc;
    }

    if (token->type == LLMB_JSON_OBJECT || token->type == LLMB_JSON_ARRAY) {

        if (token->depth >= LLMB_REQUEST_DEPTH) {
            return llmb_request_fail(req, LLMB_REQUEST_TOO_DEEP, token->start,
                                     LLMB_KEY_NONE);
        }

        llmb_request_open(req, token, key);

    } else if (token->depth == 1) {
        req->members[req->n_members - 1].end = token->end;
    }

    return LLMB_OK;
}


/* Text, token ids, and the elements of the lists that are counted. */

static void
llmb_request_count(llmb_request_t *req, const llmb_json_token_t *token)
{
    unsigned  in, is_number, is_id;

    in = req->path[token->depth] & LLMB_IN_MASK;
    is_number = (token->type == LLMB_JSON_NUMBER);

    is_id = is_number && (in == LLMB_IN_INPUT || in == LLMB_IN_PROMPT
                          || in == LLMB_IN_TOKENS);

    if (is_id) {
        req->token_ids++;

    } else if (token->type == LLMB_JSON_STRING) {
        req->text_bytes += token->text_len;

    } else if (token->type != LLMB_JSON_OBJECT
               && token->type != LLMB_JSON_ARRAY)
    {
        req->text_bytes += token->end - token->start;
    }

    if (in == LLMB_IN_MESSAGES || (in == LLMB_IN_INPUT && !is_number)) {
        req->messages++;

    } else if (in == LLMB_IN_SERVERS) {
        llmb_request_hosted(req, 0, 0);

    } else if (in == LLMB_IN_PROMPT
               && req->dialect == LLMB_DIALECT_COMPLETIONS)
    {
        /* all bare token ids together are one prompt */

        if (!is_number) {
            req->prompts++;

        } else if ((req->path[token->depth] & LLMB_SEEN_TOKENS) == 0) {
            req->path[token->depth] |= LLMB_SEEN_TOKENS;
            req->prompts++;
        }
    }
}


/* The place inside an object or array that begins. */

static void
llmb_request_open(llmb_request_t *req, const llmb_json_token_t *token,
    unsigned key)
{
    unsigned                     in, inside, is_object;
    const llmb_request_key_t    *k;
    const llmb_request_place_t  *place;

    in = req->path[token->depth] & LLMB_IN_MASK;
    is_object = (token->type == LLMB_JSON_OBJECT);

    if (key != LLMB_KEY_NONE) {
        k = &llmb_request_keys[key];
        inside = is_object ? k->object : k->array;

    } else {
        place = &llmb_request_places[in];
        inside = is_object ? place->object : place->array;
    }

    /* media is looked for only where the dialect has it */

    if (inside == LLMB_IN_ITEM
        && !(in == LLMB_IN_MESSAGES
             && (req->dialect == LLMB_DIALECT_CHAT
                 || req->dialect == LLMB_DIALECT_MESSAGES))
        && !(in == LLMB_IN_INPUT && req->dialect == LLMB_DIALECT_RESPONSES))
    {
        inside = LLMB_IN_OTHER;
    }

    if (inside == LLMB_IN_TOOL) {
        req->seen &= ~(((uint64_t) 1 << LLMB_KEY_TOOL_TYPE)
                       | ((uint64_t) 1 << LLMB_KEY_MAX_USES));
        req->tool_hosted = 0;
        req->tool_search = 0;
        memset(&req->tool_uses, 0, sizeof(llmb_request_int_t));
    }

    req->path[token->depth + 1] = inside;
}


static void
llmb_request_close(llmb_request_t *req, const llmb_json_token_t *token)
{
    unsigned  path;

    if (token->depth == 0) {
        return;
    }

    path = req->path[token->depth + 1];

    switch (path & LLMB_IN_MASK) {

    case LLMB_IN_STREAM_OPTIONS:
        req->stream_options.end = token->end;
        break;

    case LLMB_IN_TOOL:
        if (req->tool_hosted) {
            llmb_request_hosted(req, req->tool_search, req->tool_uses.value);
        }

        break;

    case LLMB_IN_PART:
        llmb_request_close_part(req, path);
        break;

    case LLMB_IN_SOURCE:
        llmb_request_close_source(req, token->depth + 1);
        break;

    default:
        break;
    }

    if (token->depth == 1) {
        req->members[req->n_members - 1].end = token->end;
    }
}


llmb_rc_e
llmb_request_fail(llmb_request_t *req, llmb_request_error_e error,
    uint64_t offset, unsigned key)
{
    size_t                     len;
    const char                *name;
    const llmb_request_key_t  *k;

    req->error = error;
    req->error_offset = offset;

    k = &llmb_request_keys[key];
    name = k->blame ? k->blame : k->name;

    if (name) {
        len = strlen(name);

        if (len <= LLMB_NAME_LEN) {
            memcpy(req->error_name, name, len);
            req->error_name_len = len;
        }
    }

    return LLMB_INVALID;
}
