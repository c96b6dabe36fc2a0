
/*
 * Copyright (C) the ngx_http_llm_budget_module authors
 *
 * The request reader: the parts that cost beside the text, which are media,
 * and tools that the provider runs.
 */


#include "core/llmb_request_reader.h"

#include <string.h>


static void llmb_request_pending(llmb_request_t *req, unsigned depth);
static void llmb_request_leave_out(llmb_request_t *req, uint64_t len);
static unsigned llmb_request_is_url(const llmb_str_t *text);
static unsigned llmb_request_is_data_url(const llmb_str_t *text);
static unsigned llmb_request_is_base64(const llmb_str_t *text);


/* tools of Anthropic's that the client runs, by the start of their type */

static const char *const  llmb_request_client_tools[] = {
    "bash_", "text_editor_", "computer_", "memory_"
};


void
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

void
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

void
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


void
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

void
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
