
/*
 * Copyright (C) the ngx_http_llm_budget_module authors
 *
 * Where the scanner is in an answer, and what its tokens mean there: the
 * dialect's table of places at work.
 */


#include "core/llmb_usage_dialect.h"

#include <string.h>


static const llmb_usage_row_t *llmb_usage_find(
    const llmb_usage_reader_t *reader, unsigned parent, const void *name,
    size_t len);
static void llmb_usage_open(llmb_usage_reader_t *reader,
    const llmb_usage_row_t *row, const llmb_json_token_t *token);
static void llmb_usage_close(llmb_usage_reader_t *reader,
    const llmb_json_token_t *token);
static void llmb_usage_value(llmb_usage_reader_t *reader,
    const llmb_usage_row_t *row, const llmb_json_token_t *token);
static void llmb_usage_chunk(llmb_usage_reader_t *reader, unsigned fits,
    unsigned flag);
static void llmb_usage_string(llmb_usage_reader_t *reader,
    const llmb_usage_row_t *row, const llmb_json_token_t *token);
static void llmb_usage_names(llmb_usage_reader_t *reader,
    const llmb_usage_row_t *row, const llmb_json_token_t *token);
static void llmb_usage_number(llmb_usage_reader_t *reader,
    const llmb_usage_row_t *row, const llmb_json_token_t *token);
static void llmb_usage_sampling(llmb_usage_reader_t *reader);


llmb_rc_e
llmb_usage_token(void *data, const llmb_json_token_t *token)
{
    unsigned                 parent;
    llmb_usage_reader_t     *reader;
    const llmb_usage_row_t  *row;

    reader = data;

    if (token->depth > reader->skip_depth) {
        return LLMB_OK;
    }

    if (token->type == LLMB_JSON_OBJECT_END
        || token->type == LLMB_JSON_ARRAY_END)
    {
        llmb_usage_close(reader, token);
        return LLMB_OK;
    }

    parent = token->depth ? reader->path[token->depth - 1] : LLMB_NODE_NONE;

    if (token->type == LLMB_JSON_KEY) {
        reader->mark = token->end;
        reader->row = (token->text_len == token->text.len)
                      ? llmb_usage_find(reader, parent, token->text.data,
                                        token->text.len)
                      : NULL;
        return LLMB_OK;
    }

    row = reader->row;
    reader->row = NULL;

    if (parent & LLMB_USAGE_ARRAY) {
        row = llmb_usage_find(reader, parent & ~(unsigned) LLMB_USAGE_ARRAY,
                              "[]", 2);
    }

    if (token->type == LLMB_JSON_OBJECT || token->type == LLMB_JSON_ARRAY) {
        llmb_usage_open(reader, row, token);

    } else if (row != NULL) {
        llmb_usage_value(reader, row, token);
    }

    return LLMB_OK;
}


static const llmb_usage_row_t *
llmb_usage_find(const llmb_usage_reader_t *reader, unsigned parent,
    const void *name, size_t len)
{
    size_t                   i;
    const llmb_usage_row_t  *row;

    for (i = 0; i < reader->dialect->n_rows; i++) {
        row = &reader->dialect->rows[i];

        if ((unsigned) row->parent == parent && row->len == len
            && memcmp(row->name, name, len) == 0)
        {
            if ((row->flags & LLMB_ROW_DOCUMENT)
                && reader->framing == LLMB_FRAMING_EVENTS)
            {
                return NULL;
            }

            return row;
        }
    }

    return NULL;
}


static void
llmb_usage_open(llmb_usage_reader_t *reader, const llmb_usage_row_t *row,
    const llmb_json_token_t *token)
{
    unsigned           array;
    llmb_usage_node_e  node;

    array = (token->type == LLMB_JSON_ARRAY) ? LLMB_USAGE_ARRAY : 0;
    node = LLMB_NODE_NONE;

    if (row != NULL) {
        node = row->node;

    } else if (token->depth == 0 && !array) {
        node = (reader->framing == LLMB_FRAMING_EVENTS)
               ? reader->dialect->event : reader->dialect->document;
    }

    if (row != NULL) {
        llmb_usage_value(reader, row, token);
    }

    if (node == LLMB_NODE_NONE) {
        reader->skip_depth = token->depth;
        return;
    }

    if (node == LLMB_NODE_DELTA) {
        reader->next_reasoning = 0;

    } else if (node == LLMB_NODE_SAMPLING && !array) {
        reader->in_sampling = 1;
        reader->sampling_inside = reader->dialect->inside;
        memset(&reader->sampling.counts, 0, sizeof(llmb_usage_counts_t));
        reader->sampling.model_len = 0;
    }

    reader->path[token->depth] = (unsigned char) ((unsigned) node | array);
}


static void
llmb_usage_close(llmb_usage_reader_t *reader, const llmb_json_token_t *token)
{
    unsigned  node;

    if (token->depth == reader->skip_depth) {
        reader->skip_depth = LLMB_USAGE_NO_SKIP;

        if (reader->next_flags & LLMB_NEXT_RAW) {
            reader->next_flags &= ~(unsigned) LLMB_NEXT_RAW;
            llmb_usage_text(reader, token->end - reader->mark);
        }

        return;
    }

    node = reader->path[token->depth];

    if (node == LLMB_NODE_SAMPLING) {
        reader->in_sampling = 0;
        llmb_usage_sampling(reader);

    } else if (node == LLMB_NODE_USAGE && !reader->in_sampling) {
        reader->next_flags |= LLMB_NEXT_USAGE_END;
    }

    if (token->depth == 0) {
        llmb_usage_take(reader);
    }
}


/* A value that has a place, the beginning of a container included. */

static void
llmb_usage_value(llmb_usage_reader_t *reader, const llmb_usage_row_t *row,
    const llmb_json_token_t *token)
{
    unsigned  object, array;

    object = (token->type == LLMB_JSON_OBJECT);
    array = (token->type == LLMB_JSON_ARRAY);

    switch (row->action) {

    case LLMB_DO_COUNT:
        llmb_usage_number(reader, row, token);
        break;

    case LLMB_DO_ERROR:

        /* a boolean or a number is no error we know of */

        if (object || array
            || (token->type == LLMB_JSON_STRING && token->text_len != 0))
        {
            reader->seen |= LLMB_SEEN_ERROR;
            reader->event_plain = 1;
        }

        break;

    case LLMB_DO_USAGE:
        llmb_usage_chunk(reader, object, LLMB_NEXT_USAGE);
        break;

    case LLMB_DO_CHOICES:
        llmb_usage_chunk(reader, array, LLMB_NEXT_CHOICES);
        break;

    case LLMB_DO_CHOICE:
        reader->event_plain = 1;
        break;

    case LLMB_DO_ITEMS:
        reader->next_flags |= array ? LLMB_NEXT_ITEMS : 0;
        break;

    case LLMB_DO_SAMPLINGS:

        if (array) {
            memset(&reader->next_split, 0, sizeof(llmb_usage_split_t));
            reader->next_split.listed = 1;
            reader->next.n_extra = 0;
        }

        break;

    case LLMB_DO_RAW:

        if (object || array) {
            reader->mark = token->start;
            reader->next_flags |= LLMB_NEXT_RAW;
        }

        break;

    case LLMB_DO_MODEL:
    case LLMB_DO_TIER:
    case LLMB_DO_NAME:
    case LLMB_DO_TEXT:
    case LLMB_DO_REASONING:
    case LLMB_DO_DELTA:

        if (token->type == LLMB_JSON_STRING) {
            llmb_usage_string(reader, row, token);
        }

        break;

    case LLMB_DO_NOTHING:
    default:
        break;
    }
}


/* A part of what makes a usage-only chunk, or it is none (T09). */

static void
llmb_usage_chunk(llmb_usage_reader_t *reader, unsigned fits, unsigned flag)
{
    if (fits) {
        reader->next_flags |= flag;

    } else {
        reader->event_plain = 1;
    }
}


static void
llmb_usage_string(llmb_usage_reader_t *reader, const llmb_usage_row_t *row,
    const llmb_json_token_t *token)
{
    size_t  len;

    len = token->text.len;

    if (row->action == LLMB_DO_TEXT) {
        llmb_usage_text(reader, token->text_len);

    } else if (row->action == LLMB_DO_REASONING) {

        if (token->text_len > reader->next_reasoning) {
            llmb_usage_text(reader, token->text_len - reader->next_reasoning);
            reader->next_reasoning = token->text_len;
        }

    } else if (row->action == LLMB_DO_DELTA) {
        reader->next_delta = token->text_len;

    } else if (row->action == LLMB_DO_NAME) {
        llmb_usage_names(reader, row, token);

    } else if (row->action == LLMB_DO_TIER) {

        /* a name that is too long has no price, cut or not */

        if (len > LLMB_TIER_LEN) {
            len = LLMB_TIER_LEN;
        }

        reader->next.tier_len = len;
        memcpy(reader->next.tier, token->text.data, len);

    } else if (len == token->text_len && len <= LLMB_MODEL_LEN) {

        /* row->action == LLMB_DO_MODEL */

        if (reader->in_sampling) {
            reader->sampling.model_len = len;
            memcpy(reader->sampling.model, token->text.data, len);

        } else {
            reader->next.model_len = len;
            memcpy(reader->next.model, token->text.data, len);
        }
    }
}


static void
llmb_usage_names(llmb_usage_reader_t *reader, const llmb_usage_row_t *row,
    const llmb_json_token_t *token)
{
    size_t                    i;
    unsigned                  bits;
    const llmb_usage_name_t  *name;

    bits = 0;

    for (i = 0; i < reader->dialect->n_names; i++) {
        name = &reader->dialect->names[i];

        if ((unsigned) name->what == row->arg && name->len == token->text_len
            && memcmp(name->name, token->text.data, name->len) == 0)
        {
            bits = name->bits;
            break;
        }
    }

    if (row->arg == LLMB_WHAT_SAMPLING) {
        reader->sampling_inside = (bits & LLMB_NAME_INSIDE) != 0;
        return;
    }

    if (bits & LLMB_NAME_SEARCH) {
        reader->next_searches++;
    }

    if (bits & LLMB_NAME_ERROR) {
        reader->seen |= LLMB_SEEN_ERROR;
        reader->event_plain = 1;
    }

    reader->next_names |= bits;
}


/* A count: a whole number that is not negative (T59); null is absent. */

static void
llmb_usage_number(llmb_usage_reader_t *reader, const llmb_usage_row_t *row,
    const llmb_json_token_t *token)
{
    int64_t               n;
    unsigned              bit;
    llmb_usage_counts_t  *counts;

    if (token->type == LLMB_JSON_NULL) {
        return;
    }

    bit = llmb_usage_bit(row->arg);

    if (token->type != LLMB_JSON_NUMBER
        || llmb_json_int(token, &n) != LLMB_OK
        || n < 0 || n > LLMB_USAGE_INT_MAX)
    {
        reader->next.flags |= LLMB_USAGE_BAD_VALUE;

        if (reader->in_sampling) {
            reader->next_split.bad = 1;

        } else {
            reader->next_bad |= bit;
        }

        return;
    }

    counts = reader->in_sampling ? &reader->sampling.counts
                                 : &reader->next.counts;

    if ((row->flags & LLMB_ROW_MAX) && (counts->present & bit)
        && counts->n[row->arg] > n)
    {
        return;
    }

    counts->n[row->arg] = n;
    counts->present |= bit;
}


void
llmb_usage_text(llmb_usage_reader_t *reader, uint64_t n)
{
    if (n == 0) {
        return;
    }

    reader->seen |= LLMB_SEEN_CONTENT;
    reader->content_bytes += n;

    if (!(reader->next_flags & LLMB_NEXT_TEXT)) {
        reader->next_flags |= LLMB_NEXT_TEXT;
        reader->content_deltas++;
    }
}


/* A sampling has been read (trap 2). */

static void
llmb_usage_sampling(llmb_usage_reader_t *reader)
{
    unsigned             i;
    llmb_usage_split_t  *split;
    llmb_usage_extra_t  *sampling;

    split = &reader->next_split;
    sampling = &reader->sampling;

    for (i = 0; i < LLMB_USAGE_FIELDS; i++) {

        if (sampling->counts.n[i] != 0) {
            break;
        }
    }

    if (i == LLMB_USAGE_FIELDS) {
        return;
    }

    if (reader->sampling_inside) {
        llmb_usage_plus(&split->sum, &sampling->counts);

        if (sampling->model_len == 0) {
            return;
        }
    }

    if (reader->next.n_extra == LLMB_USAGE_EXTRA) {
        reader->next.flags |= LLMB_USAGE_CROWDED;

        if (!reader->sampling_inside) {
            llmb_usage_plus(&split->rest, &sampling->counts);
        }

        return;
    }

    if (reader->sampling_inside) {
        split->inside |= llmb_usage_bit(reader->next.n_extra);
    }

    reader->next.extra[reader->next.n_extra++] = *sampling;
}
