
/*
 * Copyright (C) the ngx_http_llm_budget_module authors
 *
 * The endpoint table, and all the ways around it (T05).
 */


#include "core/llmb_endpoint.h"
#include "llmb_test.h"


typedef struct {
    const char         *method;
    const char         *path;
    llmb_endpoint_e     kind;
    llmb_dialect_e      dialect;
    size_t              tail;
} test_endpoint_t;


static const test_endpoint_t  test_known[] = {

    { "POST", "/v1/chat/completions", LLMB_ENDPOINT_METERED,
      LLMB_DIALECT_CHAT, 0 },
    { "POST", "/v1/completions", LLMB_ENDPOINT_METERED,
      LLMB_DIALECT_COMPLETIONS, 0 },
    { "POST", "/v1/responses", LLMB_ENDPOINT_METERED,
      LLMB_DIALECT_RESPONSES, 0 },
    { "POST", "/v1/embeddings", LLMB_ENDPOINT_METERED,
      LLMB_DIALECT_EMBEDDINGS, 0 },
    { "POST", "/v1/messages", LLMB_ENDPOINT_METERED,
      LLMB_DIALECT_MESSAGES, 0 },
    { "GET", "/v1/models", LLMB_ENDPOINT_FREE, LLMB_DIALECT_CHAT, 0 },
    { "GET", "/v1/models/gpt-4o", LLMB_ENDPOINT_FREE, LLMB_DIALECT_CHAT, 0 },
    { "POST", "/v1/messages/count_tokens", LLMB_ENDPOINT_FREE,
      LLMB_DIALECT_MESSAGES, 0 },
    { "POST", "/v1/responses/input_tokens", LLMB_ENDPOINT_FREE,
      LLMB_DIALECT_RESPONSES, 0 },

    { "POST", "/api/v1/chat/completions", LLMB_ENDPOINT_METERED,
      LLMB_DIALECT_CHAT, 4 },
    { "POST", "/openai/v1/responses", LLMB_ENDPOINT_METERED,
      LLMB_DIALECT_RESPONSES, 7 },
    { "POST", "/x/v1/messages/count_tokens", LLMB_ENDPOINT_FREE,
      LLMB_DIALECT_MESSAGES, 2 },
    { "GET", "/a/b/v1/models/m", LLMB_ENDPOINT_FREE, LLMB_DIALECT_CHAT, 4 },
};


static const char *const  test_unknown[][2] = {

    { "POST", "/v1/chat/completions/" },
    { "POST", "/v1//chat/completions" },
    { "POST", "//v1/chat/completions" },
    { "POST", "/V1/chat/completions" },
    { "POST", "/v1/Chat/completions" },
    { "POST", "/v1/chat/completions;x" },
    { "POST", "/x;y/v1/chat/completions" },
    { "POST", "/v1/chat%2Fcompletions" },
    { "POST", "/%2e%2e/v1/chat/completions" },
    { "POST", "/../v1/chat/completions" },
    { "POST", "/v1/models/../chat/completions" },
    { "POST", "/./v1/chat/completions" },
    { "POST", "/a\\b/v1/chat/completions" },
    { "POST", "/v1/chat/completions\x01" },
    { "POST", "/v1/chat/completions " },
    { "POST", "/xv1/chat/completions/x" },
    { "POST", "/av1/chat/completions" },
    { "POST", "v1/chat/completions" },
    { "POST", "/chat/completions" },
    { "POST", "/v1/chat/completionsx" },
    { "POST", "/v1/chat/completions/id" },
    { "POST", "/v1/messages/batches" },
    { "POST", "/v1/batches" },
    { "POST", "/v1/chat/completions/v1/messages" },
    { "POST", "/v1/chat/completions/v1/messages/count_tokens" },
    { "POST", "/v1/chat/completions/x/v1/embeddings" },
    { "POST", "/x/v1/responses/v1/responses/input_tokens" },
    { "GET", "/v1/messages/v1/models/x" },
    { "POST", "/v1/files" },
    { "POST", "/v1/responses/compact" },
    { "POST", "/v1/responses/resp_1/cancel" },
    { "POST", "/v1/images/generations" },
    { "POST", "/v1/models" },
    { "POST", "/v1/messages/count_tokens/x" },
    { "POST", "/v1/complete" },
    { "POST", "/anything" },
    { "POST", "/" },
    { "POST", "" },
    { "GET", "/v1/models/" },
    { "GET", "/v1/models/a/b" },
    { "GET", "/v1/models/." },
    { "GET", "/v1/models/a%2f..%2fchat" },
    { "GET", "/v1/chat/completions" },
    { "GET", "/v1/responses" },
    { "GET", "/v1/responses/resp_1" },
    { "GET", "/v1/messages/count_tokens" },
    { "post", "/v1/chat/completions" },
    { "PUT", "/v1/chat/completions" },
    { "HEAD", "/v1/models" },
    { "", "/v1/models" },
};


static const char *const  test_clean[] = {
    "/", "/v1", "/v1/models/gpt-4o", "/a.b/c..d/...", "/v1/models/ft:x@y~z",
    "/v1/m\xc3\xa9",
};


static const char *const  test_dirty[] = {
    "", "v1", "//", "/v1/", "/v1//x", "/.", "/..", "/v1/./x", "/v1/../x",
    "/v1/..", "/a%2fb", "/a\\b", "/a;b", "/a\nb", "/a\x7f", "*",
};


static llmb_str_t
str(const char *text)
{
    size_t                 len;
    llmb_str_t             s;
    static unsigned        slot;
    static unsigned char   copies[8][256];

    len = strlen(text);
    slot = (slot + 1) % 8;

    memcpy(copies[slot], text, len);

    s.len = len;
    s.data = copies[slot];

    return s;
}


static void
test_table(void)
{
    size_t                  i, tail;
    llmb_str_t              method, path;
    const llmb_endpoint_t  *found;

    for (i = 0; i < sizeof(test_known) / sizeof(test_known[0]); i++) {
        method = str(test_known[i].method);
        path = str(test_known[i].path);
        tail = 999;

        found = llmb_endpoint_find(NULL, 0, &method, &path, &tail);

        ok(found != NULL && found->kind == test_known[i].kind
           && found->dialect == test_known[i].dialect
           && tail == test_known[i].tail,
           "%s %s is known for what it is", test_known[i].method,
           test_known[i].path);
    }

    for (i = 0; i < sizeof(test_unknown) / sizeof(test_unknown[0]); i++) {
        method = str(test_unknown[i][0]);
        path = str(test_unknown[i][1]);
        tail = 999;

        found = llmb_endpoint_find(NULL, 0, &method, &path, &tail);

        ok(found == NULL && tail == 999, "line %u is not in the table",
           (unsigned) i);

        if (found != NULL) {
            printf("# %s %s\n", test_unknown[i][0], test_unknown[i][1]);
        }
    }

    method = str("POST");
    path = str("/v1/chat/completions");
    path.len++;
    path.data[path.len - 1] = '\0';
    ok(llmb_endpoint_find(NULL, 0, &method, &path, NULL) == NULL,
       "a NUL at the end is not ignored");

    path = str("/v1/messages");
    found = llmb_endpoint_find(NULL, 0, &method, &path, NULL);
    ok(found != NULL && found->dialect == LLMB_DIALECT_MESSAGES,
       "the place of the match need not be asked for");
}


static void
test_own(void)
{
    size_t                        tail;
    llmb_str_t                    method, path;
    const llmb_endpoint_t        *found;
    static const llmb_endpoint_t  own[] = {
        { llmb_string("POST"), llmb_string("/chat/completions"),
          LLMB_ENDPOINT_METERED, LLMB_DIALECT_CHAT },
        { llmb_string("POST"), llmb_string("/v1/embeddings"),
          LLMB_ENDPOINT_REFUSED, LLMB_DIALECT_EMBEDDINGS },
        { llmb_string("POST"), llmb_string("/deployments/*/*"),
          LLMB_ENDPOINT_REFUSED, LLMB_DIALECT_CHAT },
        { llmb_string("POST"), llmb_string("/deployments/*/completions"),
          LLMB_ENDPOINT_METERED, LLMB_DIALECT_COMPLETIONS },
        { llmb_string("GET"), llmb_string("a*"),
          LLMB_ENDPOINT_FREE, LLMB_DIALECT_CHAT },
        { llmb_string("GET"), llmb_string("/*b"),
          LLMB_ENDPOINT_FREE, LLMB_DIALECT_CHAT },
        { llmb_string("GET"), llmb_string(""),
          LLMB_ENDPOINT_FREE, LLMB_DIALECT_CHAT },
        { llmb_string("PUT"), llmb_string("*/x"),
          LLMB_ENDPOINT_FREE, LLMB_DIALECT_CHAT },
    };

    method = str("POST");

    path = str("/v4/chat/completions");
    found = llmb_endpoint_find(own, 8, &method, &path, &tail);
    ok(found == &own[0] && tail == 3, "an own endpoint is found");

    path = str("/v1/embeddings");
    found = llmb_endpoint_find(own, 8, &method, &path, &tail);
    ok(found == &own[1], "an own endpoint goes before the built-in one");

    path = str("/openai/deployments/gpt/completions");
    found = llmb_endpoint_find(own, 8, &method, &path, &tail);
    ok(found == &own[3] && tail == 7, "the last own endpoint goes first");

    path = str("/deployments/gpt/edits");
    found = llmb_endpoint_find(own, 8, &method, &path, &tail);
    ok(found == &own[2] && tail == 0, "each \"*\" matches a segment");

    path = str("/chat/completions/v1/messages/count_tokens");
    found = llmb_endpoint_find(own, 8, &method, &path, &tail);
    ok(found == NULL, "no endpoint has a metered one in its base");

    path = str("/deployments/gpt/x/v1/messages");
    found = llmb_endpoint_find(own, 8, &method, &path, &tail);
    ok(found != NULL && tail == 18, "but what \"*\" would match may be there");

    method = str("POST");

    path = str("/deployments/completions");
    found = llmb_endpoint_find(own, 8, &method, &path, &tail);
    ok(found == NULL, "\"*\" matches no missing segment");

    path = str("/deployments//completions");
    found = llmb_endpoint_find(own, 8, &method, &path, &tail);
    ok(found == NULL, "\"*\" matches no empty segment");

    path = str("/v1/messages");
    found = llmb_endpoint_find(own, 8, &method, &path, &tail);
    ok(found != NULL && found->dialect == LLMB_DIALECT_MESSAGES,
       "the built-in table comes after");

    method = str("GET");

    path = str("/x/b");
    ok(llmb_endpoint_find(own, 8, &method, &path, &tail) == NULL,
       "\"*\" before more of a segment is only itself");

    path = str("/x/cb");
    ok(llmb_endpoint_find(own, 8, &method, &path, &tail) == NULL,
       "and no beginning of it");

    path = str("/x/ab");
    ok(llmb_endpoint_find(own, 8, &method, &path, &tail) == NULL,
       "\"*\" inside a segment is only itself, no path matches nothing");

    path = str("/x/a*");
    found = llmb_endpoint_find(own, 8, &method, &path, &tail);
    ok(found == &own[4] && tail == 3, "and itself it matches");

    path = str("/x/ba*");
    ok(llmb_endpoint_find(own, 8, &method, &path, &tail) == NULL,
       "a match begins at a segment's edge");

    method = str("PUT");

    path = str("/abc/x");
    found = llmb_endpoint_find(own, 8, &method, &path, &tail);
    ok(found == &own[7] && tail == 1, "\"*\" may come first");
}


static void
test_path(void)
{
    size_t      i;
    llmb_str_t  path;

    for (i = 0; i < sizeof(test_clean) / sizeof(test_clean[0]); i++) {
        path = str(test_clean[i]);
        ok(llmb_endpoint_check_path(&path) == LLMB_OK,
           "clean path %u may be forwarded", (unsigned) i);
    }

    for (i = 0; i < sizeof(test_dirty) / sizeof(test_dirty[0]); i++) {
        path = str(test_dirty[i]);
        ok(llmb_endpoint_check_path(&path) == LLMB_INVALID,
           "dirty path %u must not be forwarded", (unsigned) i);
    }

    path = str("/v1/x");
    path.data[3] = '\0';
    ok(llmb_endpoint_check_path(&path) == LLMB_INVALID,
       "a NUL byte must not be forwarded");
}


static void
test_dialects(void)
{
    size_t          i;
    llmb_str_t      name;
    llmb_dialect_e  dialect;

    static const char *const  names[] = {
        "chat", "completions", "responses", "embeddings", "messages"
    };

    static const char *const  operations[] = {
        "chat", "text_completion", "chat", "embeddings", "chat"
    };

    for (i = 0; i < LLMB_DIALECT_N; i++) {
        name = str(names[i]);
        dialect = LLMB_DIALECT_N;

        ok(llmb_dialect_parse(&name, &dialect) == LLMB_OK
           && (size_t) dialect == i, "dialect %s is known", names[i]);
        ok(strcmp(llmb_dialect_name((llmb_dialect_e) i), names[i]) == 0,
           "and named so");
        ok(strcmp(llmb_dialect_operation((llmb_dialect_e) i), operations[i])
           == 0, "its operation is %s", operations[i]);
    }

    name = str("Chat");
    ok(llmb_dialect_parse(&name, &dialect) != LLMB_OK,
       "another name is no dialect");

    name = str("");
    ok(llmb_dialect_parse(&name, &dialect) != LLMB_OK,
       "no name is no dialect");

    name = str("/v1/messages/batches");
    is_int(llmb_dialect_guess(&name), LLMB_DIALECT_MESSAGES,
           "errors of a messages path are Anthropic's");

    name = str("/v1/complete");
    is_int(llmb_dialect_guess(&name), LLMB_DIALECT_MESSAGES,
           "and of the old complete path");

    name = str("/v1/completed");
    is_int(llmb_dialect_guess(&name), LLMB_DIALECT_CHAT,
           "errors of any other path are OpenAI's");

    name = str("/v1/threads/t/message");
    is_int(llmb_dialect_guess(&name), LLMB_DIALECT_CHAT,
           "a part of a segment does not count");

    name = str("");
    is_int(llmb_dialect_guess(&name), LLMB_DIALECT_CHAT, "nor does no path");
}


int
main(void)
{
    test_table();
    test_own();
    test_path();
    test_dialects();

    return test_done();
}
