
/*
 * Copyright (C) the ngx_http_llm_budget_module authors
 *
 * The request reader: a table of the keys we know at each place, and a stack
 * of places.  What is not in the table is text, and text is counted.
 */


#include "core/llmb_request.h"

#include <string.h>


/* JSON types a value may have, as bits */

#define LLMB_REQUEST_BIT(type)  (1u << (type))
#define LLMB_REQUEST_O          LLMB_REQUEST_BIT(LLMB_JSON_OBJECT)
#define LLMB_REQUEST_A          LLMB_REQUEST_BIT(LLMB_JSON_ARRAY)
#define LLMB_REQUEST_S          LLMB_REQUEST_BIT(LLMB_JSON_STRING)
#define LLMB_REQUEST_N          LLMB_REQUEST_BIT(LLMB_JSON_NUMBER)
#define LLMB_REQUEST_B          (LLMB_REQUEST_BIT(LLMB_JSON_TRUE)             \
                                 | LLMB_REQUEST_BIT(LLMB_JSON_FALSE))
#define LLMB_REQUEST_Z          LLMB_REQUEST_BIT(LLMB_JSON_NULL)
#define LLMB_REQUEST_ANY        0xffffu


/* the longest of our keys, folded */
#define LLMB_REQUEST_KEY_LEN    24

/* completions: the provider's own default of max_tokens */
#define LLMB_REQUEST_DEF_TOKENS 16


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


static llmb_rc_e llmb_request_result(llmb_request_t *req, llmb_rc_e rc);
static llmb_rc_e llmb_request_token(void *data,
    const llmb_json_token_t *token);
static llmb_rc_e llmb_request_key(llmb_request_t *req,
    const llmb_json_token_t *token);
static llmb_rc_e llmb_request_member_add(llmb_request_t *req,
    const llmb_json_token_t *token);
static unsigned llmb_request_key_find(const llmb_request_place_t *place,
    const llmb_json_token_t *token, unsigned *exact);
static size_t llmb_request_fold(const llmb_str_t *text, char *folded);
static llmb_rc_e llmb_request_value(llmb_request_t *req,
    const llmb_json_token_t *token);
static void llmb_request_count(llmb_request_t *req,
    const llmb_json_token_t *token);
static void llmb_request_open(llmb_request_t *req,
    const llmb_json_token_t *token, unsigned key);
static void llmb_request_close(llmb_request_t *req,
    const llmb_json_token_t *token);
static void llmb_request_close_part(llmb_request_t *req, unsigned seen);
static void llmb_request_close_source(llmb_request_t *req, unsigned depth);
static void llmb_request_close_tool(llmb_request_t *req);
static llmb_rc_e llmb_request_act(llmb_request_t *req,
    const llmb_json_token_t *token, unsigned key);
static llmb_request_int_t *llmb_request_int_field(llmb_request_t *req,
    unsigned key);
static llmb_rc_e llmb_request_int(llmb_request_t *req,
    const llmb_json_token_t *token, unsigned key);
static llmb_rc_e llmb_request_name(llmb_request_t *req,
    const llmb_json_token_t *token, unsigned key);
static llmb_rc_e llmb_request_prompt(llmb_request_t *req,
    const llmb_json_token_t *token);
static void llmb_request_user(llmb_request_t *req,
    const llmb_json_token_t *token, unsigned key);
static void llmb_request_tool_type(llmb_request_t *req,
    const llmb_json_token_t *token);
static void llmb_request_hosted(llmb_request_t *req, unsigned search,
    int64_t uses);
static void llmb_request_media(llmb_request_t *req,
    const llmb_json_token_t *token, unsigned key);
static void llmb_request_pending(llmb_request_t *req, unsigned depth);
static void llmb_request_leave_out(llmb_request_t *req, uint64_t len);
static unsigned llmb_request_is_url(const llmb_str_t *text);
static unsigned llmb_request_is_data_url(const llmb_str_t *text);
static unsigned llmb_request_is_base64(const llmb_str_t *text);
static unsigned llmb_request_starts(const llmb_str_t *text,
    const char *prefix);
static unsigned llmb_request_is(const llmb_json_token_t *token,
    const char *name);
static llmb_rc_e llmb_request_fail(llmb_request_t *req,
    llmb_request_error_e error, uint64_t offset, unsigned key);


static const llmb_request_key_t  llmb_request_keys[] = {

    [LLMB_KEY_NONE] = { NULL, NULL, LLMB_REQUEST_ANY, 0, 0 },

    [LLMB_KEY_MODEL] = { "model", NULL, LLMB_REQUEST_S, 0, 0 },
    [LLMB_KEY_STREAM] =
        { "stream", NULL, LLMB_REQUEST_B|LLMB_REQUEST_Z, 0, 0 },
    [LLMB_KEY_STREAM_OPTIONS] =
        { "stream_options", NULL, LLMB_REQUEST_O|LLMB_REQUEST_Z,
          LLMB_IN_STREAM_OPTIONS, 0 },
    [LLMB_KEY_MAX_TOKENS] =
        { "max_tokens", NULL, LLMB_REQUEST_N|LLMB_REQUEST_Z, 0, 0 },
    [LLMB_KEY_MAX_COMPLETION_TOKENS] =
        { "max_completion_tokens", NULL, LLMB_REQUEST_N|LLMB_REQUEST_Z, 0, 0 },
    [LLMB_KEY_MAX_OUTPUT_TOKENS] =
        { "max_output_tokens", NULL, LLMB_REQUEST_N|LLMB_REQUEST_Z, 0, 0 },
    [LLMB_KEY_N] = { "n", NULL, LLMB_REQUEST_N|LLMB_REQUEST_Z, 0, 0 },
    [LLMB_KEY_BEST_OF] =
        { "best_of", NULL, LLMB_REQUEST_N|LLMB_REQUEST_Z, 0, 0 },
    [LLMB_KEY_SERVICE_TIER] =
        { "service_tier", NULL, LLMB_REQUEST_S|LLMB_REQUEST_Z, 0, 0 },
    [LLMB_KEY_TOOLS] =
        { "tools", NULL, LLMB_REQUEST_A|LLMB_REQUEST_Z, 0, LLMB_IN_TOOLS },
    [LLMB_KEY_MESSAGES] =
        { "messages", NULL, LLMB_REQUEST_A|LLMB_REQUEST_Z,
          0, LLMB_IN_MESSAGES },
    [LLMB_KEY_INPUT] =
        { "input", NULL, LLMB_REQUEST_S|LLMB_REQUEST_A|LLMB_REQUEST_Z,
          0, LLMB_IN_INPUT },
    [LLMB_KEY_PROMPT] =
        { "prompt", NULL,
          LLMB_REQUEST_S|LLMB_REQUEST_A|LLMB_REQUEST_O|LLMB_REQUEST_Z,
          0, LLMB_IN_PROMPT },
    [LLMB_KEY_THINKING] =
        { "thinking", NULL, LLMB_REQUEST_O|LLMB_REQUEST_Z,
          LLMB_IN_THINKING, 0 },
    [LLMB_KEY_BACKGROUND] =
        { "background", NULL, LLMB_REQUEST_B|LLMB_REQUEST_Z, 0, 0 },
    [LLMB_KEY_USER] = { "user", NULL, LLMB_REQUEST_S|LLMB_REQUEST_Z, 0, 0 },
    [LLMB_KEY_METADATA] =
        { "metadata", NULL, LLMB_REQUEST_O|LLMB_REQUEST_Z,
          LLMB_IN_METADATA, 0 },
    [LLMB_KEY_PREVIOUS_RESPONSE_ID] =
        { "previous_response_id", NULL, LLMB_REQUEST_S|LLMB_REQUEST_Z, 0, 0 },
    [LLMB_KEY_CONVERSATION] =
        { "conversation", NULL, LLMB_REQUEST_S|LLMB_REQUEST_O|LLMB_REQUEST_Z,
          0, 0 },
    [LLMB_KEY_SYSTEM] = { "system", NULL, LLMB_REQUEST_ANY, 0, 0 },
    [LLMB_KEY_INSTRUCTIONS] = { "instructions", NULL, LLMB_REQUEST_ANY, 0, 0 },
    [LLMB_KEY_MODALITIES] = { "modalities", NULL, LLMB_REQUEST_ANY, 0, 0 },
    [LLMB_KEY_AUDIO] = { "audio", NULL, LLMB_REQUEST_ANY, 0, 0 },
    [LLMB_KEY_FALLBACKS] =
        { "fallbacks", NULL, LLMB_REQUEST_O|LLMB_REQUEST_A|LLMB_REQUEST_Z,
          LLMB_IN_FALLBACKS, LLMB_IN_FALLBACKS },
    [LLMB_KEY_MODELS] =
        { "models", NULL, LLMB_REQUEST_O|LLMB_REQUEST_A|LLMB_REQUEST_Z,
          LLMB_IN_MODELS, LLMB_IN_MODELS },
    [LLMB_KEY_WEB_SEARCH_OPTIONS] =
        { "web_search_options", NULL, LLMB_REQUEST_O|LLMB_REQUEST_Z, 0, 0 },
    [LLMB_KEY_MCP_SERVERS] =
        { "mcp_servers", NULL, LLMB_REQUEST_A|LLMB_REQUEST_Z,
          0, LLMB_IN_SERVERS },

    [LLMB_KEY_INCLUDE_USAGE] =
        { "include_usage", "stream_options.include_usage",
          LLMB_REQUEST_B|LLMB_REQUEST_Z, 0, 0 },

    [LLMB_KEY_BUDGET_TOKENS] =
        { "budget_tokens", "thinking.budget_tokens",
          LLMB_REQUEST_N|LLMB_REQUEST_Z, 0, 0 },

    [LLMB_KEY_USER_ID] =
        { "user_id", "metadata.user_id", LLMB_REQUEST_S|LLMB_REQUEST_Z, 0, 0 },

    [LLMB_KEY_TOOL_TYPE] =
        { "type", "tools.type", LLMB_REQUEST_S|LLMB_REQUEST_Z, 0, 0 },
    [LLMB_KEY_MAX_USES] =
        { "max_uses", "tools.max_uses", LLMB_REQUEST_N|LLMB_REQUEST_Z, 0, 0 },

    [LLMB_KEY_ITEM_CONTENT] =
        { "content", NULL, LLMB_REQUEST_ANY, 0, LLMB_IN_PARTS },
    [LLMB_KEY_ITEM_OUTPUT] =
        { "output", NULL, LLMB_REQUEST_ANY, LLMB_IN_PART, LLMB_IN_PARTS },

    [LLMB_KEY_PART_TYPE] = { "type", NULL, LLMB_REQUEST_ANY, 0, 0 },
    [LLMB_KEY_PART_CONTENT] =
        { "content", NULL, LLMB_REQUEST_ANY, LLMB_IN_PART, LLMB_IN_PARTS },
    [LLMB_KEY_PART_IMAGE_URL] =
        { "image_url", NULL, LLMB_REQUEST_ANY, LLMB_IN_IMAGE, 0 },
    [LLMB_KEY_PART_INPUT_AUDIO] =
        { "input_audio", NULL, LLMB_REQUEST_ANY, LLMB_IN_AUDIO, 0 },
    [LLMB_KEY_PART_FILE] =
        { "file", NULL, LLMB_REQUEST_ANY, LLMB_IN_FILE, 0 },
    [LLMB_KEY_PART_SOURCE] =
        { "source", NULL, LLMB_REQUEST_ANY, LLMB_IN_SOURCE, 0 },
    [LLMB_KEY_PART_FILE_DATA] = { "file_data", NULL, LLMB_REQUEST_ANY, 0, 0 },
    [LLMB_KEY_PART_FILE_URL] = { "file_url", NULL, LLMB_REQUEST_ANY, 0, 0 },
    [LLMB_KEY_PART_FILE_ID] = { "file_id", NULL, LLMB_REQUEST_ANY, 0, 0 },

    [LLMB_KEY_IMAGE_URL] = { "url", NULL, LLMB_REQUEST_ANY, 0, 0 },

    [LLMB_KEY_AUDIO_DATA] = { "data", NULL, LLMB_REQUEST_ANY, 0, 0 },

    [LLMB_KEY_FILE_DATA] = { "file_data", NULL, LLMB_REQUEST_ANY, 0, 0 },
    [LLMB_KEY_FILE_ID] = { "file_id", NULL, LLMB_REQUEST_ANY, 0, 0 },

    [LLMB_KEY_SOURCE_TYPE] = { "type", NULL, LLMB_REQUEST_ANY, 0, 0 },
    [LLMB_KEY_SOURCE_DATA] = { "data", NULL, LLMB_REQUEST_ANY, 0, 0 },
    [LLMB_KEY_SOURCE_URL] = { "url", NULL, LLMB_REQUEST_ANY, 0, 0 },
    [LLMB_KEY_SOURCE_FILE_ID] = { "file_id", NULL, LLMB_REQUEST_ANY, 0, 0 },
    [LLMB_KEY_SOURCE_CONTENT] =
        { "content", NULL, LLMB_REQUEST_ANY, 0, LLMB_IN_PARTS },

    [LLMB_KEY_TTL] = { "ttl", NULL, LLMB_REQUEST_ANY, 0, 0 },

    [LLMB_KEY_CACHE_CONTROL] =
        { "cache_control", NULL, LLMB_REQUEST_ANY, LLMB_IN_CACHE, 0 }
};


static const llmb_request_place_t  llmb_request_places[LLMB_IN_N] = {

    [LLMB_IN_TOP] =
        { LLMB_KEY_MODEL, LLMB_KEY_MCP_SERVERS, 1, 0, 0 },
    [LLMB_IN_STREAM_OPTIONS] =
        { LLMB_KEY_INCLUDE_USAGE, LLMB_KEY_INCLUDE_USAGE, 1, 0, 0 },
    [LLMB_IN_THINKING] =
        { LLMB_KEY_BUDGET_TOKENS, LLMB_KEY_BUDGET_TOKENS, 1, 0, 0 },
    [LLMB_IN_METADATA] =
        { LLMB_KEY_USER_ID, LLMB_KEY_USER_ID, 1, 0, 0 },
    [LLMB_IN_TOOLS] = { 0, 0, 0, LLMB_IN_TOOL, 0 },
    [LLMB_IN_TOOL] =
        { LLMB_KEY_TOOL_TYPE, LLMB_KEY_MAX_USES, 1, 0, 0 },
    [LLMB_IN_MESSAGES] = { 0, 0, 0, LLMB_IN_ITEM, 0 },
    [LLMB_IN_INPUT] = { 0, 0, 0, LLMB_IN_ITEM, LLMB_IN_TOKENS },
    [LLMB_IN_PROMPT] = { 0, 0, 0, 0, LLMB_IN_TOKENS },
    [LLMB_IN_TOKENS] = { 0, 0, 0, 0, LLMB_IN_TOKENS },
    [LLMB_IN_ITEM] =
        { LLMB_KEY_ITEM_CONTENT, LLMB_KEY_ITEM_OUTPUT, 0, 0, 0 },
    [LLMB_IN_PARTS] = { 0, 0, 0, LLMB_IN_PART, 0 },
    [LLMB_IN_PART] =
        { LLMB_KEY_PART_TYPE, LLMB_KEY_PART_FILE_ID, 0, 0, 0 },
    [LLMB_IN_IMAGE] =
        { LLMB_KEY_IMAGE_URL, LLMB_KEY_IMAGE_URL, 0, 0, 0 },
    [LLMB_IN_AUDIO] =
        { LLMB_KEY_AUDIO_DATA, LLMB_KEY_AUDIO_DATA, 0, 0, 0 },
    [LLMB_IN_FILE] =
        { LLMB_KEY_FILE_DATA, LLMB_KEY_FILE_ID, 0, 0, 0 },
    [LLMB_IN_SOURCE] =
        { LLMB_KEY_SOURCE_TYPE, LLMB_KEY_SOURCE_CONTENT, 0, 0, 0 },
    [LLMB_IN_CACHE] = { LLMB_KEY_TTL, LLMB_KEY_TTL, 0, 0, 0 }
};


static const llmb_request_int_t  llmb_request_def_tokens = {
    { 0, 0 }, LLMB_REQUEST_DEF_TOKENS, 1
};


static const llmb_request_int_t  llmb_request_no_output = { { 0, 0 }, 0, 1 };


/* tools of Anthropic's that the client runs, by the start of their type */

static const char *const  llmb_request_client_tools[] = {
    "bash_", "text_editor_", "computer_", "memory_"
};


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


/*
 * The key of ours that a key equals after folding; exact: even without.
 */

static unsigned
llmb_request_key_find(const llmb_request_place_t *place,
    const llmb_json_token_t *token, unsigned *exact)
{
    char         folded[LLMB_REQUEST_KEY_LEN];
    size_t       len;
    unsigned     key;
    const char  *name;

    *exact = 0;

    if (place->first == LLMB_KEY_NONE) {
        return LLMB_KEY_NONE;
    }

    len = llmb_request_fold(&token->text, folded);

    for (key = place->first; key <= place->last; key++) {
        name = llmb_request_keys[key].name;

        if (strlen(name) == len && memcmp(name, folded, len) == 0) {
            *exact = llmb_request_is(token, name);
            return key;
        }
    }

    return LLMB_KEY_NONE;
}


/*
 * Lower case, with the letters beyond ASCII that some reader folds or
 * uppercases into it, cut at a NUL.  0: it cannot be one of ours.
 */

static size_t
llmb_request_fold(const llmb_str_t *text, char *folded)
{
    size_t                i, len, left;
    unsigned char         ch;
    const unsigned char  *p;

    p = text->data;
    len = 0;

    for (i = 0; i < text->len; i++) {
        ch = p[i];
        left = text->len - i - 1;

        if (ch == '\0') {
            break;
        }

        if (ch >= 'A' && ch <= 'Z') {
            ch |= 0x20;

        } else if (left >= 1 && ch == 0xc5 && p[i + 1] == 0xbf) {
            ch = 's';                           /* U+017F */
            i += 1;

        } else if (left >= 1 && ch == 0xc4
                   && (p[i + 1] == 0xb0 || p[i + 1] == 0xb1))
        {
            ch = 'i';                           /* U+0130, U+0131 */
            i += 1;

        } else if (left >= 2 && ch == 0xe2 && p[i + 1] == 0x84
                   && p[i + 2] == 0xaa)
        {
            ch = 'k';                           /* U+212A */
            i += 2;

        } else if (left >= 1 && ch == 0xcc && p[i + 1] == 0x87) {
            i += 1;                             /* U+0307 */
            continue;

        } else if (ch >= 0x80) {
            return 0;
        }

        if (len == LLMB_REQUEST_KEY_LEN) {
            return 0;
        }

        folded[len++] = (char) ch;
    }

    return len;
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
        llmb_request_close_tool(req);
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


static void
llmb_request_close_part(llmb_request_t *req, unsigned seen)
{
    if ((seen & LLMB_SEEN_PENDING) == 0) {
        return;
    }

    if ((seen & LLMB_SEEN_IMAGE) && !(seen & LLMB_SEEN_NOT_IMAGE)) {
        req->images++;
        return;
    }

    req->files++;
}


/*
 * "data" is a payload only under type "base64", and the type may come last;
 * under type "text" the model reads it.
 */

static void
llmb_request_close_source(llmb_request_t *req, unsigned depth)
{
    unsigned  seen;

    seen = req->path[depth];

    if (seen & LLMB_SEEN_BASE64) {
        llmb_request_pending(req, depth - 1);

        if (req->source_depth == depth && !(seen & LLMB_SEEN_NOT_BASE64)) {
            llmb_request_leave_out(req, req->source_len);
        }
    }

    if (req->source_depth == depth) {
        req->source_depth = 0;
        req->source_len = 0;
    }
}


static void
llmb_request_close_tool(llmb_request_t *req)
{
    if (req->tool_hosted) {
        llmb_request_hosted(req, req->tool_search, req->tool_uses.value);
    }
}


static llmb_rc_e
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
        req->stream_options.start = token->start;
        req->stream_options.end = token->end;
        req->stream_options_object = !is_null;
        req->stream_options_empty = !is_null;
        return LLMB_OK;

    case LLMB_KEY_INCLUDE_USAGE:
        req->include_usage.start = token->start;
        req->include_usage.end = token->end;
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


static llmb_rc_e
llmb_request_int(llmb_request_t *req, const llmb_json_token_t *token,
    unsigned key)
{
    int64_t              value;
    llmb_request_int_t  *field;

    field = llmb_request_int_field(req, key);

    field->range.start = token->start;
    field->range.end = token->end;

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


/* model or service_tier */

static llmb_rc_e
llmb_request_name(llmb_request_t *req, const llmb_json_token_t *token,
    unsigned key)
{
    size_t          i, max;
    unsigned char   ch;

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
    req->model_range.start = token->start;
    req->model_range.end = token->end;

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


static void
llmb_request_tool_type(llmb_request_t *req, const llmb_json_token_t *token)
{
    size_t  i, n;

    if (token->type == LLMB_JSON_NULL || llmb_request_is(token, "custom")) {
        return;
    }

    if (req->dialect == LLMB_DIALECT_MESSAGES) {
        n = sizeof(llmb_request_client_tools)
            / sizeof(llmb_request_client_tools[0]);

        for (i = 0; i < n; i++) {
            if (llmb_request_starts(&token->text,
                                    llmb_request_client_tools[i]))
            {
                return;
            }
        }

    } else if (llmb_request_is(token, "function")) {
        return;
    }

    /* what we do not know is the provider's */

    req->tool_hosted = 1;
    req->tool_search = llmb_request_starts(&token->text, "web_search");
}


/* One hosted tool without a bound makes the sum of the bounds unbounded. */

static void
llmb_request_hosted(llmb_request_t *req, unsigned search, int64_t uses)
{
    req->hosted_tools++;
    req->hosted_searches += search;

    if (uses <= 0) {
        req->unbounded = 1;
    }

    if (req->unbounded) {
        req->hosted_max_uses = 0;
        return;
    }

    req->hosted_max_uses += (uint64_t) uses;
}


/*
 * A string at one of the places where payloads stand.  It has been counted
 * as text; it is taken out again only if it also looks like a payload.
 */

static void
llmb_request_media(llmb_request_t *req, const llmb_json_token_t *token,
    unsigned key)
{
    unsigned           *seen, payload, url;
    const llmb_str_t   *text;

    text = &token->text;
    seen = &req->path[token->depth];
    payload = 0;
    url = 0;

    switch (key) {

    case LLMB_KEY_PART_TYPE:
        *seen |= (llmb_request_is(token, "image")
                  || llmb_request_is(token, "input_image"))
                 ? LLMB_SEEN_IMAGE : LLMB_SEEN_NOT_IMAGE;
        return;

    case LLMB_KEY_PART_IMAGE_URL:
    case LLMB_KEY_IMAGE_URL:
        req->images++;
        url = 1;
        break;

    case LLMB_KEY_AUDIO_DATA:
        req->audios++;
        payload = 1;
        break;

    case LLMB_KEY_PART_FILE_DATA:
    case LLMB_KEY_FILE_DATA:
        req->files++;
        payload = 1;
        break;

    case LLMB_KEY_PART_FILE_URL:
        req->files++;
        url = 1;
        break;

    case LLMB_KEY_FILE_ID:
        req->files++;
        return;

    case LLMB_KEY_PART_FILE_ID:
        llmb_request_pending(req, token->depth);
        return;

    case LLMB_KEY_SOURCE_FILE_ID:
        llmb_request_pending(req, token->depth - 1);
        return;

    case LLMB_KEY_SOURCE_URL:
        llmb_request_pending(req, token->depth - 1);

        if (llmb_request_is_url(text)) {
            llmb_request_leave_out(req, token->text_len);
        }

        return;

    case LLMB_KEY_SOURCE_TYPE:
        *seen |= llmb_request_is(token, "base64") ? LLMB_SEEN_BASE64
                                                  : LLMB_SEEN_NOT_BASE64;
        return;

    case LLMB_KEY_SOURCE_DATA:
        *seen |= (*seen & LLMB_SEEN_DATA) ? LLMB_SEEN_NOT_BASE64
                                          : LLMB_SEEN_DATA;
        req->source_depth = token->depth;
        req->source_len = llmb_request_is_base64(text) ? token->text_len : 0;
        return;

    default:
        return;
    }

    if (llmb_request_is_data_url(text)
        || (payload && llmb_request_is_base64(text))
        || (url && llmb_request_is_url(text)))
    {
        llmb_request_leave_out(req, token->text_len);
    }
}


/* The part at this depth carries one more image or file; its type tells. */

static void
llmb_request_pending(llmb_request_t *req, unsigned depth)
{
    if (req->path[depth] & LLMB_SEEN_PENDING) {
        req->files++;
        return;
    }

    req->path[depth] |= LLMB_SEEN_PENDING;
}


static void
llmb_request_leave_out(llmb_request_t *req, uint64_t len)
{
    req->text_bytes -= len;
    req->media_bytes += len;
}


static unsigned
llmb_request_is_url(const llmb_str_t *text)
{
    return llmb_request_starts(text, "https://")
           || llmb_request_starts(text, "http://");
}


/* "data:", anything but a comma, ";base64," */

static unsigned
llmb_request_is_data_url(const llmb_str_t *text)
{
    llmb_str_t            tail;
    const unsigned char  *comma;

    if (text->len == 0 || !llmb_request_starts(text, "data:")) {
        return 0;
    }

    comma = memchr(text->data, ',', text->len);
    if (comma == NULL) {
        return 0;
    }

    tail.len = (size_t) (comma - text->data);

    if (tail.len < 7) {
        return 0;
    }

    tail.data = text->data + tail.len - 7;
    tail.len = 7;

    return llmb_request_starts(&tail, ";base64");
}


/* As far as the text was kept; the provider decodes the rest or refuses. */

static unsigned
llmb_request_is_base64(const llmb_str_t *text)
{
    size_t         i;
    unsigned char  ch;

    for (i = 0; i < text->len; i++) {
        ch = text->data[i];

        if (!((ch >= 'A' && ch <= 'Z') || (ch >= 'a' && ch <= 'z')
              || (ch >= '0' && ch <= '9') || ch == '+' || ch == '/'
              || ch == '-' || ch == '_' || ch == '=' || ch == '\r'
              || ch == '\n'))
        {
            return 0;
        }
    }

    return 1;
}


/* ASCII case aside; the prefix is in lower case */

static unsigned
llmb_request_starts(const llmb_str_t *text, const char *prefix)
{
    size_t         i, len;
    unsigned char  ch;

    len = strlen(prefix);

    if (text->len < len) {
        return 0;
    }

    for (i = 0; i < len; i++) {
        ch = text->data[i];

        if (ch >= 'A' && ch <= 'Z') {
            ch |= 0x20;
        }

        if (ch != (unsigned char) prefix[i]) {
            return 0;
        }
    }

    return 1;
}


static unsigned
llmb_request_is(const llmb_json_token_t *token, const char *name)
{
    size_t  len;

    len = strlen(name);

    return token->text_len == len
           && token->text.len == len
           && memcmp(token->text.data, name, len) == 0;
}


/* The blamed name is always one of ours, never the client's bytes. */

static llmb_rc_e
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


const llmb_request_int_t *
llmb_request_ceiling(const llmb_request_t *req, const char **name)
{
    const llmb_request_int_t  *ceiling;

    ceiling = &req->max_tokens;
    *name = "max_tokens";

    switch ((unsigned) req->dialect) {

    case LLMB_DIALECT_CHAT:
        if (req->max_completion_tokens.is_set || !req->max_tokens.is_set) {
            ceiling = &req->max_completion_tokens;
            *name = "max_completion_tokens";
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
        if (req->n.is_set) {
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
        return "no model";

    case LLMB_REQUEST_BACKGROUND:
        return "background mode is not supported";
    }

    return "unknown error";
}
