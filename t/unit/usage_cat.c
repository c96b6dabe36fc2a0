
/*
 * Copyright (C) the ngx_http_llm_budget_module authors
 *
 * Reads an answer and prints, as one line of JSON, what the usage reader
 * finds in it:
 *
 *     usage_cat [-1] [-s offset] [-a] dialect file
 *
 * -1 feeds it byte by byte, -s cut in two; -a does it in every way (cut at
 * every offset up to 8 KiB, at 64 offsets if it is longer) and fails, if the
 * lines differ.
 */


#include "core/llmb_usage.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>


#define CAT_LINE   8192
#define CAT_FULL   8192
#define CAT_CUTS   64


static unsigned char *cat_read(const char *name, size_t *len);
static int cat_dialect(const char *name, llmb_dialect_e *dialect);
static void cat_run(llmb_dialect_e dialect, const unsigned char *p,
    size_t len, size_t first, size_t step, char *line);
static void cat_line(const llmb_usage_reader_t *reader, unsigned only,
    char *line);
static size_t cat_counts(const llmb_usage_counts_t *counts, char *line,
    size_t n);
static size_t cat_text(const char *name, const unsigned char *p, size_t len,
    char *line, size_t n);


static const char *const  cat_fields[] = {
    "input", "cached_read", "cache_write", "cache_write_5m",
    "cache_write_1h", "output", "reasoning", "audio_input", "audio_output",
    "total", "searches"
};


int
main(int argc, char **argv)
{
    int             i, all, bytes;
    char            line[CAT_LINE], other[CAT_LINE];
    size_t          len, cut, step;
    llmb_dialect_e  dialect;
    unsigned char  *p;

    all = 0;
    bytes = 0;
    cut = 0;

    for (i = 1; i < argc && argv[i][0] == '-'; i++) {

        if (strcmp(argv[i], "-1") == 0) {
            bytes = 1;

        } else if (strcmp(argv[i], "-a") == 0) {
            all = 1;

        } else if (strcmp(argv[i], "-s") == 0 && i + 1 < argc) {
            cut = (size_t) strtoul(argv[++i], NULL, 10);

        } else {
            break;
        }
    }

    if (argc - i != 2 || !cat_dialect(argv[i], &dialect)) {
        fprintf(stderr, "usage: usage_cat [-1] [-s offset] [-a] "
                "chat|completions|responses|embeddings|messages file\n");
        return 2;
    }

    p = cat_read(argv[i + 1], &len);

    if (p == NULL) {
        fprintf(stderr, "usage_cat: cannot read \"%s\"\n", argv[i + 1]);
        return 2;
    }

    cat_run(dialect, p, len, cut ? cut : len, bytes ? 1 : len, line);
    printf("%s\n", line);

    if (!all) {
        free(p);
        return 0;
    }

    cat_run(dialect, p, len, 1, 1, other);

    if (strcmp(line, other) != 0) {
        fprintf(stderr, "byte by byte: %s\n", other);
        return 1;
    }

    step = (len <= CAT_FULL) ? 1 : len / CAT_CUTS;

    for (cut = 1; cut < len; cut += step) {
        cat_run(dialect, p, len, cut, len, other);

        if (strcmp(line, other) != 0) {
            fprintf(stderr, "cut at %zu: %s\n", cut, other);
            return 1;
        }
    }

    free(p);

    return 0;
}


static unsigned char *
cat_read(const char *name, size_t *len)
{
    FILE           *file;
    size_t          n, size;
    unsigned char  *p, *more;

    file = fopen(name, "rb");

    if (file == NULL) {
        return NULL;
    }

    n = 0;
    size = 65536;
    p = malloc(size);

    while (p != NULL) {
        n += fread(p + n, 1, size - n, file);

        if (n < size) {
            break;
        }

        size *= 2;
        more = realloc(p, size);

        if (more == NULL) {
            free(p);
        }

        p = more;
    }

    fclose(file);

    *len = n;

    return p;
}


static int
cat_dialect(const char *name, llmb_dialect_e *dialect)
{
    size_t                   i;
    static const char *const  names[] = {
        "chat", "completions", "responses", "embeddings", "messages"
    };

    for (i = 0; i < sizeof(names) / sizeof(names[0]); i++) {

        if (strcmp(name, names[i]) == 0) {
            *dialect = (llmb_dialect_e) i;
            return 1;
        }
    }

    return 0;
}


/* A piece of "first" bytes, then pieces of "step" bytes. */

static void
cat_run(llmb_dialect_e dialect, const unsigned char *p, size_t len,
    size_t first, size_t step, char *line)
{
    size_t               n, end, used;
    unsigned             only;
    llmb_usage_reader_t  reader;

    llmb_usage_init(&reader, dialect);

    n = 0;
    only = 0;
    end = first;

    while (n < len) {

        if (end > len) {
            end = len;
        }

        while (n < end) {
            used = llmb_usage_feed(&reader, p + n, end - n);
            n += used;
            only += (reader.event == LLMB_EVENT_USAGE_ONLY);

            if (used == 0) {
                fprintf(stderr, "usage_cat: nothing was consumed\n");
                exit(1);
            }
        }

        end += step;
    }

    llmb_usage_end(&reader);
    only += (reader.event == LLMB_EVENT_USAGE_ONLY);

    cat_line(&reader, only, line);
}


static void
cat_line(const llmb_usage_reader_t *reader, unsigned only, char *line)
{
    size_t        n;
    unsigned      i;
    llmb_rc_e     rc;
    llmb_usage_t  usage;

    rc = llmb_usage_result(reader, 0, &usage);

    n = (size_t) snprintf(line, CAT_LINE,
                          "{\"rc\":%u,\"seen\":%u,\"flags\":%u,\"only\":%u,"
                          "\"content_bytes\":%llu,\"content_deltas\":%llu",
                          (unsigned) rc, reader->seen, usage.flags, only,
                          (unsigned long long) reader->content_bytes,
                          (unsigned long long) reader->content_deltas);

    if (rc == LLMB_OK) {
        n += cat_counts(&usage.counts, line, n);
    }

    n += cat_text("model", usage.model, usage.model_len, line, n);
    n += cat_text("tier", usage.tier, usage.tier_len, line, n);
    n += (size_t) snprintf(line + n, CAT_LINE - n, ",\"extra\":[");

    for (i = 0; i < usage.n_extra; i++) {
        n += (size_t) snprintf(line + n, CAT_LINE - n, "%s{\"n\":%u",
                               i ? "," : "", i);
        n += cat_counts(&usage.extra[i].counts, line, n);
        n += cat_text("model", usage.extra[i].model, usage.extra[i].model_len,
                      line, n);
        n += (size_t) snprintf(line + n, CAT_LINE - n, "}");
    }

    snprintf(line + n, CAT_LINE - n, "]}");
}


static size_t
cat_counts(const llmb_usage_counts_t *counts, char *line, size_t n)
{
    size_t    start;
    unsigned  i;

    start = n;

    for (i = 0; i < LLMB_USAGE_FIELDS; i++) {
        n += (size_t) snprintf(line + n, CAT_LINE - n, ",\"%s\":%lld",
                               cat_fields[i], (long long) counts->n[i]);
    }

    return n - start;
}


/* Bytes that are not plain ASCII are shown as a question mark. */

static size_t
cat_text(const char *name, const unsigned char *p, size_t len, char *line,
    size_t n)
{
    size_t  i, start;

    start = n;
    n += (size_t) snprintf(line + n, CAT_LINE - n, ",\"%s\":\"", name);

    for (i = 0; i < len; i++) {
        line[n++] = (p[i] < 0x20 || p[i] > 0x7e || p[i] == '"'
                     || p[i] == '\\')
                    ? '?' : (char) p[i];
    }

    line[n++] = '"';

    return n - start;
}
