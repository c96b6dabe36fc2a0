
/*
 * Copyright (C) the ngx_http_llm_budget_module authors
 *
 * The answers that t/bench/load.c reads.
 */


#define _GNU_SOURCE

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "load_answer.h"


static const char *load_head(load_answer_t *a, const char *p, const char *last,
    const char *want, char error[LOAD_ERROR]);
static const char *load_framing(load_answer_t *a, const char *p,
    const char *last);
static const char *load_data(load_answer_t *a, const char *p,
    const char *last);


void
load_answer_init(load_answer_t *answer)
{
    memset(answer, 0, offsetof(load_answer_t, tail));
}


const char *
load_answer_feed(load_answer_t *a, const char *p, const char *last,
    const char *want, char error[LOAD_ERROR])
{
    error[0] = '\0';

    while (p != NULL && p < last && a->state != LOAD_DONE) {

        switch (a->state) {

        case LOAD_HEADER:
            p = load_head(a, p, last, want, error);
            break;

        case LOAD_BODY:
        case LOAD_CHUNK_DATA:
            p = load_data(a, p, last);
            break;

        default:
            p = load_framing(a, p, last);
        }
    }

    if (p == NULL && error[0] == '\0') {
        snprintf(error, LOAD_ERROR, "an answer is not HTTP");
    }

    return p;
}


int
load_answer_ends(const load_answer_t *answer, const char *text)
{
    size_t  len;

    len = strlen(text);

    return answer->tail_len >= len
           && memcmp(answer->tail + answer->tail_len - len, text, len) == 0;
}


static const char *
load_head(load_answer_t *a, const char *p, const char *last,
    const char *want, char error[LOAD_ERROR])
{
    char    *end, *field;
    size_t   n, before;

    n = (size_t) (last - p);
    before = a->head_len;

    if (n > LOAD_HEAD - 1 - before) {
        n = LOAD_HEAD - 1 - before;
    }

    memcpy(a->head + before, p, n);
    a->head_len += n;
    a->head[a->head_len] = '\0';

    end = strstr(a->head, "\r\n\r\n");

    if (end == NULL) {
        return (a->head_len == LOAD_HEAD - 1) ? NULL : last;
    }

    end[2] = '\0';

    if (want != NULL && strncmp(a->head, "HTTP/1.1 200 ", 13) == 0
        && strcasestr(a->head, want) == NULL)
    {
        snprintf(error, LOAD_ERROR, "an answer has no %.80s", want);
        return NULL;
    }

    if (strncmp(a->head, "HTTP/1.1 200 ", 13) != 0) {
        snprintf(error, LOAD_ERROR, "an answer was %.80s", a->head);
        *strchrnul(error, '\r') = '\0';
        return NULL;
    }

    field = strcasestr(a->head, "\r\ncontent-length:");

    if (field != NULL) {
        a->left = strtoull(field + 17, NULL, 10);
        a->state = (a->left > 0) ? LOAD_BODY : LOAD_DONE;

    } else if (strcasestr(a->head, "\r\ntransfer-encoding: chunked") != NULL) {
        a->state = LOAD_CHUNK_SIZE;
        a->left = 0;
        a->line = 0;

    } else {
        return NULL;
    }

    return p + ((size_t) (end - a->head) + 4 - before);
}


static const char *
load_framing(load_answer_t *a, const char *p, const char *last)
{
    char  ch;

    while (p < last) {
        ch = *p++;

        switch (a->state) {

        case LOAD_CHUNK_SIZE:

            if (ch >= '0' && ch <= '9') {
                a->left = a->left * 16 + (uint64_t) (ch - '0');
                a->line++;

            } else if (ch >= 'a' && ch <= 'f') {
                a->left = a->left * 16 + (uint64_t) (ch - 'a') + 10;
                a->line++;

            } else if (ch == '\n' && a->line > 0) {
                a->line = 0;
                a->state = (a->left > 0) ? LOAD_CHUNK_DATA : LOAD_TRAILER;

                if (a->left > 0) {
                    return p;
                }

            } else if (ch != '\r') {
                return NULL;
            }

            break;

        case LOAD_CHUNK_END:

            if (ch == '\n') {
                a->state = LOAD_CHUNK_SIZE;
                a->left = 0;
            }

            break;

        default: /* LOAD_TRAILER */

            if (ch == '\n') {

                if (a->line == 0) {
                    a->state = LOAD_DONE;
                    return p;
                }

                a->line = 0;

            } else if (ch != '\r') {
                a->line++;
            }
        }
    }

    return p;
}


static const char *
load_data(load_answer_t *a, const char *p, const char *last)
{
    size_t  n, keep;

    n = (size_t) (last - p);

    if (n > a->left) {
        n = (size_t) a->left;
    }

    a->body += n;
    a->left -= n;

    /* the last bytes of the body */

    if (n >= LOAD_TAIL) {
        memcpy(a->tail, p + n - LOAD_TAIL, LOAD_TAIL);
        a->tail_len = LOAD_TAIL;

    } else {
        keep = (a->tail_len + n > LOAD_TAIL) ? LOAD_TAIL - n : a->tail_len;
        memmove(a->tail, a->tail + a->tail_len - keep, keep);
        memcpy(a->tail + keep, p, n);
        a->tail_len = keep + n;
    }

    if (a->left == 0) {
        a->state = (a->state == LOAD_BODY) ? LOAD_DONE : LOAD_CHUNK_END;
    }

    return p + n;
}
