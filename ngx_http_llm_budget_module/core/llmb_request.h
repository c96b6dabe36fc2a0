
/*
 * Copyright (C) the ngx_http_llm_budget_module authors
 *
 * One reading of a request body: fed as the bytes arrive, it finds what
 * decides money, with byte ranges, and refuses what two parsers could read in
 * two ways (T33).  Memory is constant; nothing is kept of the prompt.
 */


#ifndef _NGX_HTTP_LLM_BUDGET_LLMB_REQUEST_H_INCLUDED_
#define _NGX_HTTP_LLM_BUDGET_LLMB_REQUEST_H_INCLUDED_


#include "core/llmb_json.h"


/* why a body was refused; every refusal has its own name */

typedef enum {
    LLMB_REQUEST_OK = 0,
    LLMB_REQUEST_NOT_JSON,      /* not strict JSON, or cut short */
    LLMB_REQUEST_NOT_OBJECT,    /* the top level is not an object */
    LLMB_REQUEST_TOO_DEEP,      /* nesting over LLMB_REQUEST_DEPTH */
    LLMB_REQUEST_TOO_MANY,      /* over LLMB_REQUEST_MEMBERS top-level keys */
    LLMB_REQUEST_DUPLICATE,     /* a member we act on stands twice */
    LLMB_REQUEST_LOOKALIKE,     /* a key that equals one of ours after case
                                   folding (ASCII and the Unicode letters that
                                   fold to ASCII) or a cut at NUL */
    LLMB_REQUEST_BAD_TYPE,      /* wrong JSON type, as "stream":"true" */
    LLMB_REQUEST_BAD_NUMBER,    /* negative, fraction, out of range (T21) */
    LLMB_REQUEST_TOO_LONG,      /* model or tier name over its limit */
    LLMB_REQUEST_NO_MODEL,      /* no model where one is required */
    LLMB_REQUEST_BACKGROUND     /* background: true (T38): not metered */
} llmb_request_error_e;


/* distinct top-level members of a body */
#define LLMB_REQUEST_MEMBERS    128


/* byte range of a value in the body; end == 0: absent */

typedef struct {
    uint64_t                start;
    uint64_t                end;
} llmb_range_t;


typedef struct {
    llmb_range_t            range;      /* of the value */
    int64_t                 value;      /* valid if is_set */
    unsigned                is_set;     /* present and not null */
} llmb_request_int_t;


/*
 * A top-level member: key from its opening quote to the end of its value.
 * The commas follow from the neighbors: see llmb_request_member_cut().
 */

typedef struct {
    uint64_t                key_start;
    uint64_t                end;
    uint32_t                name_hash;  /* llmb_request_hash() of the key */
    uint16_t                name_len;
} llmb_request_member_t;


typedef struct {
    llmb_dialect_e          dialect;

    llmb_request_error_e    error;
    uint64_t                error_offset;
    size_t                  error_name_len;     /* member blamed, or 0 */
    unsigned char           error_name[LLMB_NAME_LEN];

    uint64_t                object_start;   /* offset of the top-level "{" */

    size_t                  model_len;      /* 0: absent */
    unsigned char           model[LLMB_MODEL_LEN];
    llmb_range_t            model_range;    /* quotes included */

    unsigned                stream;         /* "stream": true */

    /* stream_options (chat, completions) */
    llmb_range_t            stream_options; /* value; object or null */
    unsigned                stream_options_object;
    unsigned                stream_options_empty;   /* "{}" */
    llmb_range_t            include_usage;  /* value inside the object */
    unsigned                include_usage_true;

    /*
     * Output ceilings; a null is absent, but has its range.  The binding one
     * is chosen by llmb_request_ceiling().
     */
    llmb_request_int_t      max_tokens;
    llmb_request_int_t      max_completion_tokens;
    llmb_request_int_t      max_output_tokens;
    llmb_request_int_t      thinking_budget;    /* thinking.budget_tokens */
    llmb_request_int_t      n;
    llmb_request_int_t      best_of;

    /* answers one call asks for by its inputs: prompts of "completions" */
    uint64_t                prompts;

    size_t                  tier_len;       /* service_tier, 0: absent */
    unsigned char           tier[LLMB_TIER_LEN];

    size_t                  user_len;       /* user, or metadata.user_id */
    unsigned char           user[LLMB_NAME_LEN];

    /*
     * What the input side can cost.  text_bytes: decoded bytes of every
     * string and key (numbers and literals by their literal) except media
     * payloads; token_ids: numbers inside "prompt" or "input" arrays, each
     * one token and neither text nor a message; media: base64 or URL parts,
     * each at a constant; messages: elements of "messages" or "input".
     */
    uint64_t                text_bytes;
    uint64_t                token_ids;
    uint64_t                images;
    uint64_t                audios;
    uint64_t                files;
    uint64_t                media_bytes;    /* encoded bytes left out above */
    uint64_t                messages;

    /* input that does not stand in the body: previous_response_id,
       conversation, prompt (object), and the like */
    unsigned                remote_input;

    /* tools the provider runs itself (web_search, code_interpreter, ...):
       how many are declared, and the sum of their max_uses (0: at least one
       of them has none, so there is no bound) */
    unsigned                hosted_tools;
    unsigned                hosted_searches;
    uint64_t                hosted_max_uses;

    unsigned                cache_1h;       /* cache_control ttl "1h" seen */
    unsigned                cache_control;  /* any cache_control seen */

    unsigned                n_members;
    llmb_request_member_t   members[LLMB_REQUEST_MEMBERS];

    /* private */
    llmb_json_t             json;
    uint64_t                seen;           /* a bit per governed key */
    unsigned                key;            /* whose value comes next */
    unsigned                path[LLMB_REQUEST_DEPTH + 1];
    unsigned                source_depth;   /* of the last source.data */
    uint64_t                source_len;
    unsigned                stored_prompt;
    unsigned                user_top;
    unsigned                tool_hosted;
    unsigned                tool_search;
    unsigned                unbounded;      /* a tool without max_uses */
    llmb_request_int_t      tool_uses;
} llmb_request_t;


void llmb_request_init(llmb_request_t *req, llmb_dialect_e dialect);

/*
 * LLMB_AGAIN or LLMB_OK (the document is complete) go on; LLMB_INVALID:
 * refused, req->error says why, and every further call says so again.
 */
llmb_rc_e llmb_request_feed(llmb_request_t *req, const unsigned char *p,
    size_t len);

/*
 * No more bytes.  LLMB_OK, or LLMB_INVALID with req->error.  LLMB_REQUEST_
 * NO_MODEL is set here for dialects that need a model ("responses" may name
 * a stored prompt instead, trap 17: then model_len is 0 and remote_input 1).
 */
llmb_rc_e llmb_request_end(llmb_request_t *req);

/*
 * The output ceiling as any provider may read it: chat:
 * max_completion_tokens or max_tokens, the larger if both are given, since
 * providers differ in which one they honor; responses: max_output_tokens;
 * others: max_tokens (completions: 16 if absent).  NULL: none was given.
 * embeddings have no output: a ceiling of 0 with an empty range.  *name gets
 * the member to set when a ceiling must be written: the given one, or the
 * one its dialect prefers (chat, also of both given: max_completion_tokens;
 * its range is then not that of the result).
 */
const llmb_request_int_t *llmb_request_ceiling(const llmb_request_t *req,
    const char **name);

/*
 * How many answers are billed: chat n; completions max(n, best_of) x
 * prompts; else 1.  At least 1.  LLMB_OVERFLOW: refuse.
 */
llmb_rc_e llmb_request_answers(const llmb_request_t *req, int64_t *answers);

/*
 * The bytes to cut so that member i disappears with exactly one comma, for
 * any set of members in drop (bit per member index; LLMB_REQUEST_MEMBERS bits
 * as bytes): call for each member of the set; the ranges never overlap.
 */
void llmb_request_member_cut(const llmb_request_t *req,
    const unsigned char drop[LLMB_REQUEST_MEMBERS], unsigned i,
    llmb_range_t *cut);

/* Index of a top-level member by name, or -1. */
int llmb_request_member_find(const llmb_request_t *req,
    const llmb_str_t *name);

uint32_t llmb_request_hash(const unsigned char *p, size_t len);

/* "duplicate member", ... : for messages */
const char *llmb_request_error_text(llmb_request_error_e error);


#endif /* _NGX_HTTP_LLM_BUDGET_LLMB_REQUEST_H_INCLUDED_ */
