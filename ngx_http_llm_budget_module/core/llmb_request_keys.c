
/*
 * Copyright (C) the ngx_http_llm_budget_module authors
 *
 * The request reader: the keys we know, the places they are known at, and how
 * a name is compared with them.
 */


#include "core/llmb_request_reader.h"

#include <string.h>


/* JSON types a value may have */

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


static size_t llmb_request_fold(const llmb_str_t *text, char *folded);


const llmb_request_key_t  llmb_request_keys[] = {

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
    [LLMB_KEY_SPEED] = { "speed", NULL, LLMB_REQUEST_ANY, 0, 0 },

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


const llmb_request_place_t  llmb_request_places[LLMB_IN_N] = {

    [LLMB_IN_TOP] =
        { LLMB_KEY_MODEL, LLMB_KEY_SPEED, 1, 0, 0 },
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


unsigned
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


unsigned
llmb_request_is(const llmb_json_token_t *token, const char *name)
{
    size_t  len;

    len = strlen(name);

    return token->text_len == len
           && token->text.len == len
           && memcmp(token->text.data, name, len) == 0;
}


unsigned
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
