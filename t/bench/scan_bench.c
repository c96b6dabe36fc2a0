
/*
 * Copyright (C) the ngx_http_llm_budget_module authors
 *
 * The readers of the core against jansson, on one request body and one event
 * stream: "scan_bench body stream ms".  A line of JSON for each reader, in
 * bytes per second of CPU time, the best of five rounds.
 */


#define _GNU_SOURCE

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <jansson.h>

#include "core/llmb_request.h"
#include "core/llmb_usage.h"


#define SCAN_ROUNDS     5

/* nginx reads a body into buffers of this size */
#define SCAN_PIECE      16384


typedef int (*scan_pt)(const unsigned char *p, size_t len);


static unsigned char *scan_file(const char *name, size_t *len);
static int scan_run(const char *name, scan_pt reader, const unsigned char *p,
    size_t len, uint64_t ns);
static int scan_json(const unsigned char *p, size_t len);
static int scan_json_pieces(const unsigned char *p, size_t len);
static int scan_request(const unsigned char *p, size_t len);
static int scan_usage(const unsigned char *p, size_t len);
static int scan_jansson(const unsigned char *p, size_t len);
static llmb_rc_e scan_token(void *data, const llmb_json_token_t *token);
static uint64_t scan_now(void);


int
main(int argc, char *argv[])
{
    size_t          body_len, stream_len;
    uint64_t        ns;
    unsigned char  *body, *stream;

    if (argc != 4) {
        fprintf(stderr, "usage: scan_bench body stream ms\n");
        return 2;
    }

    body = scan_file(argv[1], &body_len);
    stream = scan_file(argv[2], &stream_len);
    ns = strtoull(argv[3], NULL, 10) * 1000000 / SCAN_ROUNDS;

    if (body == NULL || stream == NULL) {
        fprintf(stderr, "scan_bench: cannot read its files\n");
        return 1;
    }

    return scan_run("scanner", scan_json, body, body_len, ns)
           || scan_run("scanner, 16k pieces", scan_json_pieces, body,
                       body_len, ns)
           || scan_run("request", scan_request, body, body_len, ns)
           || scan_run("jansson", scan_jansson, body, body_len, ns)
           || scan_run("usage of a stream", scan_usage, stream, stream_len,
                       ns);
}


static unsigned char *
scan_file(const char *name, size_t *len)
{
    long            n;
    FILE           *f;
    unsigned char  *data;

    f = fopen(name, "rb");

    if (f == NULL || fseek(f, 0, SEEK_END) != 0) {
        return NULL;
    }

    n = ftell(f);
    rewind(f);

    data = (n > 0) ? malloc((size_t) n) : NULL;

    if (data != NULL && fread(data, 1, (size_t) n, f) != (size_t) n) {
        free(data);
        data = NULL;
    }

    fclose(f);
    *len = (size_t) n;

    return data;
}


static int
scan_run(const char *name, scan_pt reader, const unsigned char *p, size_t len,
    uint64_t ns)
{
    int       i;
    uint64_t  start, taken, bytes, rate, best;

    best = 0;

    for (i = 0; i < SCAN_ROUNDS; i++) {
        bytes = 0;
        start = scan_now();

        do {

            if (reader(p, len) != 0) {
                fprintf(stderr, "scan_bench: %s refuses\n", name);
                return 1;
            }

            bytes += len;
            taken = scan_now() - start;

        } while (taken < ns);

        rate = bytes * 1000 / (taken / 1000 + 1) * 1000;
        best = (rate > best) ? rate : best;
    }

    printf("{\"reader\": \"%s\", \"bytes_per_second\": %llu}\n", name,
           (unsigned long long) best);
    fflush(stdout);

    return 0;
}


static int
scan_json(const unsigned char *p, size_t len)
{
    size_t       tokens;
    llmb_json_t  js;

    tokens = 0;

    llmb_json_init(&js, 0, LLMB_REQUEST_DEPTH, scan_token, &tokens);
    (void) llmb_json_feed(&js, p, len);

    return llmb_json_end(&js) != LLMB_OK || tokens == 0;
}


static int
scan_json_pieces(const unsigned char *p, size_t len)
{
    size_t       i, n, tokens;
    llmb_json_t  js;

    tokens = 0;

    llmb_json_init(&js, 0, LLMB_REQUEST_DEPTH, scan_token, &tokens);

    for (i = 0; i < len; i += n) {
        n = (len - i < SCAN_PIECE) ? len - i : SCAN_PIECE;
        (void) llmb_json_feed(&js, p + i, n);
    }

    return llmb_json_end(&js) != LLMB_OK || tokens == 0;
}


static int
scan_request(const unsigned char *p, size_t len)
{
    size_t                 i, n;
    static llmb_request_t  req;

    llmb_request_init(&req, LLMB_DIALECT_CHAT);

    for (i = 0; i < len; i += n) {
        n = (len - i < SCAN_PIECE) ? len - i : SCAN_PIECE;
        (void) llmb_request_feed(&req, p + i, n);
    }

    return llmb_request_end(&req) != LLMB_OK || req.model_len == 0;
}


static int
scan_usage(const unsigned char *p, size_t len)
{
    size_t                      i;
    llmb_usage_t                usage;
    static llmb_usage_reader_t  reader;

    llmb_usage_init(&reader, LLMB_DIALECT_CHAT);

    for (i = 0; i < len; /* void */ ) {
        i += llmb_usage_feed(&reader, p + i, len - i);
    }

    llmb_usage_end(&reader);

    return llmb_usage_result(&reader, 0, &usage) != LLMB_OK;
}


static int
scan_jansson(const unsigned char *p, size_t len)
{
    json_t  *root;

    root = json_loadb((const char *) p, len, 0, NULL);

    if (root == NULL) {
        return 1;
    }

    json_decref(root);

    return 0;
}


static llmb_rc_e
scan_token(void *data, const llmb_json_token_t *token)
{
    size_t  *tokens = data;

    (void) token;
    (*tokens)++;

    return LLMB_OK;
}


static uint64_t
scan_now(void)
{
    struct timespec  ts;

    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &ts);

    return (uint64_t) ts.tv_sec * 1000000000 + (uint64_t) ts.tv_nsec;
}
