
/*
 * Copyright (C) the ngx_http_llm_budget_module authors
 *
 * What a request that was read says: its ceiling, its answers, and the bytes
 * of its members.
 */


#include "core/llmb_request.h"


/* completions: the provider's own default of max_tokens */
#define LLMB_REQUEST_DEF_TOKENS 16


static const llmb_request_int_t  llmb_request_def_tokens = {
    { 0, 0 }, LLMB_REQUEST_DEF_TOKENS, 1
};


static const llmb_request_int_t  llmb_request_no_output = { { 0, 0 }, 0, 1 };


const llmb_request_int_t *
llmb_request_ceiling(const llmb_request_t *req, const char **name)
{
    const llmb_request_int_t  *ceiling;

    ceiling = &req->max_tokens;
    *name = "max_tokens";

    switch ((unsigned) req->dialect) {

    case LLMB_DIALECT_CHAT:
        if (req->max_completion_tokens.is_set || !req->max_tokens.is_set) {
            *name = "max_completion_tokens";

            /* which of both counts differs by provider */

            if (!req->max_tokens.is_set
                || req->max_completion_tokens.value >= req->max_tokens.value)
            {
                ceiling = &req->max_completion_tokens;
            }
        }

        break;

    case LLMB_DIALECT_RESPONSES:
        ceiling = &req->max_output_tokens;
        *name = "max_output_tokens";
        break;

    case LLMB_DIALECT_COMPLETIONS:
        if (!req->max_tokens.is_set) {
            ceiling = &llmb_request_def_tokens;
        }

        break;

    case LLMB_DIALECT_EMBEDDINGS:
        ceiling = &llmb_request_no_output;
        *name = NULL;
        break;

    default: /* LLMB_DIALECT_MESSAGES */
        break;
    }

    return ceiling->is_set ? ceiling : NULL;
}


llmb_rc_e
llmb_request_answers(const llmb_request_t *req, int64_t *answers)
{
    int64_t  n;

    n = 1;

    if (req->dialect == LLMB_DIALECT_CHAT
        || req->dialect == LLMB_DIALECT_COMPLETIONS)
    {
        if (req->n.is_set && req->n.value > n) {
            n = req->n.value;
        }
    }

    if (req->dialect == LLMB_DIALECT_COMPLETIONS) {

        if (req->best_of.is_set && req->best_of.value > n) {
            n = req->best_of.value;
        }

        if (req->prompts > 1) {

            if (req->prompts > (uint64_t) (INT64_MAX / n)) {
                return LLMB_OVERFLOW;
            }

            n *= (int64_t) req->prompts;
        }
    }

    *answers = n;

    return LLMB_OK;
}


/*
 * Members before the first one kept take the comma after them along, all
 * others the comma before; so neighbors touch and never overlap.
 */

void
llmb_request_member_cut(const llmb_request_t *req,
    const unsigned char drop[LLMB_REQUEST_MEMBERS], unsigned i,
    llmb_range_t *cut)
{
    unsigned                      j;
    const llmb_request_member_t  *member;

    member = &req->members[i];

    cut->start = member->key_start;
    cut->end = member->end;

    for (j = 0; j < i; j++) {
        if (!drop[j]) {
            cut->start = member[-1].end;
            return;
        }
    }

    /* i is in the run that begins the object */

    if (i + 1 < req->n_members) {
        cut->end = member[1].key_start;
    }
}


int
llmb_request_member_find(const llmb_request_t *req, const llmb_str_t *name)
{
    uint32_t  hash;
    unsigned  i;

    if (name->len > LLMB_JSON_TEXT) {
        return -1;
    }

    hash = llmb_request_hash(name->data, name->len);

    for (i = 0; i < req->n_members; i++) {
        if (req->members[i].name_hash == hash
            && req->members[i].name_len == name->len)
        {
            return (int) i;
        }
    }

    return -1;
}


/* FNV-1a */

uint32_t
llmb_request_hash(const unsigned char *p, size_t len)
{
    size_t    i;
    uint32_t  hash;

    hash = 2166136261u;

    for (i = 0; i < len; i++) {
        hash = (hash ^ p[i]) * 16777619u;
    }

    return hash;
}


const char *
llmb_request_error_text(llmb_request_error_e error)
{
    switch (error) {

    case LLMB_REQUEST_OK:
        return "no error";

    case LLMB_REQUEST_NOT_JSON:
        return "not valid JSON";

    case LLMB_REQUEST_NOT_OBJECT:
        return "not a JSON object";

    case LLMB_REQUEST_TOO_DEEP:
        return "nested too deeply";

    case LLMB_REQUEST_TOO_MANY:
        return "too many members";

    case LLMB_REQUEST_DUPLICATE:
        return "duplicate member";

    case LLMB_REQUEST_LOOKALIKE:
        return "ambiguous member name";

    case LLMB_REQUEST_BAD_TYPE:
        return "wrong type or content";

    case LLMB_REQUEST_BAD_NUMBER:
        return "number out of range";

    case LLMB_REQUEST_TOO_LONG:
        return "name too long";

    case LLMB_REQUEST_NO_MODEL:
        return "missing member";

    case LLMB_REQUEST_BACKGROUND:
        return "background mode is not supported";
    }

    return "unknown error";
}
