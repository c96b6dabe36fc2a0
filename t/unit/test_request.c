
/*
 * Copyright (C) the ngx_http_llm_budget_module authors
 *
 * The request reader.  Each body is read whole, by seven bytes and byte by
 * byte, and all must say the same.
 */


#include "core/llmb_request.h"
#include "llmb_test.h"


#define CHAT            LLMB_DIALECT_CHAT
#define COMPLETIONS     LLMB_DIALECT_COMPLETIONS
#define RESPONSES       LLMB_DIALECT_RESPONSES
#define EMBEDDINGS      LLMB_DIALECT_EMBEDDINGS
#define MESSAGES        LLMB_DIALECT_MESSAGES

#define DATA_URL        "data:image/png;base64,QUJDREVGR0g="
#define DATA_URL_LEN    34


static llmb_request_t  req;
static llmb_request_t  again;


/* the body of the test in hand, made of a text or in parts */

static unsigned char  body[1 << 20];
static size_t         body_len;


static llmb_rc_e
feed(llmb_request_t *r, llmb_dialect_e dialect, size_t step)
{
    size_t     pos, len;
    llmb_rc_e  rc;

    llmb_request_init(r, dialect);
    rc = LLMB_AGAIN;

    for (pos = 0; pos < body_len; pos += len) {
        len = body_len - pos < step ? body_len - pos : step;

        rc = llmb_request_feed(r, body + pos, len);

        if (rc != LLMB_AGAIN && rc != LLMB_OK) {
            break;
        }
    }

    if (rc != LLMB_AGAIN && rc != LLMB_OK) {

        if (rc != LLMB_INVALID
            || llmb_request_feed(r, body, 1) != LLMB_INVALID
            || llmb_request_end(r) != LLMB_INVALID
            || r->error == LLMB_REQUEST_OK)
        {
            ok(0, "a refusal is kept");
        }

        return rc;
    }

    return llmb_request_end(r);
}


/* Reads the body into req; says so only if the ways of reading differ. */

static llmb_rc_e
read_body(llmb_dialect_e dialect)
{
    size_t                i;
    llmb_rc_e             rc;
    static const size_t   steps[] = { 1, 7 };

    memset(&req, 0xa5, sizeof(llmb_request_t));
    rc = feed(&req, dialect, body_len);

    for (i = 0; i < 2; i++) {
        memset(&again, 0xa5, sizeof(llmb_request_t));

        if (feed(&again, dialect, steps[i]) != rc
            || memcmp(&req, &again, offsetof(llmb_request_t, json)) != 0)
        {
            ok(0, "a body by %u bytes reads as the whole one",
               (unsigned) steps[i]);
            printf("# %.*s\n", (int) (body_len < 200 ? body_len : 200),
                   (char *) body);
        }
    }

    return rc;
}


static void
begin(void)
{
    body_len = 0;
}


static void
put(const char *text)
{
    size_t  len;

    len = strlen(text);

    memcpy(body + body_len, text, len);
    body_len += len;
}


static llmb_rc_e
read_text(llmb_dialect_e dialect, const char *text)
{
    begin();
    put(text);

    return read_body(dialect);
}


/* A chat body with one more member. */

static llmb_rc_e
read_member(llmb_dialect_e dialect, const char *member)
{
    begin();
    put("{\"model\":\"m\",");
    put(member);
    put("}");

    return read_body(dialect);
}


static void
is_refused(llmb_rc_e rc, llmb_request_error_e error, const char *name,
    const char *title)
{
    int  pass;

    pass = ok(rc == LLMB_INVALID && req.error == error
              && req.error_name_len == strlen(name)
              && memcmp(req.error_name, name, strlen(name)) == 0,
              "%s", title);

    if (!pass) {
        printf("# rc %d, error \"%s\", name \"%.*s\"\n", (int) rc,
               llmb_request_error_text(req.error), (int) req.error_name_len,
               (char *) req.error_name);
    }
}


static void
is_range(const llmb_range_t *range, const char *want, const char *title)
{
    is_str(body + range->start, (size_t) (range->end - range->start), want,
           title);
}


static void
test_plain(void)
{
    llmb_str_t  name;

    is_int(read_text(CHAT,
                     " {\"messages\" : [{\"role\":\"user\",\"content\":\"Hey\""
                     "}], \"mod\\u0065l\" :\"gpt\\u002d4\" ,\"stream\":true,"
                     "\"n\":2,\"max_tokens\": 28.0,\"service_tier\":\"flex\","
                     "\"user\":\"u1\"}\n"),
           LLMB_OK, "a plain body is read");
    is_str(req.model, req.model_len, "gpt-4", "with its model, decoded");
    is_range(&req.model_range, "\"gpt\\u002d4\"", "and where it stands");
    is_int(req.stream, 1, "with its stream flag");
    is_int(req.n.value, 2, "with its number of answers");
    is_int(req.max_tokens.value, 28, "with its ceiling");
    is_range(&req.max_tokens.range, "28.0", "and where that stands");
    is_str(req.tier, req.tier_len, "flex", "with its tier");
    is_str(req.user, req.user_len, "u1", "with its user");
    is_int((int64_t) req.messages, 1, "with its messages");
    is_int((int64_t) req.object_start, 1, "with the place of its brace");
    is_int(req.n_members, 7, "with its members");
    is_int((int64_t) req.text_bytes,
           8 + 4 + 4 + 7 + 3 + 5 + 5 + 6 + 4 + 1 + 1 + 10 + 4 + 12 + 4 + 4 + 2,
           "and with all of its text");

    name.data = (unsigned char *) body;
    name.len = 0;
    is_int(llmb_request_member_find(&req, &name), -1,
           "a member that is not there is not found");

    begin();
    put("service_tier");
    name.len = body_len;
    is_int(llmb_request_member_find(&req, &name), 5,
           "a member is found by its name");

    is_int(read_text(CHAT, "{\"metadata\":{\"model\":\"x\",\"user_id\":\"me\"}"
                     ",\"tools\":[{\"model\":\"y\"}],\"model\":\"z\"}"),
           LLMB_OK, "a model that is nested is no model");
    is_str(req.model, req.model_len, "z", "the one at the top is");
    is_str(req.user, req.user_len, "me", "the user may stand in metadata");

    is_int(read_member(CHAT, "\"user\":\"a\",\"metadata\":{\"user_id\":\"b\"}"),
           LLMB_OK, "there may be two users");
    is_str(req.user, req.user_len, "a", "then user is the one");
    is_int(read_member(CHAT, "\"metadata\":{\"user_id\":\"b\"},\"user\":\"a\""),
           LLMB_OK, "in any order");
    is_str(req.user, req.user_len, "a", "user is the one");
    is_int(read_member(CHAT, "\"metadata\":{\"user_id\":\"b\"},\"user\":\"\""),
           LLMB_OK, "an empty user is fine");
    is_str(req.user, req.user_len, "b", "but is none");

    is_int(read_member(MESSAGES, "\"metadata\":{\"user_id\":\""
                       "0123456789012345678901234567890123456789"
                       "01234567890123456789012\xc3\xa9zzz\"}"),
           LLMB_OK, "a long user is fine");
    is_int((int64_t) req.user_len, 63, "but is cut before a character");
}


static void
test_json(void)
{
    size_t  i;

    static const char *const  bad[] = {
        "", " ", "{", "{\"model\":\"m\"", "{\"model\":\"m\"}x",
        "{\"model\":\"m\",}", "{\"model\":'m'}", "{model:\"m\"}",
        "\xef\xbb\xbf{\"model\":\"m\"}", "{\"model\":\"m\"}{}",
        "{\"model\":\"m\"/**/}", "{\"model\":\"m\",\"n\":NaN}",
        "{\"model\":\"m\",\"n\":01}", "{\"model\":\"m\",\"x\":\"\xc3\"}",
        "{\"model\":\"m\",\"x\":\"\\ud800\"}",
        "{\"model\":\"m\",\"x\":\"a\nb\"}",
        "{\"model\":\"m\",\"max_tokens\":+1}",
    };

    static const char *const  not_objects[] = {
        "[]", "[{\"model\":\"m\"}]", "\"model\"", "1", "-1.5 ", "null",
        "true", "false",
    };

    for (i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        is_refused(read_text(CHAT, bad[i]), LLMB_REQUEST_NOT_JSON, "",
                   "what is not JSON is refused");
    }

    for (i = 0; i < sizeof(not_objects) / sizeof(not_objects[0]); i++) {
        is_refused(read_text(CHAT, not_objects[i]),
                   LLMB_REQUEST_NOT_OBJECT, "",
                   "what is no object is refused");
    }

    is_refused(read_text(CHAT, "{\"a\":[1,2,]}"), LLMB_REQUEST_NOT_JSON, "",
               "a bad body is refused");
    is_int((int64_t) req.error_offset, 10, "and the byte is named");

    begin();
    put("{\"model\":\"m\",\"x\":");

    for (i = 0; i < LLMB_REQUEST_DEPTH - 1; i++) {
        put("[");
    }

    put("1");

    for (i = 0; i < LLMB_REQUEST_DEPTH - 1; i++) {
        put("]");
    }

    put("}");

    is_int(read_body(CHAT), LLMB_OK, "a deep body is read");

    begin();
    put("{\"model\":\"m\",\"x\":");

    for (i = 0; i < LLMB_REQUEST_DEPTH; i++) {
        put("[");
    }

    is_refused(read_body(CHAT), LLMB_REQUEST_TOO_DEEP, "",
               "one that is deeper is refused at once");

    begin();

    for (i = 0; i < sizeof(body); i++) {
        body[i] = '[';
    }

    body_len = sizeof(body);
    is_refused(read_body(CHAT), LLMB_REQUEST_NOT_OBJECT, "",
               "a million brackets are refused");
}


static void
test_members(void)
{
    char        name[32];
    unsigned    i;
    llmb_str_t  str;

    begin();
    put("{\"model\":\"m\"");

    for (i = 1; i < LLMB_REQUEST_MEMBERS; i++) {
        snprintf(name, sizeof(name), ",\"k%u\":[%u]", i, i);
        put(name);
    }

    put("}");

    is_int(read_body(CHAT), LLMB_OK, "as many members as allowed are read");
    is_int(req.n_members, LLMB_REQUEST_MEMBERS, "all of them");

    str.data = (unsigned char *) name;
    str.len = (size_t) snprintf(name, sizeof(name), "k100");
    is_int(llmb_request_member_find(&req, &str), 100, "each can be found");

    body_len--;
    put(",\"z\":1}");
    is_refused(read_body(CHAT), LLMB_REQUEST_TOO_MANY, "",
               "one more is refused");

    is_int(read_member(CHAT, "\"a\":1,\"a\":2"), LLMB_OK,
           "members we do not act on may stand twice");
    is_int(req.n_members, 3, "and are both listed");
}


static void
test_duplicates(void)
{
    char         text[256];
    size_t       i;
    const char  *name;

    static const char *const  governed[] = {
        "model", "stream", "stream_options", "max_tokens",
        "max_completion_tokens", "max_output_tokens", "n", "best_of",
        "service_tier", "tools", "messages", "input", "prompt", "thinking",
        "background", "user", "metadata", "previous_response_id",
        "conversation", "system", "instructions", "modalities", "audio",
        "fallbacks", "models", "web_search_options", "mcp_servers", "speed"
    };

    for (i = 0; i < sizeof(governed) / sizeof(governed[0]); i++) {
        name = governed[i];

        snprintf(text, sizeof(text), "{\"x\":1,\"%s\":%s,\"%s\":%s}",
                 name, i ? "null" : "\"m\"", name, i ? "null" : "\"m\"");
        is_refused(read_text(CHAT, text), LLMB_REQUEST_DUPLICATE, name,
                   "a member we act on may not stand twice");

        snprintf(text, sizeof(text), "{\"x\":1,\"%c%s\":1}",
                 name[0] - 'a' + 'A', name + 1);
        is_refused(read_text(CHAT, text), LLMB_REQUEST_LOOKALIKE, name,
                   "nor in other case");

        snprintf(text, sizeof(text), "{\"x\":1,\"%s\\u0000\":1}", name);
        is_refused(read_text(CHAT, text), LLMB_REQUEST_LOOKALIKE, name,
                   "nor before a NUL");

        snprintf(text, sizeof(text), "{\"%sx\":1,\"x%s\":1,\"%s\":null}",
                 name, name, i ? name : "y");
        is_refused(read_text(CHAT, text), LLMB_REQUEST_NO_MODEL, "model",
                   "but other names may contain it");

        snprintf(text, sizeof(text), "{\"x\":{\"%s\":1,\"%s\":1,\"N\":2}}",
                 name, name);
        is_refused(read_text(CHAT, text), LLMB_REQUEST_NO_MODEL, "model",
                   "and it may be anything deeper down");
    }

    is_refused(read_text(CHAT, "{\"model\":\"a\",\"m\\u006fdel\":\"b\"}"),
               LLMB_REQUEST_DUPLICATE, "model",
               "an escaped key is the same key");
    is_int((int64_t) req.error_offset, 13, "and the second one is blamed");
    is_refused(read_text(CHAT, "{\"\xc5\xbftream\":true,\"model\":\"m\"}"),
               LLMB_REQUEST_LOOKALIKE, "stream",
               "the long s folds to s");
    is_refused(read_text(CHAT, "{\"\\u017fTREAM\":true,\"model\":\"m\"}"),
               LLMB_REQUEST_LOOKALIKE, "stream", "escaped too");
    is_refused(read_text(CHAT, "{\"max_to\xe2\x84\xaa" "ens\":1}"),
               LLMB_REQUEST_LOOKALIKE, "max_tokens",
               "the Kelvin sign folds to k");
    is_refused(read_text(CHAT, "{\"serv\xc4\xb1" "ce_tier\":1}"),
               LLMB_REQUEST_LOOKALIKE, "service_tier",
               "the dotless i uppercases to I");
    is_refused(read_text(CHAT, "{\"SERV\xc4\xb0" "CE_TIER\":1}"),
               LLMB_REQUEST_LOOKALIKE, "service_tier",
               "the dotted I folds to i");
    is_refused(read_text(CHAT, "{\"servi\xcc\x87" "ce_tier\":1}"),
               LLMB_REQUEST_LOOKALIKE, "service_tier",
               "or to i and a dot");
    is_refused(read_text(CHAT, "{\"MODEL\\u0000"
                         "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx\":1}"),
               LLMB_REQUEST_LOOKALIKE, "model",
               "what follows the NUL does not matter");
    is_int(read_text(CHAT, "{\"\\u0000model\":1,\"\":2,\"m\xc3\xb6" "del\":3,"
                     "\"\xc5\":4,\"model\":\"m\"}"), LLMB_INVALID,
           "a broken letter is no JSON");
    is_int(read_text(CHAT, "{\"\\u0000model\":1,\"\":2,\"m\xc3\xb6" "del\":3,"
                     "\"model\":\"m\"}"), LLMB_OK,
           "keys that are quite different are fine");

    is_refused(read_member(CHAT, "\"stream_options\":{\"include_usage\":true,"
                           "\"include_usage\":false}"),
               LLMB_REQUEST_DUPLICATE, "stream_options.include_usage",
               "include_usage may not stand twice");
    is_refused(read_member(CHAT, "\"stream_options\":{\"Include_usage\":true}"),
               LLMB_REQUEST_LOOKALIKE, "stream_options.include_usage",
               "nor in other case");
    is_refused(read_member(MESSAGES, "\"thinking\":{\"budget_tokens\":1,"
                           "\"budget_tokens\":2}"),
               LLMB_REQUEST_DUPLICATE, "thinking.budget_tokens",
               "budget_tokens may not stand twice");
    is_refused(read_member(MESSAGES, "\"thinking\":{\"budget_to\xe2\x84\xaa"
                           "ens\":1}"),
               LLMB_REQUEST_LOOKALIKE, "thinking.budget_tokens",
               "nor with the Kelvin sign");
    is_refused(read_member(MESSAGES, "\"metadata\":{\"user_id\":\"a\","
                           "\"user_id\":\"b\"}"),
               LLMB_REQUEST_DUPLICATE, "metadata.user_id",
               "user_id may not stand twice");
    is_refused(read_member(MESSAGES, "\"metadata\":{\"u\xc5\xbf" "er_id\":1}"),
               LLMB_REQUEST_LOOKALIKE, "metadata.user_id",
               "nor with a long s");
    is_refused(read_member(MESSAGES, "\"tools\":[{\"type\":\"custom\"},"
                           "{\"type\":\"custom\",\"type\":\"web_search_1\"}]"),
               LLMB_REQUEST_DUPLICATE, "tools.type",
               "the type of a tool may not stand twice");
    is_refused(read_member(MESSAGES, "\"tools\":[{\"Type\":\"x\"}]"),
               LLMB_REQUEST_LOOKALIKE, "tools.type", "nor in other case");
}


static void
test_types(void)
{
    size_t  i;
    char    text[128];

    static const char *const  bad[][2] = {
        { "model", "null" }, { "model", "1" }, { "model", "[\"m\"]" },
        { "model", "{}" }, { "model", "true" }, { "model", "\"\"" },
        { "model", "\"a\\nb\"" }, { "model", "\"a\\u0000\"" },
        { "model", "\"a\\u007f\"" },
        { "stream", "\"true\"" }, { "stream", "1" }, { "stream", "[]" },
        { "stream", "{}" },
        { "stream_options", "true" }, { "stream_options", "[]" },
        { "stream_options", "\"\"" },
        { "max_tokens", "\"100\"" }, { "max_tokens", "true" },
        { "max_tokens", "[1]" }, { "max_tokens", "{}" },
        { "max_completion_tokens", "\"1\"" },
        { "max_output_tokens", "\"inf\"" },
        { "n", "\"1\"" }, { "n", "false" }, { "best_of", "\"1\"" },
        { "service_tier", "1" }, { "service_tier", "[]" },
        { "service_tier", "\"a\\tb\"" },
        { "tools", "{}" }, { "tools", "\"x\"" },
        { "messages", "{}" }, { "messages", "\"x\"" },
        { "input", "{}" }, { "input", "1" },
        { "prompt", "true" }, { "prompt", "1" },
        { "thinking", "\"on\"" }, { "metadata", "[]" },
        { "background", "\"true\"" }, { "background", "1" },
        { "user", "1" }, { "user", "{}" },
        { "previous_response_id", "1" }, { "conversation", "[]" },
        { "fallbacks", "[\"m2\"]" }, { "fallbacks", "[{}]" },
        { "fallbacks", "{\"a\":1}" }, { "fallbacks", "\"m2\"" },
        { "fallbacks", "true" }, { "fallbacks", "[[]]" },
        { "fallbacks", "[null]" },
        { "models", "[\"m2\"]" }, { "models", "{\"a\":[]}" },
        { "models", "\"m2\"" }, { "models", "1" },
        { "web_search_options", "[]" }, { "mcp_servers", "{}" },
    };

    static const char *const  good[] = {
        "\"stream\":null", "\"stream\":false", "\"stream_options\":null",
        "\"max_tokens\":null", "\"n\":null", "\"best_of\":null",
        "\"service_tier\":null", "\"service_tier\":\"\"", "\"tools\":null",
        "\"tools\":[1,\"x\",null,[{\"type\":1}]]", "\"messages\":null",
        "\"messages\":[\"a\",null,1]", "\"input\":null", "\"prompt\":null",
        "\"thinking\":null", "\"thinking\":{\"type\":\"enabled\"}",
        "\"thinking\":{\"budget_tokens\":null}", "\"metadata\":null",
        "\"metadata\":{\"user_id\":null,\"x\":{\"user_id\":1}}",
        "\"background\":null", "\"background\":false", "\"user\":null",
        "\"previous_response_id\":null", "\"conversation\":null",
        "\"fallbacks\":null", "\"fallbacks\":[]", "\"fallbacks\":{}",
        "\"models\":null", "\"models\":[ ]", "\"models\":{ }",
        "\"system\":[{}]", "\"instructions\":1", "\"modalities\":[\"audio\"]",
        "\"audio\":{\"voice\":\"x\"}", "\"web_search_options\":null",
        "\"mcp_servers\":null", "\"tools\":[{\"type\":null}]",
        "\"tools\":[{\"max_uses\":null}]",
        "\"stream_options\":{\"include_usage\":null}",
    };

    for (i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        snprintf(text, sizeof(text), "{\"x\":1,\"%s\":%s}", bad[i][0],
                 bad[i][1]);
        is_refused(read_text(CHAT, text), LLMB_REQUEST_BAD_TYPE, bad[i][0],
                   "a member of the wrong type is refused");
    }

    for (i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
        is_int(read_member(CHAT, good[i]), LLMB_OK,
               "a member of another right type is fine");
    }

    is_refused(read_member(CHAT, "\"stream_options\":{\"include_usage\":1}"),
               LLMB_REQUEST_BAD_TYPE, "stream_options.include_usage",
               "include_usage must be a flag");
    is_refused(read_member(CHAT, "\"thinking\":{\"budget_tokens\":\"1\"}"),
               LLMB_REQUEST_BAD_TYPE, "thinking.budget_tokens",
               "budget_tokens must be a number");
    is_refused(read_member(CHAT, "\"metadata\":{\"user_id\":1}"),
               LLMB_REQUEST_BAD_TYPE, "metadata.user_id",
               "user_id must be a text");
    is_refused(read_member(MESSAGES, "\"tools\":[{\"type\":1}]"),
               LLMB_REQUEST_BAD_TYPE, "tools.type",
               "the type of a tool must be a text");
    is_refused(read_member(COMPLETIONS, "\"prompt\":{\"id\":\"x\"}"),
               LLMB_REQUEST_BAD_TYPE, "prompt",
               "completions know no stored prompt");
    is_refused(read_member(RESPONSES, "\"background\":true"),
               LLMB_REQUEST_BACKGROUND, "background",
               "background mode is refused");
    is_refused(read_member(MESSAGES, "\"speed\":\"fast\""),
               LLMB_REQUEST_BAD_TYPE, "speed",
               "a speed with another price is refused");
    is_int(read_member(MESSAGES, "\"speed\":\"standard\""), LLMB_OK,
           "the usual speed is fine");
    is_int(read_member(CHAT, "\"speed\":1"), LLMB_OK,
           "and so is what another API calls by that name");
}


static void
test_limits(void)
{
    unsigned  i;

    begin();
    put("{\"model\":\"");

    for (i = 0; i < LLMB_MODEL_LEN; i++) {
        put("m");
    }

    put("\"}");
    is_int(read_body(CHAT), LLMB_OK, "a long model is read");
    is_int((int64_t) req.model_len, LLMB_MODEL_LEN, "all of it");

    body_len -= 2;
    put("m\"}");
    is_refused(read_body(CHAT), LLMB_REQUEST_TOO_LONG, "model",
               "a longer one is refused");

    is_int(read_member(CHAT, "\"service_tier\":"
                       "\"01234567890123456789012345678901\""),
           LLMB_OK, "a long tier is read");
    is_refused(read_member(CHAT, "\"service_tier\":"
                           "\"012345678901234567890123456789012\""),
               LLMB_REQUEST_TOO_LONG, "service_tier",
               "a longer one is refused");

    is_refused(read_text(CHAT, "{}"), LLMB_REQUEST_NO_MODEL, "model",
               "chat needs a model");
    is_refused(read_text(RESPONSES, "{\"previous_response_id\":\"r\"}"),
               LLMB_REQUEST_NO_MODEL, "model", "responses need a model");
    is_int(read_text(RESPONSES, "{\"prompt\":{\"id\":\"p\"}}"), LLMB_OK,
           "or a stored prompt");
    is_int((int64_t) req.model_len, 0, "then there is no model");
    is_int(req.remote_input, 1, "and the input stands elsewhere");
    is_refused(read_text(CHAT, "{\"prompt\":{\"id\":\"p\"}}"),
               LLMB_REQUEST_NO_MODEL, "model", "for others it is no help");
}


static void
test_numbers(void)
{
    size_t  i;
    char    text[512];

    static const char *const  good[][2] = {
        { "28", "28" }, { "28.0", "28" }, { "2.8e1", "28" }, { "0", "0" },
        { "-0", "0" }, { "2147483647", "2147483647" },
    };

    static const char *const  bad[] = {
        "-1", "1.5", "1e400", "2147483648", "18446744073686646784",
        "99999999999999999999999999999", "-2147483648", "0.5", "1e-1",
        "4294967297", "-9223372036854775808", "1e10",
    };

    static const char *const  names[] = {
        "max_tokens", "max_completion_tokens", "max_output_tokens", "n",
        "best_of"
    };

    for (i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
        snprintf(text, sizeof(text), "\"max_output_tokens\" : %s ,\"x\":1",
                 good[i][0]);
        is_int(read_member(RESPONSES, text), LLMB_OK, "a count is read");
        is_int(req.max_output_tokens.value, atoll(good[i][1]), "as it is");
        is_int(req.max_output_tokens.is_set, 1, "and set");
        is_range(&req.max_output_tokens.range, good[i][0], "at its place");
    }

    for (i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        snprintf(text, sizeof(text), "\"%s\":%s", names[i % 5], bad[i]);
        is_refused(read_member(CHAT, text), LLMB_REQUEST_BAD_NUMBER,
                   names[i % 5], "a bad number is refused");
    }

    is_refused(read_member(CHAT, "\"n\":0"), LLMB_REQUEST_BAD_NUMBER, "n",
               "no answers are refused");
    is_refused(read_member(CHAT, "\"best_of\":0"), LLMB_REQUEST_BAD_NUMBER,
               "best_of", "no candidates are refused");
    is_refused(read_member(CHAT, "\"thinking\":{\"budget_tokens\":-1}"),
               LLMB_REQUEST_BAD_NUMBER, "thinking.budget_tokens",
               "a negative thinking budget is refused");
    is_refused(read_member(MESSAGES, "\"tools\":[{\"max_uses\":1.5}]"),
               LLMB_REQUEST_BAD_NUMBER, "tools.max_uses",
               "half a use is refused");

    begin();
    put("{\"model\":\"m\",\"max_tokens\":1.");

    for (i = 0; i < 400; i++) {
        put("0");
    }

    put("1}");
    is_refused(read_body(CHAT), LLMB_REQUEST_BAD_NUMBER, "max_tokens",
               "a number that is too long to see its end is refused");

    is_int(read_member(CHAT, "\"max_tokens\":null"), LLMB_OK,
           "a null is read");
    is_int(req.max_tokens.is_set, 0, "as absent");
    is_range(&req.max_tokens.range, "null", "but has a place");

    is_int(read_member(MESSAGES, "\"thinking\":{\"a\":1,\"budget_tokens\":"
                       "1024}"), LLMB_OK, "a thinking budget is read");
    is_int(req.thinking_budget.value, 1024, "as it is");
    is_range(&req.thinking_budget.range, "1024", "at its place");
}


static void
is_ceiling(llmb_dialect_e dialect, const char *members, int64_t want,
    const char *want_name, const char *title)
{
    const char                *name;
    const llmb_request_int_t  *ceiling;

    begin();
    put("{\"model\":\"m\"");
    put(members);
    put("}");

    if (read_body(dialect) != LLMB_OK) {
        ok(0, "%s", title);
        return;
    }

    name = "";
    ceiling = llmb_request_ceiling(&req, &name);

    ok((ceiling ? ceiling->value : -1) == want
       && (want_name ? name != NULL && strcmp(name, want_name) == 0
                     : name == NULL),
       "%s", title);
}


static void
is_answers(llmb_dialect_e dialect, const char *member, int64_t want,
    const char *title)
{
    int64_t  answers;

    answers = -1;

    if (read_member(dialect, member) != LLMB_OK
        || llmb_request_answers(&req, &answers) != LLMB_OK)
    {
        answers = -1;
    }

    is_int(answers, want, title);
}


static void
test_output(void)
{
    int64_t  answers;

    is_ceiling(CHAT, "", -1, "max_completion_tokens",
               "chat without a ceiling prefers max_completion_tokens");
    is_ceiling(CHAT, ",\"max_tokens\":5", 5, "max_tokens",
               "chat takes max_tokens");
    is_ceiling(CHAT, ",\"max_tokens\":5,\"max_completion_tokens\":9", 9,
               "max_completion_tokens", "max_completion_tokens goes first");
    is_ceiling(CHAT, ",\"max_tokens\":9,\"max_completion_tokens\":5", 9,
               "max_completion_tokens", "T20: the larger of both counts");
    is_ceiling(CHAT, ",\"max_completion_tokens\":0,\"max_tokens\":5", 5,
               "max_completion_tokens", "of a zero, too");
    is_ceiling(CHAT, ",\"max_completion_tokens\":null,\"max_tokens\":5", 5,
               "max_tokens", "unless it is null");
    is_ceiling(CHAT, ",\"max_output_tokens\":5", -1, "max_completion_tokens",
               "another dialect's ceiling is none");
    is_ceiling(RESPONSES, ",\"max_output_tokens\":7,\"max_tokens\":5", 7,
               "max_output_tokens", "responses have max_output_tokens");
    is_ceiling(RESPONSES, ",\"max_tokens\":5", -1, "max_output_tokens",
               "and nothing else");
    is_ceiling(COMPLETIONS, "", 16, "max_tokens",
               "completions have 16 tokens by default");
    is_ceiling(COMPLETIONS, ",\"max_tokens\":null", 16, "max_tokens",
               "a null is the default");
    is_ceiling(COMPLETIONS, ",\"max_tokens\":99", 99, "max_tokens",
               "or what is asked for");
    is_ceiling(MESSAGES, ",\"max_tokens\":0", 0, "max_tokens",
               "messages may have no output");
    is_ceiling(MESSAGES, ",\"max_completion_tokens\":1", -1, "max_tokens",
               "messages without a ceiling have none");
    is_ceiling(EMBEDDINGS, ",\"max_tokens\":5", 0, NULL,
               "embeddings have no output");

    is_answers(CHAT, "\"x\":1", 1, "there is one answer");
    is_answers(CHAT, "\"n\":8", 8, "or n");
    is_answers(CHAT, "\"n\":8,\"best_of\":9", 8, "chat has no best_of");
    is_answers(RESPONSES, "\"n\":8", 1, "responses have no n");
    is_answers(MESSAGES, "\"n\":8", 1, "nor have messages");
    is_answers(COMPLETIONS, "\"n\":2,\"best_of\":5,\"prompt\":\"a\"", 5,
               "all candidates are billed");
    is_answers(COMPLETIONS, "\"n\":2,\"best_of\":1,\"prompt\":[\"a\",\"b\"]",
               4, "for each prompt");
    is_answers(COMPLETIONS, "\"prompt\":[1,2,3]", 1,
               "token ids are one prompt");
    is_answers(COMPLETIONS, "\"prompt\":[[1,2],[3],[]]", 3,
               "lists of token ids are each a prompt");
    is_int((int64_t) req.token_ids, 3, "and the ids are counted");
    is_answers(COMPLETIONS, "\"prompt\":[1,\"a\",2,[3]]", 3,
               "a mixture counts as the most it could be");
    is_answers(COMPLETIONS, "\"prompt\":[]", 1, "no prompt is one answer");
    is_answers(CHAT, "\"prompt\":[\"a\",\"b\"]", 1,
               "prompts are for completions only");
    is_answers(COMPLETIONS, "\"n\":2147483647,\"prompt\":[\"a\",\"b\"]",
               4294967294, "many answers do not wrap");

    req.prompts = UINT64_MAX;
    is_int(llmb_request_answers(&req, &answers), LLMB_OVERFLOW,
           "more than fit are refused");
}


static void
test_stream_options(void)
{
    is_int(read_member(CHAT, "\"stream_options\": {\"include_obfuscation\":"
                       "false, \"include_usage\" : true }"), LLMB_OK,
           "stream options are read");
    is_range(&req.stream_options,
             "{\"include_obfuscation\":false, \"include_usage\" : true }",
             "with their place");
    is_range(&req.include_usage, "true", "and the place of the flag");
    ok(req.stream_options_object == 1 && req.stream_options_empty == 0
       && req.include_usage_true == 1, "and what they are");

    is_int(read_member(CHAT, "\"stream_options\": { }"), LLMB_OK,
           "empty stream options are read");
    is_range(&req.stream_options, "{ }", "with their place");
    ok(req.stream_options_object == 1 && req.stream_options_empty == 1
       && req.include_usage_true == 0 && req.include_usage.end == 0,
       "as empty");

    is_int(read_member(CHAT, "\"stream_options\": null"), LLMB_OK,
           "null stream options are read");
    is_range(&req.stream_options, "null", "with their place");
    ok(req.stream_options_object == 0 && req.stream_options_empty == 0,
       "as none");

    is_int(read_member(CHAT, "\"stream_options\":{\"x\":{\"include_usage\":"
                       "true},\"include_usage\":false}"), LLMB_OK,
           "the flag may be nested elsewhere");
    is_range(&req.include_usage, "false", "the right one counts");
    ok(req.include_usage_true == 0, "and is not set");
    is_int((int64_t) (req.stream_options.end - req.stream_options.start), 50,
           "the place ends at the right brace");
}


/* text, media, images, audios, files of a body */

static void
is_input(llmb_rc_e rc, int64_t text, int64_t media, const char *counts,
    const char *title)
{
    int   pass;
    char  got[64];

    snprintf(got, sizeof(got), "%u %u %u", (unsigned) req.images,
             (unsigned) req.audios, (unsigned) req.files);

    pass = ok(rc == LLMB_OK && (int64_t) req.text_bytes == text
              && (int64_t) req.media_bytes == media
              && strcmp(got, counts) == 0, "%s", title);

    if (!pass) {
        printf("# rc %d, text %lld, media %lld, counts %s\n", (int) rc,
               (long long) req.text_bytes, (long long) req.media_bytes, got);
    }
}


/* A part of one message; what is around it is taken off the text. */

static llmb_rc_e
read_part(llmb_dialect_e dialect, const char *part)
{
    llmb_rc_e  rc;

    begin();
    put("{\"model\":\"m\",\"");
    put(dialect == RESPONSES ? "input" : "messages");
    put("\":[{\"role\":\"user\",\"content\":[");
    put(part);
    put("]}]}");

    rc = read_body(dialect);

    req.text_bytes -= (dialect == RESPONSES ? 5u : 8u) + 5 + 1 + 4 + 4 + 7;

    return rc;
}


static void
test_media(void)
{
    is_input(read_part(CHAT, "{\"type\":\"image_url\",\"image_url\":{\"url\":"
                       "\"" DATA_URL "\",\"detail\":\"low\"}}"),
             4 + 9 + 9 + 3 + 6 + 3, DATA_URL_LEN, "1 0 0",
             "a data URL is an image");
    is_input(read_part(CHAT, "{\"image_url\":\"" DATA_URL "\"}"), 9,
             DATA_URL_LEN, "1 0 0", "also without an object");
    is_input(read_part(CHAT, "{\"image_url\":\"https://e.org/i.png\"}"), 9,
             19, "1 0 0", "so is a URL");
    is_input(read_part(RESPONSES, "{\"type\":\"input_image\",\"image_url\":"
                       "\"HTTP://e.org/i.png\"}"), 4 + 11 + 9, 18, "1 0 0",
             "so is one of responses");
    is_input(read_part(CHAT, "{\"image_url\":\"some words\"}"), 9 + 10, 0,
             "1 0 0", "other words are an image and a text");
    is_input(read_part(CHAT, "{\"image_url\":\"data:some,;base64,words\"}"),
             9 + 23, 0, "1 0 0", "a data URL in words is a text");
    is_input(read_part(CHAT, "{\"image_url\":\"data:x;base65,QUJD\"}"),
             9 + 18, 0, "1 0 0", "also one in another base");
    is_input(read_part(CHAT, "{\"image_url\":\"QUJDREVGR0g\"}"),
             9 + 11, 0, "1 0 0", "bare base64 is no URL");

    is_input(read_part(CHAT, "{\"type\":\"text\",\"text\":\"" DATA_URL "\"}"),
             4 + 4 + 4 + DATA_URL_LEN, 0, "0 0 0",
             "a text that looks like media is a text");
    is_input(read_part(CHAT, "{\"url\":\"" DATA_URL "\",\"data\":\"QUJD\"}"),
             3 + DATA_URL_LEN + 4 + 4, 0, "0 0 0",
             "media in no known place is a text");
    is_input(read_part(CHAT, "{\"Image_url\":\"" DATA_URL "\"}"),
             9 + DATA_URL_LEN, 0, "0 0 0", "and under no known name");
    is_input(read_part(EMBEDDINGS, "{\"image_url\":\"" DATA_URL "\"}"),
             9 + DATA_URL_LEN, 0, "0 0 0", "and in a dialect without media");
    is_input(read_part(MESSAGES, "{\"type\":\"tool_use\",\"input\":"
                       "{\"image_url\":\"" DATA_URL "\",\"source\":{\"type\":"
                       "\"base64\",\"data\":\"QUJD\"}}}"),
             4 + 8 + 5 + 9 + DATA_URL_LEN + 6 + 4 + 6 + 4 + 4, 0, "0 0 0",
             "and in the arguments of a tool");

    is_input(read_text(CHAT, "{\"model\":\"m\",\"tools\":[{\"function\":{"
                       "\"image_url\":\"" DATA_URL "\"}}],\"content\":[{"
                       "\"image_url\":\"" DATA_URL "\"}],\"input\":[{"
                       "\"content\":[{\"image_url\":\"" DATA_URL "\"}]}],"
                       "\"messages\":[{\"image_url\":\"" DATA_URL "\"}]}"),
             5 + 1 + 5 + 8 + 9 + 7 + 9 + 5 + 7 + 9 + 8 + 9
             + 4 * DATA_URL_LEN, 0, "0 0 0",
             "and at no place but that of messages");

    is_input(read_part(CHAT, "{\"input_audio\":{\"format\":\"wav\",\"data\":"
                       "\"QUJD\"}}"), 11 + 6 + 3 + 4, 4, "0 1 0",
             "audio is counted");
    is_input(read_part(CHAT, "{\"input_audio\":{\"data\":\"some words\"}}"),
             11 + 4 + 10, 0, "0 1 0", "words are no audio");
    is_input(read_part(CHAT, "{\"file\":{\"file_data\":\"" DATA_URL "\","
                       "\"filename\":\"a.pdf\"}}"), 4 + 9 + 8 + 5,
             DATA_URL_LEN, "0 0 1", "a file is counted");
    is_input(read_part(CHAT, "{\"file\":{\"file_id\":\"file-1\"}}"),
             4 + 7 + 6, 0, "0 0 1", "also one that is stored");
    is_input(read_part(RESPONSES, "{\"type\":\"input_file\",\"file_data\":"
                       "\"QUJD\"}"), 4 + 10 + 9, 4, "0 0 1",
             "a file of responses");
    is_input(read_part(RESPONSES, "{\"file_url\":\"https://e.org/f\"}"), 8,
             15, "0 0 1", "by its URL");
    is_input(read_part(RESPONSES, "{\"file_url\":\"some words\"}"), 8 + 10, 0,
             "0 0 1", "which must be one");
    is_input(read_part(RESPONSES, "{\"file_id\":\"f\",\"type\":"
                       "\"input_image\"}"), 7 + 1 + 4 + 11, 0, "1 0 0",
             "a stored image is an image");
    is_input(read_part(RESPONSES, "{\"file_id\":\"f\",\"type\":"
                       "\"input_file\"}"), 7 + 1 + 4 + 10, 0, "0 0 1",
             "a stored file is a file");

    is_input(read_text(RESPONSES, "{\"model\":\"m\",\"input\":[{\"output\":{"
                       "\"image_url\":\"" DATA_URL "\"}},{\"output\":[{"
                       "\"file_data\":\"QUJD\"}]},{\"output\":\"x\"}]}"),
             5 + 1 + 5 + 6 + 9 + 6 + 9 + 6 + 1, DATA_URL_LEN + 4, "1 0 1",
             "the output of a tool may be media");
    is_int((int64_t) req.messages, 3, "items are counted");
}


static void
test_sources(void)
{
    is_input(read_part(MESSAGES, "{\"type\":\"image\",\"source\":{\"type\":"
                       "\"base64\",\"media_type\":\"image/png\",\"data\":"
                       "\"QUJD\"}}"), 4 + 5 + 6 + 4 + 6 + 10 + 9 + 4, 4,
             "1 0 0", "an image in base64 is an image");
    is_input(read_part(MESSAGES, "{\"source\":{\"data\":\"QUJD\",\"type\":"
                       "\"base64\"},\"type\":\"image\"}"),
             6 + 4 + 4 + 6 + 4 + 5, 4, "1 0 0", "in any order");
    is_input(read_part(MESSAGES, "{\"source\":{\"data\":\"QUJD\",\"type\":"
                       "\"base64\"},\"type\":\"document\"}"),
             6 + 4 + 4 + 6 + 4 + 8, 4, "0 0 1", "a document is a file");
    is_input(read_part(MESSAGES, "{\"type\":\"image\",\"type\":\"document\","
                       "\"source\":{\"data\":\"QUJD\",\"type\":\"base64\"}}"),
             4 + 5 + 4 + 8 + 6 + 4 + 4 + 6, 4, "0 0 1",
             "also one that calls itself an image, too");
    is_input(read_part(MESSAGES, "{\"type\":\"document\",\"source\":{\"type\":"
                       "\"text\",\"data\":\"QUJD\"}}"),
             4 + 8 + 6 + 4 + 4 + 4 + 4, 0, "0 0 0",
             "a document in words is text");
    is_input(read_part(MESSAGES, "{\"source\":{\"data\":\"QUJD\"}}"),
             6 + 4 + 4, 0, "0 0 0", "so is one without a type");
    is_input(read_part(MESSAGES, "{\"source\":{\"type\":\"base64\",\"data\":"
                       "\"QUJD\",\"type\":\"text\"}}"),
             6 + 4 + 6 + 4 + 4 + 4 + 4, 4 - 4, "0 0 1",
             "so is one with two types");
    is_input(read_part(MESSAGES, "{\"source\":{\"type\":\"base64\",\"data\":"
                       "\"QUJD\",\"Type\":\"text\"}}"),
             6 + 4 + 6 + 4 + 4 + 4 + 4, 0, "0 0 1",
             "or with what looks like one");
    is_input(read_part(MESSAGES, "{\"source\":{\"type\":\"base64\",\"data\":"
                       "\"words\",\"data\":\"QUJD\"}}"),
             6 + 4 + 6 + 4 + 5 + 4 + 4, 0, "0 0 1",
             "so are two data");
    is_input(read_part(MESSAGES, "{\"source\":{\"type\":\"base64\",\"data\":"
                       "\"some words\"}}"), 6 + 4 + 6 + 4 + 10, 0, "0 0 1",
             "words are no base64");
    is_input(read_part(MESSAGES, "{\"type\":\"image\",\"source\":{\"type\":"
                       "\"url\",\"url\":\"https://e.org/i\"}}"),
             4 + 5 + 6 + 4 + 3 + 3, 15, "1 0 0", "an image may be a URL");
    is_input(read_part(MESSAGES, "{\"type\":\"document\",\"source\":{\"type\":"
                       "\"file\",\"file_id\":\"f\"}}"),
             4 + 8 + 6 + 4 + 4 + 7 + 1, 0, "0 0 1",
             "a document may be stored");
    is_input(read_part(MESSAGES, "{\"type\":\"image\",\"file_id\":\"f\","
                       "\"source\":{\"file_id\":\"f\"}}"),
             4 + 5 + 7 + 1 + 6 + 7 + 1, 0, "1 0 1", "two are two");

    is_input(read_part(MESSAGES, "{\"type\":\"tool_result\",\"content\":[{"
                       "\"type\":\"image\",\"source\":{\"type\":\"base64\","
                       "\"data\":\"QUJD\"}},{\"type\":\"text\",\"text\":"
                       "\"QUJD\"}]}"),
             4 + 11 + 7 + 4 + 5 + 6 + 4 + 6 + 4 + 4 + 4 + 4 + 4, 4, "1 0 0",
             "the result of a tool may be an image");
    is_input(read_part(MESSAGES, "{\"content\":{\"type\":\"web_fetch_result\","
                       "\"content\":{\"type\":\"document\",\"source\":{"
                       "\"type\":\"base64\",\"data\":\"QUJD\"}}}}"),
             7 + 4 + 16 + 7 + 4 + 8 + 6 + 4 + 6 + 4, 4, "0 0 1",
             "or a document, deeper down");
    is_input(read_part(MESSAGES, "{\"source\":{\"data\":\"QUJD\",\"content\":["
                       "{\"source\":{\"type\":\"base64\",\"data\":\"QU\"}}],"
                       "\"type\":\"base64\"}}"),
             6 + 4 + 4 + 7 + 6 + 4 + 6 + 4 + 4 + 6, 2, "0 0 2",
             "a source in a source makes the outer one text");

    is_input(read_part(MESSAGES, "{\"source\":{\"data\":\"QUJD\",\"content\":["
                       "{\"source\":{\"type\":\"base64\"}}]}}"),
             6 + 4 + 4 + 7 + 6 + 4 + 6, 0, "0 0 1",
             "the type of an inner source says nothing of the outer one");

    begin();
    put("{\"model\":\"m\",\"messages\":[{\"content\":[{\"type\":\"image\","
        "\"source\":{\"type\":\"base64\",\"data\":\"");

    while (body_len < 500000) {
        put("QUJDREVGR0hJSktMTU5PUFFSU1RVVldYWVo");
    }

    put("\"}}]}]}");
    is_int(read_body(MESSAGES), LLMB_OK, "half a million bytes are read");
    ok(req.text_bytes < 100 && req.media_bytes > 499000 && req.images == 1,
       "and left out of the text");
}


static void
test_text(void)
{
    is_int(read_text(EMBEDDINGS, "{\"model\":\"m\",\"input\":[1,2,3]}"),
           LLMB_OK, "token ids are read");
    is_int((int64_t) req.token_ids, 3, "and counted");
    is_int((int64_t) req.text_bytes, 11, "but not as text");
    is_int((int64_t) req.messages, 0, "nor as messages");

    is_int(read_text(EMBEDDINGS, "{\"model\":\"m\",\"input\":[[1,2],[3]]}"),
           LLMB_OK, "lists of token ids are read");
    is_int((int64_t) req.token_ids, 3, "and counted");
    is_int((int64_t) req.messages, 2, "each list is an input");

    is_int(read_text(EMBEDDINGS, "{\"model\":\"m\",\"input\":\"h\xc3\xa9\","
                     "\"x\":[1,-2.5,true,false,null,\"\\u00e9\\n\"]}"),
           LLMB_OK, "a text is read");
    is_int((int64_t) req.token_ids, 0, "other numbers are no ids");
    is_int((int64_t) req.text_bytes, 5 + 1 + 5 + 3 + 1 + 1 + 4 + 4 + 5 + 4 + 3,
           "and counted by its decoded bytes");

    is_int(read_text(RESPONSES, "{\"model\":\"m\",\"input\":[{\"x\":1}]}"),
           LLMB_OK, "an item is read");
    is_int((int64_t) req.token_ids, 0, "its numbers are no ids");
    is_int((int64_t) req.text_bytes, 5 + 1 + 5 + 1 + 1, "but text");

    is_int(read_member(MESSAGES, "\"messages\":[{\"content\":[{\"text\":\"x\","
                       "\"cache_control\":{\"type\":\"ephemeral\"}}]}]"),
           LLMB_OK, "cache control is read");
    ok(req.cache_control == 1 && req.cache_1h == 0, "as the short one");

    is_int(read_member(MESSAGES, "\"tools\":[{\"cache_control\":{\"ttl\":"
                       "\"1h\"}}]"), LLMB_OK, "cache control is read");
    ok(req.cache_control == 1 && req.cache_1h == 1, "as the long one");

    is_int(read_member(MESSAGES, "\"cache_control\":{\"ttl\":\"5m\"}"),
           LLMB_OK, "cache control is read");
    ok(req.cache_control == 1 && req.cache_1h == 0, "as the short one");

    is_int(read_member(MESSAGES, "\"cache_control\":null,\"ttl\":\"1h\""),
           LLMB_OK, "cache control may be null");
    ok(req.cache_control == 0 && req.cache_1h == 0, "which is none");
}


static void
is_tools(llmb_dialect_e dialect, const char *member, const char *want,
    const char *title)
{
    int        pass;
    char       got[64];
    llmb_rc_e  rc;

    rc = read_member(dialect, member);

    snprintf(got, sizeof(got), "%u %u %u", req.hosted_tools,
             req.hosted_searches, (unsigned) req.hosted_max_uses);

    pass = ok(rc == LLMB_OK && strcmp(got, want) == 0, "%s", title);

    if (!pass) {
        printf("# rc %d, got %s\n", (int) rc, got);
    }
}


static void
test_tools(void)
{
    is_tools(CHAT, "\"tools\":[{\"type\":\"function\",\"function\":{\"type\":"
             "\"web_search\"}},{\"type\":\"custom\"},{\"name\":\"x\"}]",
             "0 0 0", "the client's tools are not hosted");
    is_tools(RESPONSES, "\"tools\":[{\"type\":\"web_search_preview\"},"
             "{\"type\":\"code_interpreter\"},{\"type\":\"mcp\"}]", "3 1 0",
             "the provider's are");
    is_tools(RESPONSES, "\"tools\":[{\"type\":\"functionx\"},{\"type\":"
             "\"function\\u0000\"}]", "2 0 0", "and whatever we do not know");
    is_tools(MESSAGES, "\"tools\":[{\"name\":\"x\"},{\"type\":\"custom\"},"
             "{\"type\":\"bash_20250124\"},{\"type\":\"text_editor_1\"},"
             "{\"type\":\"computer_1\"},{\"type\":\"memory_1\"}]", "0 0 0",
             "a client may run Anthropic's tools");
    is_tools(MESSAGES, "\"tools\":[{\"type\":\"web_search_20250305\","
             "\"max_uses\":3},{\"max_uses\":4,\"type\":\"web_fetch_1\"},"
             "{\"max_uses\":9}]", "2 1 7", "uses are summed");
    is_tools(MESSAGES, "\"tools\":[{\"type\":\"web_search_20250305\","
             "\"max_uses\":3},{\"type\":\"code_execution_1\"},"
             "{\"type\":\"advisor_1\",\"max_uses\":2}]", "3 1 0",
             "but one without a bound has none");
    is_tools(MESSAGES, "\"tools\":[{\"type\":\"function\"}]", "1 0 0",
             "a type of another dialect is not trusted");
    is_tools(MESSAGES, "\"mcp_servers\":[{\"url\":\"x\"},{}]", "2 0 0",
             "the provider calls MCP servers");
    is_tools(CHAT, "\"web_search_options\":{}", "1 1 0",
             "the search of chat is hosted");
    is_tools(CHAT, "\"x\":{\"tools\":[{\"type\":\"web_search\"}]}", "0 0 0",
             "tools stand at the top");

    (void) read_member(RESPONSES, "\"previous_response_id\":\"r\"");
    is_int(req.remote_input, 1, "a previous response is input");
    (void) read_member(RESPONSES, "\"conversation\":{\"id\":\"c\"}");
    is_int(req.remote_input, 1, "so is a conversation");
    (void) read_member(RESPONSES, "\"conversation\":null,"
                       "\"previous_response_id\":null");
    is_int(req.remote_input, 0, "but not a null");
    (void) read_member(RESPONSES, "\"prompt\":\"x\",\"input\":\"y\"");
    is_int(req.remote_input, 0, "nor a prompt in words");
}


/*
 * Any set of up to six members cut out of bodies in all kinds of spacing:
 * what is left is JSON with the others, each whole and in order.
 */

static unsigned
cut_is_right(const unsigned char *drop)
{
    char           name[8];
    unsigned       i, k, left;
    uint64_t       pos;
    llmb_str_t     str;
    llmb_range_t   cut[6];
    unsigned char  out[512];
    size_t         n, len;

    /* the ranges in the order of members are in the order of bytes */

    k = 0;
    left = 0;

    for (i = 0; i < req.n_members; i++) {
        if (drop[i]) {
            llmb_request_member_cut(&req, drop, i, &cut[k]);

            if (cut[k].start >= cut[k].end
                || (k > 0 && cut[k].start < cut[k - 1].end))
            {
                return 0;
            }

            k++;

        } else {
            left++;
        }
    }

    pos = 0;
    n = 0;

    for (i = 0; i <= k; i++) {
        len = (size_t) ((i < k ? cut[i].start : body_len) - pos);
        memcpy(out + n, body + pos, len);
        n += len;
        pos = i < k ? cut[i].end : body_len;
    }

    llmb_request_init(&again, RESPONSES);

    if (llmb_request_feed(&again, out, n) != LLMB_OK
        || again.n_members != left)
    {
        return 0;
    }

    k = 0;

    for (i = 0; i < req.n_members; i++) {

        if (drop[i]) {
            continue;
        }

        str.data = (unsigned char *) name;
        str.len = (size_t) snprintf(name, sizeof(name), "k%u", i);

        len = (size_t) (req.members[i].end - req.members[i].key_start);

        if (llmb_request_member_find(&again, &str) != (int) k
            || again.members[k].end - again.members[k].key_start != len
            || memcmp(body + req.members[i].key_start,
                      out + again.members[k].key_start, len) != 0)
        {
            return 0;
        }

        k++;
    }

    return 1;
}


static void
test_cut(void)
{
    char           member[64];
    size_t         s;
    unsigned       n, i, set, wrong, tried;
    unsigned char  drop[LLMB_REQUEST_MEMBERS];

    static const char *const  spaces[][5] = {
        { "", "", "", "", "" },
        { " ", " ", " ", " ", " " },
        { "\n  ", "", " ", "", "\n" },
        { "", "\t", "", "\r\n ", "" },
        { "\n", "\n", "\n", "", "   " },
    };

    static const char *const  values[] = {
        "1", "\"a,}\\\"\"", "{\"x\":[1,2],\"y\":{}}", "[ {} , [] ]", "null",
        "-2.5e3"
    };

    wrong = 0;
    tried = 0;

    for (s = 0; s < sizeof(spaces) / sizeof(spaces[0]); s++) {

        for (n = 1; n <= 6; n++) {
            begin();
            put(spaces[s][4]);
            put("{");

            for (i = 0; i < n; i++) {
                put(i ? "," : "");
                put(spaces[s][0]);
                snprintf(member, sizeof(member), "\"k%u\"%s:%s%s%s", i,
                         spaces[s][1], spaces[s][2], values[(i + s) % 6],
                         spaces[s][3]);
                put(member);
            }

            put(spaces[s][4]);
            put("}");

            llmb_request_init(&req, RESPONSES);

            if (llmb_request_feed(&req, body, body_len) != LLMB_OK) {
                wrong++;
                continue;
            }

            for (set = 0; set < (1u << n); set++) {
                memset(drop, 0, sizeof(drop));

                for (i = 0; i < n; i++) {
                    drop[i] = (unsigned char) ((set >> i) & 1);
                }

                tried++;

                if (!cut_is_right(drop)) {
                    wrong++;
                    printf("# set 0x%x of %.*s\n", set, (int) body_len,
                           (char *) body);
                }
            }
        }
    }

    is_int(tried, 5 * (2 + 4 + 8 + 16 + 32 + 64), "every set was tried");
    is_int(wrong, 0, "cut members vanish and the others stay as they are");
}


static void
test_errors(void)
{
    unsigned     i, j, wrong;
    const char  *a, *b;

    wrong = 0;

    for (i = 0; i <= LLMB_REQUEST_BACKGROUND; i++) {
        a = llmb_request_error_text((llmb_request_error_e) i);

        for (j = 0; j < i; j++) {
            b = llmb_request_error_text((llmb_request_error_e) j);
            wrong += strcmp(a, b) == 0;
        }
    }

    is_int(wrong, 0, "every refusal has its own text");
    ok(llmb_request_error_text((llmb_request_error_e) 99) != NULL,
       "and there is one for what is no refusal");
}


int
main(void)
{
    test_plain();
    test_json();
    test_members();
    test_duplicates();
    test_types();
    test_limits();
    test_numbers();
    test_output();
    test_stream_options();
    test_media();
    test_sources();
    test_text();
    test_tools();
    test_cut();
    test_errors();

    return test_done();
}
