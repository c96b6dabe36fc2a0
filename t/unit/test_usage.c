
/*
 * Copyright (C) the ngx_http_llm_budget_module authors
 *
 * The usage reader: what each dialect reports, in the normal form.  Numbers
 * of the field traps are checked as costs at the traps' own prices.
 */


#include "core/llmb_usage.h"

#include "llmb_test.h"


#define CHAT  LLMB_DIALECT_CHAT
#define RESP  LLMB_DIALECT_RESPONSES
#define ANTH  LLMB_DIALECT_MESSAGES
#define EMBED LLMB_DIALECT_EMBEDDINGS

#define D(json)  "data: " json "\n\n"


static llmb_usage_reader_t  reader;
static llmb_usage_t         usage;
static llmb_rc_e            rc;
static unsigned             only;       /* usage-only events */


static void
feed(const char *text)
{
    size_t  n, len;

    len = strlen(text);

    for (n = 0; n < len; /* void */) {
        n += llmb_usage_feed(&reader, (const unsigned char *) text + n,
                             len - n);
        only += (reader.event == LLMB_EVENT_USAGE_ONLY);
    }
}


/* Reads an answer, and twice: whole and byte by byte. */

static void
answer_1h(llmb_dialect_e dialect, const char *text, unsigned cache_1h)
{
    size_t        i, n;
    unsigned      seen, before;
    uint64_t      bytes;
    llmb_rc_e     first;
    llmb_usage_t  whole;

    only = 0;
    llmb_usage_init(&reader, dialect);
    feed(text);
    llmb_usage_end(&reader);

    before = only + (reader.event == LLMB_EVENT_USAGE_ONLY);
    first = llmb_usage_result(&reader, cache_1h, &whole);
    seen = reader.seen;
    bytes = reader.content_bytes;

    only = 0;
    llmb_usage_init(&reader, dialect);

    for (i = 0; text[i] != '\0'; i++) {
        n = llmb_usage_feed(&reader, (const unsigned char *) text + i, 1);
        only += (reader.event == LLMB_EVENT_USAGE_ONLY);

        if (n != 1) {
            ok(0, "a byte is consumed");
        }
    }

    llmb_usage_end(&reader);
    only += (reader.event == LLMB_EVENT_USAGE_ONLY);
    rc = llmb_usage_result(&reader, cache_1h, &usage);

    if (rc != first || seen != reader.seen || bytes != reader.content_bytes
        || before != only || whole.flags != usage.flags
        || whole.n_extra != usage.n_extra
        || memcmp(whole.counts.n, usage.counts.n, sizeof(whole.counts.n)) != 0)
    {
        ok(0, "an answer is read alike whole and byte by byte: %.60s", text);
    }
}


static void
answer(llmb_dialect_e dialect, const char *text)
{
    answer_1h(dialect, text, 0);
}


static int64_t
n(llmb_usage_field_e field)
{
    return usage.counts.n[field];
}


/* in nUSD, at the prices of the fixture models */

static int64_t
cost(const llmb_usage_counts_t *c, int64_t input, int64_t read, int64_t w5m,
    int64_t w1h, int64_t output)
{
    return (c->n[LLMB_USAGE_INPUT] - c->n[LLMB_USAGE_CACHED_READ]
            - c->n[LLMB_USAGE_CACHE_WRITE]) * input
           + c->n[LLMB_USAGE_CACHED_READ] * read
           + c->n[LLMB_USAGE_CACHE_WRITE_5M] * w5m
           + c->n[LLMB_USAGE_CACHE_WRITE_1H] * w1h
           + c->n[LLMB_USAGE_OUTPUT] * output;
}


static int64_t
c_std(void)
{
    return rc == LLMB_OK ? cost(&usage.counts, 3000, 300, 3750, 6000, 15000)
                         : -1;
}


static int64_t
m_std(void)
{
    return rc == LLMB_OK ? cost(&usage.counts, 2500, 1250, 2500, 2500, 10000)
                         : -1;
}


#define START(usage)                                                          \
    "event: message_start\n"                                                  \
    D("{\"type\":\"message_start\",\"message\":{\"id\":\"msg_1\","            \
      "\"model\":\"c-std\",\"content\":[],\"usage\":" usage "}}")

#define DELTA(usage)                                                          \
    "event: message_delta\n"                                                  \
    D("{\"type\":\"message_delta\",\"delta\":{\"stop_reason\":\"end_turn\"}," \
      "\"usage\":" usage "}")

#define TEXT(text)                                                            \
    D("{\"type\":\"content_block_delta\",\"index\":0,"                        \
      "\"delta\":{\"type\":\"text_delta\",\"text\":\"" text "\"}}")

#define STOP  D("{\"type\":\"message_stop\"}")

#define IN25  "{\"input_tokens\":25,\"cache_read_input_tokens\":8000,"        \
              "\"cache_creation_input_tokens\":0,\"output_tokens\":1}"


static void
test_anthropic_stream(void)
{
    answer(ANTH, START(IN25) TEXT("Hi") DELTA("{\"output_tokens\":15}") STOP);
    is_int(c_std(), 2700000, "T10.1: a delta overwrites what it has");
    is_int(reader.seen, LLMB_SEEN_STREAM|LLMB_SEEN_CONTENT|LLMB_SEEN_USAGE
                        |LLMB_SEEN_FINAL, "message_stop makes usage final");
    is_int((int64_t) reader.content_bytes, 2, "text deltas are counted");
    is_str(usage.model, usage.model_len, "c-std", "the model is kept");

    answer(ANTH, START(IN25) DELTA("{\"input_tokens\":25,"
           "\"cache_read_input_tokens\":8000,"
           "\"cache_creation_input_tokens\":0,\"output_tokens\":15}") STOP);
    is_int(c_std(), 2700000, "T10.2: repeated counts are not added");

    answer(ANTH, START("{\"input_tokens\":8834,\"output_tokens\":0}")
           DELTA("{\"input_tokens\":18,\"cache_read_input_tokens\":8831,"
           "\"cache_creation_input_tokens\":0,\"output_tokens\":426}") STOP);
    is_int(c_std(), 9093300, "T10.3: a later smaller count replaces");
    ok(usage.flags & LLMB_USAGE_DECREASED, "and the decrease is flagged");

    answer(ANTH, START(IN25) DELTA("{\"output_tokens\":5}")
           DELTA("{\"output_tokens\":9}") DELTA("{\"output_tokens\":15}") STOP);
    is_int(n(LLMB_USAGE_OUTPUT), 15, "T10.4: several deltas are not summed");

    answer(ANTH, START(IN25) TEXT("abc") TEXT("d\\u00e9"));
    is_int(rc, LLMB_OK, "T10.5: an aborted stream has its input");
    is_int(n(LLMB_USAGE_INPUT), 8025, "T10.5: all of it");
    is_int((int64_t) reader.content_bytes, 6, "T10.5: deltas are counted");
    is_int((int64_t) reader.content_deltas, 2, "T10.5: and their number");
    ok(!(reader.seen & LLMB_SEEN_FINAL), "T10.5: the usage is not final");

    answer(ANTH, START(IN25) DELTA("{\"input_tokens\":null,"
           "\"cache_read_input_tokens\":null,\"output_tokens\":15}") STOP);
    is_int(c_std(), 2700000, "null resets nothing");

    answer(ANTH, START(IN25)
           D("{\"type\":\"content_block_delta\",\"delta\":"
             "{\"type\":\"thinking_delta\",\"thinking\":\"hmm\"}}")
           D("{\"type\":\"content_block_delta\",\"delta\":"
             "{\"type\":\"input_json_delta\",\"partial_json\":\"{\\\"a\"}}")
           D("{\"type\":\"content_block_delta\",\"delta\":"
             "{\"type\":\"signature_delta\",\"signature\":\"xxxxxxx\"}}"));
    is_int((int64_t) reader.content_bytes, 6,
           "thinking and tool input are generated, signatures are not");

    answer(ANTH, START(IN25) TEXT("x")
           "event: error\n" D("{\"type\":\"error\",\"error\":"
           "{\"type\":\"overloaded_error\",\"message\":\"Overloaded\"}}"));
    ok(reader.seen & LLMB_SEEN_ERROR, "T44: an error event is seen");
    is_int((int64_t) reader.content_bytes, 1, "T44: its text is not content");
}


static void
test_anthropic_plain(void)
{
    answer(ANTH, "{\"type\":\"message\",\"model\":\"c-std\",\"usage\":"
           "{\"input_tokens\":10,\"cache_read_input_tokens\":9000,"
           "\"output_tokens\":100}}");
    is_int(c_std(), 4230000, "T13: cached input is not in input_tokens");
    is_int(n(LLMB_USAGE_INPUT), 9010, "T13: it is part of the input");

    answer(ANTH, "{\"usage\":{\"input_tokens\":10,"
           "\"cache_creation_input_tokens\":1000,\"cache_creation\":"
           "{\"ephemeral_5m_input_tokens\":400,"
           "\"ephemeral_1h_input_tokens\":600},\"output_tokens\":20}}");
    is_int(c_std(), 5430000, "T14: cache writes have two prices");

    answer(ANTH, "{\"usage\":{\"input_tokens\":10,"
           "\"cache_creation_input_tokens\":1000,\"output_tokens\":20}}");
    is_int(n(LLMB_USAGE_CACHE_WRITE_5M), 1000,
           "T14: without a breakdown writes are of the 5m kind");

    answer_1h(ANTH, "{\"usage\":{\"input_tokens\":10,"
              "\"cache_creation_input_tokens\":1000,\"output_tokens\":20}}", 1);
    is_int(n(LLMB_USAGE_CACHE_WRITE_1H), 1000,
           "T14: without a breakdown they are 1h if so requested");

    answer_1h(ANTH, "{\"usage\":{\"input_tokens\":10,"
              "\"cache_creation_input_tokens\":1000,\"cache_creation\":"
              "{\"ephemeral_1h_input_tokens\":600},\"output_tokens\":20}}", 1);
    is_int(n(LLMB_USAGE_CACHE_WRITE_5M), 400,
           "T14: an unexplained remainder is of the 5m kind");

    answer(ANTH, "{\"usage\":{\"input_tokens\":10,"
           "\"cache_creation_input_tokens\":1000,\"cache_creation\":"
           "{\"ephemeral_5m_input_tokens\":900,"
           "\"ephemeral_1h_input_tokens\":1200},\"output_tokens\":20}}");
    is_int(n(LLMB_USAGE_CACHE_WRITE_1H), 1000, "T14: parts are clamped");
    is_int(n(LLMB_USAGE_CACHE_WRITE_5M), 0, "T14: to the total");
    ok(usage.flags & LLMB_USAGE_CLAMPED, "T14: and flagged");

    answer(ANTH, "{\"usage\":{\"input_tokens\":10,\"cache_creation\":"
           "{\"ephemeral_5m_input_tokens\":400,"
           "\"ephemeral_1h_input_tokens\":600},\"output_tokens\":20}}");
    is_int(c_std(), 5430000, "T14: parts without their total are the writes");

    answer(ANTH, "{\"content\":[{\"type\":\"text\",\"text\":\"Hello\"},"
           "{\"type\":\"tool_use\",\"name\":\"f\",\"input\":{\"a\":[1]}},"
           "{\"type\":\"web_search_tool_result\",\"content\":"
           "[{\"text\":\"no\",\"usage\":{\"input_tokens\":9}}]}],"
           "\"usage\":{\"input_tokens\":3,\"output_tokens\":5,"
           "\"server_tool_use\":{\"web_search_requests\":2},"
           "\"output_tokens_details\":{\"thinking_tokens\":4},"
           "\"service_tier\":\"priority\"},\"model\":\"c-2\"}");
    is_int((int64_t) reader.content_bytes, 14, "a plain body's text counts");
    is_int(n(LLMB_USAGE_SEARCHES), 2, "T18: searches are counted");
    is_int(n(LLMB_USAGE_REASONING), 4, "thinking is known");
    is_int(n(LLMB_USAGE_INPUT), 3, "a usage in a tool result is text");
    is_str(usage.tier, usage.tier_len, "priority", "T17: tier that served");
    ok(reader.seen & LLMB_SEEN_FINAL, "the end of a document is final");

    answer(ANTH, "{\"type\":\"error\",\"error\":{\"type\":\"x\"}}");
    is_int(rc, LLMB_DECLINED, "an error has no usage");
    ok(reader.seen & LLMB_SEEN_ERROR, "an error is seen");

    answer(ANTH, "{\"usage\":{\"input_tokens\":3}}");
    is_int(rc, LLMB_DECLINED, "a whole message without output is declined");
}


#define ITER(type, more, in, out)                                             \
    "{\"type\":\"" type "\"," more "\"input_tokens\":" in                     \
    ",\"output_tokens\":" out "}"

#define MSG(in, out, list)                                                    \
    "{\"model\":\"c-std\",\"usage\":{\"input_tokens\":" in                    \
    ",\"output_tokens\":" out ",\"iterations\":[" list "]}}"


static void
test_iterations(void)
{
    answer(ANTH, MSG("162", "11", ITER("compaction", "", "99195", "81") ","
                     ITER("message", "", "162", "11")));
    is_int(n(LLMB_USAGE_INPUT), 162, "trap 2: the top level stays");
    is_int(usage.n_extra, 1, "trap 2: a compaction comes on top");
    is_int(usage.extra[0].counts.n[LLMB_USAGE_INPUT], 99195, "trap 2: input");
    is_int(usage.extra[0].counts.n[LLMB_USAGE_OUTPUT], 81, "trap 2: output");
    is_int((int64_t) usage.extra[0].model_len, 0, "at the request's model");

    answer(ANTH, START(IN25) DELTA("{\"input_tokens\":2417,"
           "\"output_tokens\":133,\"iterations\":["
           ITER("message", "", "1128", "121") ","
           ITER("advisor_message", "\"model\":\"c-big\",", "2529", "38") ","
           ITER("message", "", "1289", "12") "]}") STOP);
    is_int(n(LLMB_USAGE_INPUT), 10417, "trap 2: messages are in the top level");
    is_int(usage.n_extra, 1, "trap 2: an advisor is not");
    is_str(usage.extra[0].model, usage.extra[0].model_len, "c-big",
           "trap 2: it has its own model");

    answer(ANTH, MSG("100", "20", ITER("message", "", "100", "0") ","
           ITER("fallback_message", "\"model\":\"c-std\",", "100", "20")));
    is_int(n(LLMB_USAGE_INPUT), 200, "a sum larger than the top level counts");
    is_int(usage.n_extra, 0, "a fallback of the model that served is inside");

    answer(ANTH, MSG("200", "25", ITER("message", "", "100", "5") ","
           ITER("fallback_message", "\"model\":\"c-alt\",", "100", "20")));
    is_int(n(LLMB_USAGE_INPUT), 100, "T19: another model is taken out");
    is_int(n(LLMB_USAGE_OUTPUT), 5, "T19: its output, too");
    is_int(usage.n_extra, 1, "T19: and priced apart");
    is_int(usage.extra[0].counts.n[LLMB_USAGE_OUTPUT], 20, "T19: in full");

    answer(ANTH, MSG("50", "5", ITER("compaction", "\"model\":\"c-std\",",
                                     "30", "3")));
    is_int(usage.n_extra, 1, "trap 2: a compaction of the same model, too");
    is_int(n(LLMB_USAGE_INPUT), 50, "trap 2: is not in the top level");

#define ADVICE  ITER("advisor_message", "\"model\":\"b\",", "10", "1")

    answer(ANTH, MSG("5", "5", ADVICE "," ADVICE "," ADVICE "," ADVICE ","
                     ADVICE "," ADVICE "," ADVICE "," ADVICE "," ADVICE ","
                     ADVICE));
    is_int(usage.n_extra, LLMB_USAGE_EXTRA, "extras are bounded");
    is_int(n(LLMB_USAGE_INPUT), 25, "further ones go to the main record");
    ok(usage.flags & LLMB_USAGE_CROWDED, "which is flagged");

    answer(ANTH, MSG("5", "5", ITER("compaction", "", "-1", "1")));
    is_int(rc, LLMB_DECLINED, "a bad count in a sampling cannot be charged");

    answer(ANTH, "{\"usage\":{\"iterations\":[[" ADVICE "],7,null],"
           "\"input_tokens\":5,\"output_tokens\":6}}");
    is_int(n(LLMB_USAGE_OUTPUT), 6, "a sampling that is none takes no counts");

    answer(ANTH, START("{\"input_tokens\":5,\"output_tokens\":5,"
           "\"iterations\":[" ADVICE "]}") DELTA("{\"output_tokens\":6}")
           DELTA("{\"iterations\":null,\"output_tokens\":7}"));
    is_int(usage.n_extra, 1, "a list of samplings stays if none follows");
}


#define CHUNK(text)                                                           \
    D("{\"object\":\"chat.completion.chunk\",\"model\":\"m-1\","              \
      "\"choices\":[{\"index\":0,\"delta\":{\"content\":\"" text "\"}}],"     \
      "\"usage\":null}")

#define LAST(usage)  D("{\"choices\":[],\"model\":\"m-1\",\"usage\":" usage "}")
#define U(p, c)      "{\"prompt_tokens\":" p ",\"completion_tokens\":" c "}"
#define DONE         D("[DONE]")


static void
test_chat(void)
{
    answer(CHAT, "{\"model\":\"m-std\",\"usage\":{\"prompt_tokens\":10000,"
           "\"completion_tokens\":100,\"total_tokens\":10100,"
           "\"prompt_tokens_details\":{\"cached_tokens\":9000}}}");
    is_int(m_std(), 14750000, "T13: cached tokens are part of prompt_tokens");

    answer(CHAT, "{\"usage\":{\"prompt_tokens\":100,\"completion_tokens\":500,"
           "\"total_tokens\":600,\"completion_tokens_details\":"
           "{\"reasoning_tokens\":400}}}");
    is_int(m_std(), 5250000, "T15: reasoning is part of the output");

    answer(CHAT, "{\"usage\":{\"prompt_tokens\":36,\"completion_tokens\":10,"
           "\"total_tokens\":736,\"completion_tokens_details\":"
           "{\"reasoning_tokens\":690}}}");
    is_int(cost(&usage.counts, 3000, 750, 0, 0, 15000), 10608000,
           "T15: reasoning outside of it is told by the total");
    ok(usage.flags & LLMB_USAGE_SURPLUS, "T15: and flagged");

    answer(CHAT, "{\"usage\":{\"prompt_tokens\":5,\"completion_tokens\":20,"
           "\"total_tokens\":400,\"prompt_tokens_details\":"
           "{\"audio_tokens\":375}}}");
    is_int(n(LLMB_USAGE_INPUT), 380, "trap 4: audio goes to the input");
    is_int(n(LLMB_USAGE_OUTPUT), 20, "trap 4: and not to the output");

    answer(CHAT, "{\"usage\":{\"prompt_tokens\":100,\"completion_tokens\":1,"
           "\"prompt_tokens_details\":{\"cached_tokens\":200}}}");
    is_int(n(LLMB_USAGE_CACHED_READ), 100, "trap 1: cached is clamped");
    ok(usage.flags & LLMB_USAGE_CLAMPED, "trap 1: and flagged");

    answer(CHAT, "{\"usage\":{\"prompt_tokens\":2168,\"completion_tokens\":1,"
           "\"prompt_tokens_details\":{\"cached_tokens\":2161,"
           "\"cache_write_tokens\":2161}}}");
    is_int(n(LLMB_USAGE_CACHE_WRITE), 7, "trap 1: writes are clamped to rest");

    answer(CHAT, CHUNK("Hi") CHUNK("!") LAST(U("9", "2")) DONE);
    is_int(n(LLMB_USAGE_INPUT), 9, "a stream has its usage");
    is_int(only, 1, "T09: the usage-only chunk is told");
    is_int((int64_t) reader.content_bytes, 3, "deltas are counted");
    ok(reader.seen & LLMB_SEEN_FINAL, "[DONE] is final");
    is_int(usage.flags, 0, "nothing is flagged");

    answer(CHAT, CHUNK("Hi") LAST(U("9", "2")));
    is_int(n(LLMB_USAGE_OUTPUT), 2, "T45: [DONE] is no condition");
    ok(!(reader.seen & LLMB_SEEN_FINAL), "T45: but a mark");

    answer(CHAT, D("{\"choices\":[],\"model\":\"\","
                   "\"prompt_filter_results\":[{}]}")
           CHUNK("a") CHUNK("b") LAST(U("9", "2")) CHUNK("c") "data:\n\n"
           "data: \n\n" ": comment\n\n" DONE);
    is_int(n(LLMB_USAGE_OUTPUT), 2, "T57: a null usage resets nothing");
    is_int(only, 1, "T57: a preamble is no usage-only chunk");
    is_str(usage.model, usage.model_len, "m-1", "T57: nor an empty model");
    is_int(usage.flags, 0, "T57: empty data is not broken");

    answer(CHAT, D("{\"choices\":[],\"model\":\"m\",\"usage\":null}")
           D("{\"choices\":[{\"delta\":{}}],\"usage\":" U("1", "2") "}")
           D("{\"usage\":" U("1", "3") "}")
           D("{\"choices\":null,\"usage\":" U("1", "3") "}")
           D("{\"choices\":[],\"error\":{},\"usage\":" U("1", "3") "}"));
    is_int(only, 0, "T09: no other chunk is taken for usage-only");

    answer(CHAT, "data: {\"usage\":" U("1", "3") ",\"choices\":[ ]}");
    is_int(only, 1, "T09: not even a last one without its blank line is lost");
    is_int(n(LLMB_USAGE_OUTPUT), 3, "an unterminated last event counts");

    answer(CHAT, "data: {\"usage\":" U("1", "3") ",\"choices\":[ ]");
    is_int(rc, LLMB_DECLINED, "half an event does not");
    ok(usage.flags & LLMB_USAGE_BROKEN, "and is flagged");

    answer(CHAT, LAST(U("1", "3")) D("{\"usage\":" U("7", "7") ",]}") DONE);
    is_int(n(LLMB_USAGE_INPUT), 1, "a broken event is not half applied");
    ok(usage.flags & LLMB_USAGE_BROKEN, "it is flagged");
    ok(reader.seen & LLMB_SEEN_FINAL, "and reading goes on");
}


static void
test_chat_growing(void)
{
    int     i;
    char    line[256];

    llmb_usage_init(&reader, CHAT);

    for (i = 1; i <= 100; i++) {
        snprintf(line, sizeof(line), "data: {\"choices\":[{\"delta\":"
                 "{\"content\":\"x\"}}],\"usage\":{\"prompt_tokens\":7,"
                 "\"completion_tokens\":%d}}\n\n", i);
        feed(line);
    }

    rc = llmb_usage_result(&reader, 0, &usage);
    is_int(n(LLMB_USAGE_OUTPUT), 100, "T11: usage in every chunk is no sum");
    is_int(n(LLMB_USAGE_INPUT), 7, "T04: usage is known before the end");
    is_int((int64_t) reader.content_deltas, 100, "T11: deltas are counted");
}


static void
test_providers(void)
{
    answer(CHAT, D("{\"choices\":[],\"x_groq\":{\"id\":\"1\"}}")
           D("{\"choices\":[{\"delta\":{}}],\"x_groq\":{\"id\":\"1\","
             "\"usage\":{\"queue_time\":0.5,\"prompt_tokens\":8,"
             "\"completion_tokens\":3,\"total_tokens\":11}}}") DONE);
    is_int(n(LLMB_USAGE_INPUT), 8, "Groq: the usage may be in x_groq only");

    answer(CHAT, "{\"model\":\"compound\",\"usage\":{\"prompt_tokens\":10,"
           "\"completion_tokens\":5,\"total_tokens\":15},"
           "\"usage_breakdown\":{\"models\":["
           "{\"model\":\"a\",\"usage\":" U("10", "5") "},"
           "{\"model\":\"b\",\"usage\":" U("70", "9") "}]}}");
    is_int(n(LLMB_USAGE_INPUT), 0, "Groq: a breakdown replaces the usage");
    is_int(n(LLMB_USAGE_OUTPUT), 0, "Groq: whose total is no surplus then");
    is_int(usage.n_extra, 2, "Groq: with the models in it");
    is_int(usage.extra[1].counts.n[LLMB_USAGE_INPUT], 70, "Groq: in full");

    answer(CHAT, "{\"usage\":{\"prompt_tokens\":90,\"completion_tokens\":3,"
           "\"prompt_cache_hit_tokens\":64,\"prompt_cache_miss_tokens\":26}}");
    is_int(n(LLMB_USAGE_CACHED_READ), 64, "DeepSeek: cache hits");

    answer(CHAT, "{\"usage\":{\"prompt_tokens\":90,\"completion_tokens\":3,"
           "\"cached_tokens\":60}}");
    is_int(n(LLMB_USAGE_CACHED_READ), 60, "Together: cached_tokens on top");

    answer(CHAT, "{\"usage\":{\"prompt_tokens\":90,\"completion_tokens\":3,"
           "\"prompt_token_details\":{\"cached_tokens\":50}}}");
    is_int(n(LLMB_USAGE_CACHED_READ), 50, "Mistral: prompt_token_details");

    answer(CHAT, "\xef\xbb\xbf \r\n\n   {\"usage\":" U("28.0", "2.8e1") "}");
    is_int(n(LLMB_USAGE_INPUT), 28, "trap 11: white space may lead");
    is_int(n(LLMB_USAGE_OUTPUT), 28, "trap 19: integers in other spellings");

    answer(CHAT, ": OPENROUTER PROCESSING\n\n"
           "data:{\"choices\":[{\"delta\":{\"content\":\"a\"}}],\"usage\":"
           U("5", "6") "}\r\n\r\ndata: [DONE]\r\n\r\n");
    is_int(n(LLMB_USAGE_OUTPUT), 6, "comments, CRLF, no space: all is read");

    answer(LLMB_DIALECT_COMPLETIONS,
           "{\"choices\":[{\"text\":\"\"}],\"usage\":{\"prompt_tokens\":5,"
           "\"total_tokens\":5}}");
    is_int(rc, LLMB_OK, "6.3: completion_tokens may be missing");
    is_int(n(LLMB_USAGE_OUTPUT), 0, "6.3: and is zero then");

    answer(LLMB_DIALECT_COMPLETIONS,
           D("{\"choices\":[{\"text\":\"abc\"}]}") LAST(U("5", "1")) DONE);
    is_int((int64_t) reader.content_bytes, 3, "legacy text is counted");
    is_int(only, 1, "T09: legacy streams have usage-only chunks, too");

    answer(EMBED, "{\"data\":[{\"embedding\":[0.1,-2e-3,[{}]]}],"
           "\"usage\":{\"prompt_tokens\":8,\"total_tokens\":8}}");
    is_int(n(LLMB_USAGE_INPUT), 8, "embeddings have an input");
    is_int(n(LLMB_USAGE_OUTPUT), 0, "and no output");

    answer(EMBED, "{\"usage\":{\"total_tokens\":8}}");
    is_int(n(LLMB_USAGE_INPUT), 8, "Voyage: a total only is the input");
}


#define EVENT(type, more)                                                     \
    "event: " type "\n" D("{\"type\":\"" type "\"" more "}")

#define RU  "\"usage\":{\"input_tokens\":40,\"input_tokens_details\":"        \
            "{\"cached_tokens\":8,\"cache_write_tokens\":16},"                \
            "\"output_tokens\":9,\"output_tokens_details\":"                  \
            "{\"reasoning_tokens\":4},\"total_tokens\":49}"

#define SEARCH  "{\"type\":\"web_search_call\",\"action\":"                   \
                "{\"type\":\"search\"}}"
#define ITEM    EVENT("response.output_item.done", ",\"item\":" SEARCH)
#define MADE    "\"output\":[{\"type\":\"message\",\"content\":"              \
                "[{\"type\":\"output_text\",\"text\":\"Hello\"}]}]"


static void
test_responses(void)
{
    answer(RESP, EVENT("response.created", ",\"response\":{\"status\":"
           "\"in_progress\",\"model\":\"m-1\",\"usage\":null,\"output\":[],"
           "\"service_tier\":\"auto\"}")
           EVENT("response.output_text.delta", ",\"delta\":\"Hello\"")
           EVENT("response.reasoning_summary_text.delta", ",\"delta\":\"ab\"")
           EVENT("response.audio.delta", ",\"delta\":\"AAAAAAAA\"")
           "data: {\"delta\":\"{}\",\"type\":"
           "\"response.function_call_arguments.delta\"}\n\n"
           EVENT("response.completed", ",\"response\":{" MADE ","
                 "\"status\":\"completed\",\"service_tier\":\"default\","
                 "\"error\":null," RU "}"));
    is_int(n(LLMB_USAGE_INPUT), 40, "response.completed has the usage");
    is_int(n(LLMB_USAGE_CACHED_READ), 8, "reads are part of the input");
    is_int(n(LLMB_USAGE_CACHE_WRITE_5M), 16, "so are writes");
    is_int(n(LLMB_USAGE_OUTPUT), 9, "reasoning is part of the output");
    is_int((int64_t) reader.content_bytes, 9,
           "text is counted once, in the deltas");
    is_str(usage.tier, usage.tier_len, "default", "T17: the last tier counts");
    is_int(reader.seen, LLMB_SEEN_STREAM|LLMB_SEEN_CONTENT|LLMB_SEEN_USAGE
                        |LLMB_SEEN_FINAL, "a terminal event is final");

    answer(RESP, EVENT("response.incomplete", ",\"response\":{" RU "}"));
    is_int(n(LLMB_USAGE_OUTPUT), 9, "T44: response.incomplete is charged");
    ok(reader.seen & LLMB_SEEN_FINAL, "T44: and final");

    answer(RESP, EVENT("response.failed", ",\"response\":{\"error\":"
           "{\"message\":\"no\"}," RU "}"));
    is_int(n(LLMB_USAGE_OUTPUT), 9, "T44: response.failed with usage, too");
    ok(reader.seen & LLMB_SEEN_ERROR, "T44: it is an error");

    answer(RESP, EVENT("error", ",\"code\":\"x\",\"message\":\"delta\""));
    is_int(rc, LLMB_DECLINED, "T44: an error event has no usage");
    ok(reader.seen & LLMB_SEEN_ERROR, "T44: and is seen");

    answer(RESP, "{\"status\":\"queued\",\"usage\":null,\"error\":null}");
    is_int(rc, LLMB_DECLINED, "trap 9: a queued response has no usage");
    ok(reader.seen & LLMB_SEEN_PENDING, "trap 9: it is a promise");
    ok(!(reader.seen & LLMB_SEEN_ERROR), "a null error is none");

    answer(RESP, "{" MADE ",\"status\":\"completed\"," RU ",\"tool_usage\":"
           "{\"image_gen\":{\"input_tokens\":7},"
           "\"web_search\":{\"num_requests\":2}}}");
    is_int(n(LLMB_USAGE_SEARCHES), 2, "T18: tool_usage tells the searches");
    is_int(n(LLMB_USAGE_INPUT), 40, "and stands beside the usage");
    is_int((int64_t) reader.content_bytes, 5, "a plain body's text counts");

    answer(RESP, "{\"output\":[" SEARCH ",{\"type\":\"reasoning\"}," SEARCH
           "],\"tools\":[{\"type\":\"web_search_call\"}]," RU "}");
    is_int(n(LLMB_USAGE_SEARCHES), 2, "T18: else items are counted");

    answer(RESP, "{\"output\":[" SEARCH "]," RU ",\"tool_usage\":"
           "{\"web_search\":{\"num_requests\":0}}}");
    is_int(n(LLMB_USAGE_SEARCHES), 0, "T18: tool_usage decides, zero or not");

    answer(RESP, "{\"output\":[],\"tools\":[{\"type\":\"web_search\"}]," RU
           "}");
    is_int(n(LLMB_USAGE_SEARCHES), 0, "T18: a declared tool costs nothing");

    answer(RESP, EVENT("response.output_item.added", ",\"item\":" SEARCH)
           ITEM ITEM EVENT("response.completed", ",\"response\":{\"output\":["
           SEARCH "," SEARCH "]," RU "}"));
    is_int(n(LLMB_USAGE_SEARCHES), 2, "T18: items are not counted twice");

    answer(RESP, ITEM EVENT("response.incomplete", ",\"response\":{" RU "}"));
    is_int(n(LLMB_USAGE_SEARCHES), 1, "T18: nor lost if not listed again");

    answer(RESP, "{\"input_tokens\":16,\"object\":\"response.input_tokens\"}");
    is_int(rc, LLMB_DECLINED, "a count of tokens is no usage");
}


static void
test_depth(void)
{
    answer(CHAT, "{\"choices\":[{\"usage\":" U("1", "1") ",\"message\":"
           "{\"content\":\"\\\"usage\\\":{\\\"prompt_tokens\\\":1}"
           "\\n\\ndata: x\",\"usage\":" U("1", "1") "}}],"
           "\"metadata\":{\"usage\":" U("1", "1") ",\"model\":\"no\"}}");
    is_int(rc, LLMB_DECLINED, "trap 16: only the right depth counts");
    is_int((int64_t) usage.model_len, 0, "trap 16: for the model as well");
    is_int((int64_t) reader.content_bytes, 36, "quoted usage is text");

    answer(CHAT, "[{\"usage\":" U("1", "1") "}]");
    is_int(rc, LLMB_DECLINED, "an array is no answer");

    answer(CHAT, "<html>502</html>");
    ok(usage.flags & LLMB_USAGE_BROKEN, "a page is no answer");
    ok(!(reader.seen & LLMB_SEEN_STREAM), "nor a stream");

    answer(CHAT, "");
    is_int(rc, LLMB_DECLINED, "nothing is no answer");
    is_int(usage.flags, 0, "but not broken");
}


static void
test_cut(void)
{
    size_t       i, len;
    char        *big;
    static char  error[12000];

    answer(CHAT, "{\"usage\":" U("5", "6") ",\"choices\":[{\"message\":"
           "{\"content\":\"abc");
    is_int(n(LLMB_USAGE_OUTPUT), 6, "a body cut behind its usage has it");
    ok(!(reader.seen & LLMB_SEEN_FINAL), "but it is not final");
    is_int((int64_t) reader.content_bytes, 3, "a cut text counts in part");

    answer(CHAT, "{\"usage\":{\"prompt_tokens\":5,\"completion_tokens\":6");
    is_int(rc, LLMB_DECLINED, "a body cut inside its usage has none");

    answer(CHAT, "{\"usage\":" U("5", "6") ",\"choices\":]");
    is_int(rc, LLMB_DECLINED, "a broken body has none");

    answer(CHAT, CHUNK("abc") "data: {\"choices\":[{\"delta\":{\"content\": "
           "\"de");
    is_int((int64_t) reader.content_bytes, 6, "so does a cut delta, nearly");

    snprintf(error, sizeof(error), "data: {\"error\":{\"message\":\"%*s"
             "\",\"content\":\"y\"}}\n\n", 10240, "x");
    answer(CHAT, error);
    is_int((int64_t) reader.content_bytes, 0, "T47: error text is no content");
    ok(reader.seen & LLMB_SEEN_ERROR, "T47: it is an error");

    answer(CHAT, CHUNK("x") D("{\"error\":{\"code\":502},\"choices\":"
           "[{\"delta\":{\"content\":\"\"},\"finish_reason\":\"error\"}]}"));
    ok((reader.seen & LLMB_SEEN_ERROR) && (reader.seen & LLMB_SEEN_CONTENT),
       "T44: an error after content");

    len = 8 * 1024 * 1024;
    big = malloc(len + 1);

    if (big == NULL) {
        ok(0, "there is memory");
        return;
    }

    memset(big, 'a', len);
    big[len] = '\0';

    llmb_usage_init(&reader, CHAT);
    feed("data: {\"choices\":[{\"delta\":{\"content\":\"");
    feed(big);
    feed("\"}}],\"usage\":" U("3", "4") "}\n\n");
    rc = llmb_usage_result(&reader, 0, &usage);
    is_int(n(LLMB_USAGE_OUTPUT), 4, "T12: an event of 8 MiB is read");
    is_int((int64_t) reader.content_bytes, (int64_t) len, "T12: to the byte");

    for (i = 0; i < len; i += 8) {
        memcpy(big + i, "1.2e-05,", 8);
    }

    llmb_usage_init(&reader, EMBED);
    feed("{\"data\":[{\"embedding\":[");
    feed(big);
    feed("1]}],\"usage\":{\"prompt_tokens\":8,\"total_tokens\":8}}");
    rc = llmb_usage_result(&reader, 0, &usage);
    is_int(n(LLMB_USAGE_INPUT), 8, "T12: usage behind 8 MiB of numbers");

    free(big);

    ok(sizeof(llmb_usage_reader_t) < 16384, "T62: a reader is below 16 KiB");
}


/* T59: values that are no counts, for each field of each dialect */

static void
test_bad(void)
{
    size_t              i, k;
    char                text[512];
    unsigned            good;
    static const char  *bad[] = {
        "\"10\"", "true", "-1", "1.5", "9e30", "{}", "[]", "1000000001",
        "null", "1e3"
    };
    static const struct {
        llmb_dialect_e  dialect;
        const char     *format;
        int             needed;
    } fields[] = {
        { CHAT, "{\"usage\":{\"prompt_tokens\":%s,"
                "\"completion_tokens\":5}}", 1 },
        { CHAT, "{\"usage\":{\"prompt_tokens\":5,"
                "\"completion_tokens\":%s}}", 1 },
        { CHAT, "{\"usage\":{\"prompt_tokens\":5,\"completion_tokens\":1,"
                "\"total_tokens\":%s}}", 0 },
        { CHAT, "{\"usage\":{\"prompt_tokens\":5,\"completion_tokens\":1,"
                "\"prompt_tokens_details\":{\"cached_tokens\":%s}}}", 0 },
        { EMBED, "{\"usage\":{\"prompt_tokens\":%s,\"total_tokens\":5}}", 1 },
        { RESP, "{\"usage\":{\"input_tokens\":%s,\"output_tokens\":5}}", 1 },
        { RESP, "{\"usage\":{\"input_tokens\":5,\"output_tokens\":%s}}", 1 },
        { ANTH, "{\"usage\":{\"input_tokens\":%s,\"output_tokens\":5}}", 1 },
        { ANTH, "{\"usage\":{\"input_tokens\":5,\"output_tokens\":%s}}", 1 },
        { ANTH, "{\"usage\":{\"input_tokens\":5,\"output_tokens\":5,"
                "\"cache_read_input_tokens\":%s}}", 1 },
        { ANTH, "{\"usage\":{\"input_tokens\":5,\"output_tokens\":5,"
                "\"cache_creation_input_tokens\":%s}}", 1 },
        { ANTH, "{\"usage\":{\"input_tokens\":5,\"output_tokens\":5,"
                "\"cache_creation\":{\"ephemeral_1h_input_tokens\":%s}}}", 0 }
    };

    good = 1;

    for (k = 0; k < sizeof(fields) / sizeof(fields[0]); k++) {

        for (i = 0; i < 8; i++) {
            snprintf(text, sizeof(text), fields[k].format, bad[i]);
            answer(fields[k].dialect, text);

            if (rc != (fields[k].needed ? LLMB_DECLINED : LLMB_OK)
                || !(usage.flags & LLMB_USAGE_BAD_VALUE))
            {
                good = 0;
                printf("# %s: %d\n", text, (int) rc);
            }
        }

        for (i = 8; i < 10; i++) {
            snprintf(text, sizeof(text), fields[k].format, bad[i]);
            answer(fields[k].dialect, text);

            if (usage.flags & LLMB_USAGE_BAD_VALUE) {
                good = 0;
                printf("# %s\n", text);
            }
        }
    }

    ok(good == 1, "T59: what is no count is flagged and never charged as zero");

    answer(CHAT, LAST(U("5", "6")) LAST(U("-5", "\"7\"")));
    is_int(rc, LLMB_DECLINED, "T59: a bad count after a good one leaves none");

    answer(CHAT, LAST(U("-5", "6")) LAST(U("5", "7")));
    is_int(rc, LLMB_OK, "T59: a good count after a bad one heals it");
}


static void
test_text(void)
{
    answer(CHAT, "{\"choices\":[{\"message\":{\"content\":\"ab\","
           "\"reasoning\":\"cde\",\"reasoning_content\":\"cde\","
           "\"refusal\":\"f\",\"tool_calls\":[{\"function\":{\"name\":\"xx\","
           "\"arguments\":\"{}\"}}]}}]}");
    is_int((int64_t) reader.content_bytes, 8,
           "reasoning under two names is counted once");

    answer(CHAT, D("{\"choices\":[{\"delta\":{\"reasoning_content\":\"ab\"}},"
                   "{\"delta\":{\"tool_calls\":[{\"function\":{\"arguments\":"
                   "\"{\\\"a\\\"\"}}]},\"message\":{\"content\":\"xx\"}}]}"));
    is_int((int64_t) reader.content_bytes, 6, "all kinds of deltas count");
    is_int((int64_t) reader.content_deltas, 1, "a chunk is one delta");
}


static void
test_plain_event(void)
{
    llmb_usage_init(&reader, CHAT);
    feed("data: {\"model\":\"m\",");
    is_int(reader.event_plain, 0, "T09: it may be a usage-only chunk so far");
    feed("\"choices\":[{");
    is_int(reader.event_plain, 1, "T09: it is not, as it has a choice");
    feed("}]}\n\n" "data: {\"choices\":[],");
    is_int(reader.event_plain, 0, "T09: the next event may be one again");
    feed("\"usage\":null");
    is_int(reader.event_plain, 1, "T09: not if its usage is null");
    feed("}\n\ndata: [DO");
    is_int(reader.event_plain, 1, "T09: nor if it is not an object");
    feed("NE]\n\ndata: {\"choices\":[],\"usage\":{}");
    is_int(reader.event_plain, 0, "T09: a usage-only chunk is not plain");

    llmb_usage_init(&reader, RESP);
    feed("data: {");
    is_int(reader.event_plain, 1, "T09: other dialects have none of them");
}


int
main(void)
{
    test_anthropic_stream();
    test_anthropic_plain();
    test_iterations();
    test_chat();
    test_chat_growing();
    test_providers();
    test_responses();
    test_depth();
    test_cut();
    test_bad();
    test_text();
    test_plain_event();

    return test_done();
}
