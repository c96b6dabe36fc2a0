
/*
 * Copyright (C) the ngx_http_llm_budget_module authors
 *
 * What a dialect of the usage reader consists of (private to llmb_usage*.c):
 * a table that says which member means what, a table of names, and a function
 * that folds the raw record into the normal form.
 */


#ifndef _NGX_HTTP_LLM_BUDGET_LLMB_USAGE_DIALECT_H_INCLUDED_
#define _NGX_HTTP_LLM_BUDGET_LLMB_USAGE_DIALECT_H_INCLUDED_


#include "core/llmb_usage.h"

#include <limits.h>


/* sums of counts stay below this, so that adding a few cannot overflow */
#define LLMB_USAGE_SUM_MAX      (INT64_MAX / 16)

#define llmb_usage_bit(field)   (1u << (unsigned) (field))


/* how the answer is framed */
#define LLMB_FRAMING_NONE       0
#define LLMB_FRAMING_DOCUMENT   1
#define LLMB_FRAMING_EVENTS     2

#define LLMB_USAGE_ARRAY        0x80        /* of a path element */
#define LLMB_USAGE_NO_SKIP      UINT_MAX

/* next_flags */
#define LLMB_NEXT_OPEN          0x01        /* an event is being read */
#define LLMB_NEXT_TAKEN         0x02        /* its JSON was complete */
#define LLMB_NEXT_BROKEN        0x04        /* is not JSON */
#define LLMB_NEXT_USAGE         0x08        /* has a usage object */
#define LLMB_NEXT_CHOICES       0x10        /* has an array of choices */
#define LLMB_NEXT_ITEMS         0x20        /* has a list of items */
#define LLMB_NEXT_TEXT          0x40        /* has generated text */
#define LLMB_NEXT_USAGE_END     0x80        /* the usage object is complete */
#define LLMB_NEXT_RAW           0x100       /* skips what is generated */


/* places in an answer; what is nowhere is skipped whole */

typedef enum {
    LLMB_NODE_NONE = 0,
    LLMB_NODE_EVENT,            /* the JSON of an event */
    LLMB_NODE_MESSAGE,          /* an answer as a whole */
    LLMB_NODE_USAGE,
    LLMB_NODE_INPUT,            /* details of the input */
    LLMB_NODE_OUTPUT,           /* details of the output */
    LLMB_NODE_CACHE,            /* details of the cache writes */
    LLMB_NODE_SERVER,           /* tools the provider ran */
    LLMB_NODE_SEARCH,
    LLMB_NODE_BREAKDOWN,
    LLMB_NODE_SAMPLINGS,
    LLMB_NODE_SAMPLING,
    LLMB_NODE_GROQ,
    LLMB_NODE_CHOICES,
    LLMB_NODE_CHOICE,
    LLMB_NODE_DELTA,
    LLMB_NODE_CONTENT,
    LLMB_NODE_PART,
    LLMB_NODE_CALLS,
    LLMB_NODE_CALL,
    LLMB_NODE_FUNCTION,
    LLMB_NODE_AUDIO,
    LLMB_NODE_ITEMS,
    LLMB_NODE_ITEM
} llmb_usage_node_e;


/* what to do with a value */

typedef enum {
    LLMB_DO_NOTHING = 0,        /* but go inside */
    LLMB_DO_COUNT,              /* arg: llmb_usage_field_e */
    LLMB_DO_MODEL,
    LLMB_DO_TIER,
    LLMB_DO_NAME,               /* arg: llmb_usage_what_e */
    LLMB_DO_TEXT,               /* generated text */
    LLMB_DO_REASONING,          /* the same under two names */
    LLMB_DO_RAW,                /* generated JSON */
    LLMB_DO_DELTA,              /* text if the event's type says so */
    LLMB_DO_ERROR,
    LLMB_DO_USAGE,              /* of a chunk */
    LLMB_DO_CHOICES,
    LLMB_DO_CHOICE,
    LLMB_DO_ITEMS,
    LLMB_DO_SAMPLINGS
} llmb_usage_action_e;


#define LLMB_ROW_DOCUMENT       0x01    /* not in event streams */
#define LLMB_ROW_MAX            0x02    /* one of several spellings */


typedef struct llmb_usage_row_s {
    llmb_usage_node_e       parent;
    llmb_usage_node_e       node;       /* of the value, if a container */
    llmb_usage_action_e     action;
    unsigned                arg;
    unsigned                flags;
    size_t                  len;
    const char             *name;       /* "[]": any element of an array */
} llmb_usage_row_t;


#define llmb_usage_row(parent, name, node, action, arg, flags)                \
    { parent, node, action, arg, flags, sizeof(name) - 1, name }

#define llmb_usage_count(parent, name, field)                                 \
    llmb_usage_row(parent, name, LLMB_NODE_NONE, LLMB_DO_COUNT, field, 0)

#define llmb_usage_inner(parent, name, node)                                  \
    llmb_usage_row(parent, name, node, LLMB_DO_NOTHING, 0, 0)

#define llmb_usage_leaf(parent, name, action)                                 \
    llmb_usage_row(parent, name, LLMB_NODE_NONE, action, 0, 0)


/* whose names they are */

typedef enum {
    LLMB_WHAT_TYPE = 0,         /* of an event or an answer */
    LLMB_WHAT_STATUS,
    LLMB_WHAT_ITEM,
    LLMB_WHAT_SAMPLING
} llmb_usage_what_e;


#define LLMB_NAME_FINAL         0x01
#define LLMB_NAME_ERROR         0x02
#define LLMB_NAME_TEXT          0x04    /* the "delta" is generated text */
#define LLMB_NAME_ITEM          0x08    /* the "item" is done */
#define LLMB_NAME_PENDING       0x10
#define LLMB_NAME_SEARCH        0x20
#define LLMB_NAME_INSIDE        0x40    /* in the top level counts, too */


typedef struct {
    llmb_usage_what_e       what;
    unsigned                bits;
    size_t                  len;
    const char             *name;
} llmb_usage_name_t;


#define llmb_usage_name(what, name, bits)                                     \
    { what, bits, sizeof(name) - 1, name }


struct llmb_usage_dialect_s {
    const llmb_usage_row_t     *rows;
    size_t                      n_rows;
    const llmb_usage_name_t    *names;
    size_t                      n_names;
    llmb_usage_node_e           document;   /* the top of a document */
    llmb_usage_node_e           event;      /* the top of an event */
    unsigned                    chunks;     /* has usage-only chunks */
    unsigned                    inside;     /* samplings are, unless named */

    /* usage is a copy of reader->usage with the samplings applied */
    llmb_rc_e                 (*result)(const llmb_usage_reader_t *reader,
                                    unsigned cache_1h, llmb_usage_t *usage);
};


extern const llmb_usage_dialect_t  llmb_usage_chat;
extern const llmb_usage_dialect_t  llmb_usage_completions;
extern const llmb_usage_dialect_t  llmb_usage_embeddings;
extern const llmb_usage_dialect_t  llmb_usage_responses;
extern const llmb_usage_dialect_t  llmb_usage_anthropic;


/*
 * The parts of an OpenAI-shaped record made to fit their whole (trap 1); all
 * cache writes count as the five-minute kind, as there is one price.
 */
void llmb_usage_clamp(llmb_usage_counts_t *counts, unsigned *flags);

/*
 * Adds what the total has beyond input and output to the one of them it
 * belongs to (trap 4).
 */
void llmb_usage_surplus(llmb_usage_counts_t *counts, unsigned *flags);

void llmb_usage_plus(llmb_usage_counts_t *to,
    const llmb_usage_counts_t *counts);

/* The reader's own parts: the token handler, ... */
llmb_rc_e llmb_usage_token(void *data, const llmb_json_token_t *token);

/* ... some generated text was seen, ... */
void llmb_usage_text(llmb_usage_reader_t *reader, uint64_t n);

/* ... and the JSON of an event, or the document, is complete. */
void llmb_usage_take(llmb_usage_reader_t *reader);


#endif /* _NGX_HTTP_LLM_BUDGET_LLMB_USAGE_DIALECT_H_INCLUDED_ */
