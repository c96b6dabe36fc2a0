
/*
 * Copyright (C) the ngx_http_llm_budget_module authors
 *
 * What the parts of the request reader share (private to llmb_request*.c): the
 * places in a body, the keys known there, and what is done with a value.
 */


#ifndef _NGX_HTTP_LLM_BUDGET_LLMB_REQUEST_READER_H_INCLUDED_
#define _NGX_HTTP_LLM_BUDGET_LLMB_REQUEST_READER_H_INCLUDED_


#include "core/llmb_request.h"


/* a JSON type as a bit */
#define LLMB_REQUEST_BIT(type)  (1u << (type))


/* places: what the container around a token is */

enum {
    LLMB_IN_OTHER = 0,
    LLMB_IN_TOP,
    LLMB_IN_STREAM_OPTIONS,
    LLMB_IN_THINKING,
    LLMB_IN_METADATA,
    LLMB_IN_FALLBACKS,
    LLMB_IN_MODELS,
    LLMB_IN_SERVERS,        /* mcp_servers */
    LLMB_IN_TOOLS,
    LLMB_IN_TOOL,
    LLMB_IN_MESSAGES,
    LLMB_IN_INPUT,
    LLMB_IN_PROMPT,
    LLMB_IN_TOKENS,         /* an array inside "input" or "prompt" */
    LLMB_IN_ITEM,           /* a message, or an item of "input" */
    LLMB_IN_PARTS,
    LLMB_IN_PART,
    LLMB_IN_IMAGE,          /* image_url as an object */
    LLMB_IN_AUDIO,
    LLMB_IN_FILE,
    LLMB_IN_SOURCE,
    LLMB_IN_CACHE,
    LLMB_IN_N
};

#define LLMB_IN_MASK            0xffu

/* what was seen in a container; kept with its place */

#define LLMB_SEEN_TOKENS        0x0100u     /* prompt: a bare token id */
#define LLMB_SEEN_IMAGE         0x0200u     /* part: type is an image's */
#define LLMB_SEEN_NOT_IMAGE     0x0400u     /* part: type is not */
#define LLMB_SEEN_PENDING       0x0800u     /* part: image or file, by type */
#define LLMB_SEEN_BASE64        0x1000u     /* source: type is base64 */
#define LLMB_SEEN_NOT_BASE64    0x2000u     /* source: or is not */
#define LLMB_SEEN_DATA          0x4000u     /* source: data */


/* keys; the governed ones come first, as "seen" has a bit for each */

enum {
    LLMB_KEY_NONE = 0,

    LLMB_KEY_MODEL,
    LLMB_KEY_STREAM,
    LLMB_KEY_STREAM_OPTIONS,
    LLMB_KEY_MAX_TOKENS,
    LLMB_KEY_MAX_COMPLETION_TOKENS,
    LLMB_KEY_MAX_OUTPUT_TOKENS,
    LLMB_KEY_N,
    LLMB_KEY_BEST_OF,
    LLMB_KEY_SERVICE_TIER,
    LLMB_KEY_TOOLS,
    LLMB_KEY_MESSAGES,
    LLMB_KEY_INPUT,
    LLMB_KEY_PROMPT,
    LLMB_KEY_THINKING,
    LLMB_KEY_BACKGROUND,
    LLMB_KEY_USER,
    LLMB_KEY_METADATA,
    LLMB_KEY_PREVIOUS_RESPONSE_ID,
    LLMB_KEY_CONVERSATION,
    LLMB_KEY_SYSTEM,
    LLMB_KEY_INSTRUCTIONS,
    LLMB_KEY_MODALITIES,
    LLMB_KEY_AUDIO,
    LLMB_KEY_FALLBACKS,
    LLMB_KEY_MODELS,
    LLMB_KEY_WEB_SEARCH_OPTIONS,
    LLMB_KEY_MCP_SERVERS,
    LLMB_KEY_SPEED,

    LLMB_KEY_INCLUDE_USAGE,

    LLMB_KEY_BUDGET_TOKENS,

    LLMB_KEY_USER_ID,

    LLMB_KEY_TOOL_TYPE,
    LLMB_KEY_MAX_USES,

    LLMB_KEY_ITEM_CONTENT,
    LLMB_KEY_ITEM_OUTPUT,

    LLMB_KEY_PART_TYPE,
    LLMB_KEY_PART_CONTENT,
    LLMB_KEY_PART_IMAGE_URL,
    LLMB_KEY_PART_INPUT_AUDIO,
    LLMB_KEY_PART_FILE,
    LLMB_KEY_PART_SOURCE,
    LLMB_KEY_PART_FILE_DATA,
    LLMB_KEY_PART_FILE_URL,
    LLMB_KEY_PART_FILE_ID,

    LLMB_KEY_IMAGE_URL,

    LLMB_KEY_AUDIO_DATA,

    LLMB_KEY_FILE_DATA,
    LLMB_KEY_FILE_ID,

    LLMB_KEY_SOURCE_TYPE,
    LLMB_KEY_SOURCE_DATA,
    LLMB_KEY_SOURCE_URL,
    LLMB_KEY_SOURCE_FILE_ID,
    LLMB_KEY_SOURCE_CONTENT,

    LLMB_KEY_TTL,

    LLMB_KEY_CACHE_CONTROL      /* anywhere */
};


typedef struct {
    const char             *name;
    const char             *blame;      /* its name in an error, if other */
    unsigned                types;      /* what its value may be */
    unsigned                object;     /* place inside its value: an object */
    unsigned                array;      /* or an array */
} llmb_request_key_t;


typedef struct {
    unsigned                first;      /* keys known here: [first, last] */
    unsigned                last;
    unsigned                governed;   /* no duplicates, no lookalikes */
    unsigned                object;     /* an array: place inside an element */
    unsigned                array;
} llmb_request_place_t;


extern const llmb_request_key_t    llmb_request_keys[];
extern const llmb_request_place_t  llmb_request_places[LLMB_IN_N];


/*
 * The key of ours that a key equals after folding, or LLMB_KEY_NONE; exact:
 * even without.
 */
unsigned llmb_request_key_find(const llmb_request_place_t *place,
    const llmb_json_token_t *token, unsigned *exact);

/* Is the whole text of the token this? */
unsigned llmb_request_is(const llmb_json_token_t *token, const char *name);

/* ASCII case aside; the prefix is in lower case */
unsigned llmb_request_starts(const llmb_str_t *text, const char *prefix);

/*
 * Sets the error and returns LLMB_INVALID.  The blamed name is always one of
 * ours, never the client's bytes.
 */
llmb_rc_e llmb_request_fail(llmb_request_t *req, llmb_request_error_e error,
    uint64_t offset, unsigned key);

/* What the value of a key says; its type has been judged. */
llmb_rc_e llmb_request_act(llmb_request_t *req, const llmb_json_token_t *token,
    unsigned key);

/* A string at one of the places where payloads stand, or a type of it. */
void llmb_request_media(llmb_request_t *req, const llmb_json_token_t *token,
    unsigned key);

/* The part, or the source at this depth, is complete. */
void llmb_request_close_part(llmb_request_t *req, unsigned seen);
void llmb_request_close_source(llmb_request_t *req, unsigned depth);

void llmb_request_tool_type(llmb_request_t *req,
    const llmb_json_token_t *token);

/* A tool of the provider's is declared; uses: how many times, or 0. */
void llmb_request_hosted(llmb_request_t *req, unsigned search, int64_t uses);


#endif /* _NGX_HTTP_LLM_BUDGET_LLMB_REQUEST_READER_H_INCLUDED_ */
