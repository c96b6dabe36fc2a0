
/*
 * Copyright (C) the ngx_http_llm_budget_module authors
 *
 * Fuzz target of the event-stream splitter: a stream fed whole, in pieces
 * chosen by the input and byte by byte gives the same events, and these are
 * the events a plain splitter of whole lines finds.
 */


#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/llmb_sse.h"


#define FUZZ_MAX  8192


/* events as bytes; none is longer than its stream and its marks */

typedef struct {
    size_t                  len;
    unsigned char           data[8 * FUZZ_MAX + 1024];

    size_t                  text_len;
    unsigned char           text[2 * FUZZ_MAX];
} fuzz_log_t;


/* the plain splitter's event */

typedef struct {
    size_t                  name_len;
    const unsigned char    *name;
    unsigned                has_data;
    unsigned                open;
} fuzz_event_t;


int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void fuzz_pieces(fuzz_log_t *log, const uint8_t *data, size_t size,
    unsigned seed);
static void fuzz_feed(llmb_sse_t *sse, fuzz_log_t *log, const uint8_t *data,
    size_t size);
static void fuzz_data(void *data, const unsigned char *p, size_t len);
static void fuzz_plain(fuzz_log_t *log, const uint8_t *data, size_t size);
static void fuzz_line(fuzz_log_t *log, fuzz_event_t *event,
    const unsigned char *p, size_t len, int whole);
static void fuzz_event(fuzz_log_t *log, const unsigned char *name,
    size_t name_len, unsigned has_data, unsigned char mark);
static void fuzz_put(fuzz_log_t *log, const void *p, size_t len);
static void fuzz_check(int pass, const char *what);


static fuzz_log_t  fuzz_whole, fuzz_parts;


int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    unsigned  seed;

    if (size < 1 || size > FUZZ_MAX) {
        return 0;
    }

    /* 0 is whole, 1 is byte by byte, others are pieces of changing size */

    seed = 2 + data[0];
    data++;
    size--;

    fuzz_pieces(&fuzz_whole, data, size, 0);

    fuzz_pieces(&fuzz_parts, data, size, 1);
    fuzz_check(fuzz_whole.len == fuzz_parts.len
               && memcmp(fuzz_whole.data, fuzz_parts.data, fuzz_whole.len)
                  == 0,
               "byte by byte differs");

    fuzz_pieces(&fuzz_parts, data, size, seed);
    fuzz_check(fuzz_whole.len == fuzz_parts.len
               && memcmp(fuzz_whole.data, fuzz_parts.data, fuzz_whole.len)
                  == 0,
               "pieces differ");

    fuzz_plain(&fuzz_parts, data, size);
    fuzz_check(fuzz_whole.len == fuzz_parts.len
               && memcmp(fuzz_whole.data, fuzz_parts.data, fuzz_whole.len)
                  == 0,
               "the plain splitter differs");

    return 0;
}


static void
fuzz_pieces(fuzz_log_t *log, const uint8_t *data, size_t size, unsigned seed)
{
    size_t      n;
    llmb_sse_t  sse;

    log->len = 0;
    log->text_len = 0;

    llmb_sse_init(&sse, fuzz_data, log);

    while (size != 0) {
        n = size;

        if (seed == 1) {
            n = 1;

        } else if (seed != 0) {
            seed = (seed * 1103515245 + 12345) | 2;
            n = 1 + (seed >> 16) % 23;
        }

        if (n > size) {
            n = size;
        }

        fuzz_feed(&sse, log, data, n);

        data += n;
        size -= n;
    }

    if (llmb_sse_end(&sse)) {
        fuzz_event(log, sse.name, sse.name_len, 1, '?');
    }
}


/* Each piece has its own memory, so that a sanitizer sees a step outside. */

static void
fuzz_feed(llmb_sse_t *sse, fuzz_log_t *log, const uint8_t *data, size_t size)
{
    int             event;
    size_t          pos, n;
    unsigned char  *copy;

    copy = malloc(size);

    if (copy == NULL) {
        abort();
    }

    memcpy(copy, data, size);

    for (pos = 0; pos < size; pos += n) {
        n = llmb_sse_feed(sse, copy + pos, size - pos, &event);

        fuzz_check(n > 0 && n <= size - pos, "nothing or too much consumed");
        fuzz_check(event || n == size - pos, "stopped without an event");
        fuzz_check(sse->name_len <= LLMB_SSE_NAME, "name too long");
        fuzz_check(!sse->skip_lf || (event && n == size - pos),
                   "skip_lf without an event at the end of the piece");

        if (event) {
            fuzz_check(!llmb_sse_end(sse), "an ended event is open");
            fuzz_event(log, sse->name, sse->name_len, sse->has_data, ';');
        }
    }

    free(copy);
}


static void
fuzz_data(void *data, const unsigned char *p, size_t len)
{
    fuzz_log_t *log = data;

    fuzz_check(len > 0, "empty piece of data");
    fuzz_check(len <= sizeof(log->text) - log->text_len, "too much data");

    memcpy(log->text + log->text_len, p, len);
    log->text_len += len;
}


/* Looks at whole lines of the whole stream. */

static void
fuzz_plain(fuzz_log_t *log, const uint8_t *data, size_t size)
{
    size_t        i, start;
    fuzz_event_t  event;

    log->len = 0;
    log->text_len = 0;
    memset(&event, 0, sizeof(fuzz_event_t));

    start = (size >= 3 && memcmp(data, "\xef\xbb\xbf", 3) == 0) ? 3 : 0;

    for (i = start; i < size; i++) {

        if (data[i] != '\n' && data[i] != '\r') {
            continue;
        }

        if (i != start) {
            fuzz_line(log, &event, data + start, i - start, 1);

        } else if (event.open) {
            fuzz_event(log, event.name, event.name_len, event.has_data, ';');
            memset(&event, 0, sizeof(fuzz_event_t));
        }

        if (data[i] == '\r' && i + 1 < size && data[i + 1] == '\n') {
            i++;
        }

        start = i + 1;
    }

    if (start < size) {
        fuzz_line(log, &event, data + start, size - start, 0);
    }

    if (event.has_data) {
        fuzz_event(log, event.name, event.name_len, 1, '?');
    }
}


static void
fuzz_line(fuzz_log_t *log, fuzz_event_t *event, const unsigned char *p,
    size_t len, int whole)
{
    size_t                value_len;
    const unsigned char  *colon, *value;

    colon = memchr(p, ':', len);

    if (colon == NULL && !whole) {
        return;
    }

    value = p + len;
    value_len = 0;

    if (colon != NULL) {
        value = colon + 1;
        value_len = len - (size_t) (value - p);
        len = (size_t) (colon - p);

        if (value_len != 0 && *value == ' ') {
            value++;
            value_len--;
        }
    }

    if (len == 4 && memcmp(p, "data", 4) == 0) {

        if (event->has_data) {
            fuzz_data(log, (const unsigned char *) "\n", 1);
        }

        if (value_len != 0) {
            fuzz_data(log, value, value_len);
        }

        event->has_data = 1;
        event->open = 1;

    } else if (len == 5 && memcmp(p, "event", 5) == 0) {
        event->name = value;
        event->name_len = (value_len > LLMB_SSE_NAME) ? 0 : value_len;
        event->open = 1;
    }
}


static void
fuzz_event(fuzz_log_t *log, const unsigned char *name, size_t name_len,
    unsigned has_data, unsigned char mark)
{
    fuzz_check(has_data || log->text_len == 0, "data without has_data");

    fuzz_put(log, &name_len, sizeof(size_t));

    if (name_len != 0) {
        fuzz_put(log, name, name_len);
    }

    fuzz_put(log, has_data ? "|" : "-", 1);
    fuzz_put(log, log->text, log->text_len);
    fuzz_put(log, &mark, 1);

    log->text_len = 0;
}


static void
fuzz_put(fuzz_log_t *log, const void *p, size_t len)
{
    fuzz_check(len <= sizeof(log->data) - log->len, "log is full");

    memcpy(log->data + log->len, p, len);
    log->len += len;
}


static void
fuzz_check(int pass, const char *what)
{
    if (!pass) {
        fprintf(stderr, "fuzz_sse: %s\n", what);
        abort();
    }
}
