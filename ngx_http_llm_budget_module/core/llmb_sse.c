
/*
 * Copyright (C) the ngx_http_llm_budget_module authors
 *
 * The event-stream splitter: a state machine over bytes, with a bulk search
 * for the end of line inside values and comments.
 */


#include <string.h>

#include "core/llmb_sse.h"

#if defined(__SSE2__) && defined(__GNUC__)
#include <emmintrin.h>
#define LLMB_SSE_SIMD  1
#else
#define LLMB_SSE_SIMD  0
#endif


#define LLMB_SSE_LF   0x0a
#define LLMB_SSE_CR   0x0d

#define LLMB_SSE_BOM  3


typedef enum {
    LLMB_SSE_S_START = 0,       /* first bytes of the stream: a BOM? */
    LLMB_SSE_S_LINE,            /* at the start of a line */
    LLMB_SSE_S_NAME,            /* inside a field's name */
    LLMB_SSE_S_COLON,           /* after the colon: one space is dropped */
    LLMB_SSE_S_VALUE,
    LLMB_SSE_S_CR               /* a line ended in CR: an LF belongs to it */
} llmb_sse_state_e;


typedef enum {
    LLMB_SSE_F_IGNORED = 0,     /* comment, id, retry, unknown */
    LLMB_SSE_F_DATA,
    LLMB_SSE_F_EVENT
} llmb_sse_field_e;


static const unsigned char *llmb_sse_step(llmb_sse_t *sse,
    const unsigned char *p, const unsigned char *last);
static void llmb_sse_start(llmb_sse_t *sse);
static void llmb_sse_blank(llmb_sse_t *sse);
static void llmb_sse_name(llmb_sse_t *sse, unsigned char c);
static void llmb_sse_field(llmb_sse_t *sse);
static void llmb_sse_value(llmb_sse_t *sse, const unsigned char *p,
    size_t len);
static void llmb_sse_eol(llmb_sse_t *sse, unsigned char c);
static const unsigned char *llmb_sse_find_eol(const unsigned char *p,
    const unsigned char *last);


static const unsigned char  llmb_sse_bom[LLMB_SSE_BOM] = { 0xef, 0xbb, 0xbf };


void
llmb_sse_init(llmb_sse_t *sse, llmb_sse_data_pt handler, void *data)
{
    memset(sse, 0, sizeof(llmb_sse_t));

    sse->handler = handler;
    sse->data = data;
    sse->state = LLMB_SSE_S_START;
}


size_t
llmb_sse_feed(llmb_sse_t *sse, const unsigned char *p, size_t len, int *event)
{
    const unsigned char  *pos, *last;

    *event = 0;

    if (len == 0) {
        return 0;
    }

    if (sse->ended) {
        sse->ended = 0;
        sse->open = 0;
        sse->has_data = 0;
        sse->name_len = 0;
        sse->skip_lf = 0;
    }

    pos = p;
    last = p + len;

    while (pos < last && !sse->ended) {
        pos = llmb_sse_step(sse, pos, last);
    }

    if (!sse->ended) {
        return len;
    }

    *event = 1;

    if (sse->state == LLMB_SSE_S_CR) {

        if (pos == last) {
            sse->skip_lf = 1;

        } else if (*pos == LLMB_SSE_LF) {
            sse->state = LLMB_SSE_S_LINE;
            pos++;
        }
    }

    return (size_t) (pos - p);
}


int
llmb_sse_end(llmb_sse_t *sse)
{
    return sse->has_data && !sse->ended;
}


/* Takes a byte or a run of them; returns what is left. */

static const unsigned char *
llmb_sse_step(llmb_sse_t *sse, const unsigned char *p,
    const unsigned char *last)
{
    const unsigned char  *eol;

    switch (sse->state) {

    case LLMB_SSE_S_START:

        if (*p == llmb_sse_bom[sse->bom]) {

            if (++sse->bom == LLMB_SSE_BOM) {
                sse->state = LLMB_SSE_S_LINE;
            }

            return p + 1;
        }

        llmb_sse_start(sse);
        return p;

    case LLMB_SSE_S_CR:
        sse->state = LLMB_SSE_S_LINE;
        return (*p == LLMB_SSE_LF) ? p + 1 : p;

    case LLMB_SSE_S_LINE:

        if (*p == LLMB_SSE_LF || *p == LLMB_SSE_CR) {
            llmb_sse_blank(sse);
            llmb_sse_eol(sse, *p);
            return p + 1;
        }

        sse->field_len = 0;
        sse->state = LLMB_SSE_S_NAME;
        return p;

    case LLMB_SSE_S_NAME:
        llmb_sse_name(sse, *p);
        return p + 1;

    case LLMB_SSE_S_COLON:
        sse->state = LLMB_SSE_S_VALUE;
        return (*p == ' ') ? p + 1 : p;

    default: /* LLMB_SSE_S_VALUE */
        eol = llmb_sse_find_eol(p, last);

        if (eol != p) {
            llmb_sse_value(sse, p, (size_t) (eol - p));
        }

        if (eol == last) {
            return last;
        }

        llmb_sse_eol(sse, *eol);
        return eol + 1;
    }
}


/* No BOM after all: what looked like one begins the first field's name. */

static void
llmb_sse_start(llmb_sse_t *sse)
{
    sse->field_len = sse->bom;
    memcpy(sse->field_name, llmb_sse_bom, sse->bom);

    sse->state = (sse->bom == 0) ? LLMB_SSE_S_LINE : LLMB_SSE_S_NAME;
}


static void
llmb_sse_blank(llmb_sse_t *sse)
{
    if (sse->open) {
        sse->ended = 1;
    }
}


static void
llmb_sse_name(llmb_sse_t *sse, unsigned char c)
{
    if (c == ':') {
        llmb_sse_field(sse);
        sse->state = LLMB_SSE_S_COLON;
        return;
    }

    if (c == LLMB_SSE_LF || c == LLMB_SSE_CR) {
        llmb_sse_field(sse);
        llmb_sse_eol(sse, c);
        return;
    }

    if (sse->field_len == sizeof(sse->field_name)) {
        /* longer than any name we know: the rest of the line is skipped */
        sse->field = LLMB_SSE_F_IGNORED;
        sse->state = LLMB_SSE_S_VALUE;
        return;
    }

    sse->field_name[sse->field_len++] = c;
}


/* The name is complete.  An empty one is that of a comment. */

static void
llmb_sse_field(llmb_sse_t *sse)
{
    static const unsigned char  lf = LLMB_SSE_LF;

    sse->field = LLMB_SSE_F_IGNORED;

    if (sse->field_len == 4 && memcmp(sse->field_name, "data", 4) == 0) {
        sse->field = LLMB_SSE_F_DATA;
        sse->open = 1;

        if (sse->has_data) {
            sse->handler(sse->data, &lf, 1);
        }

        sse->has_data = 1;

    } else if (sse->field_len == 5
               && memcmp(sse->field_name, "event", 5) == 0)
    {
        sse->field = LLMB_SSE_F_EVENT;
        sse->open = 1;
        sse->name_len = 0;
    }
}


static void
llmb_sse_value(llmb_sse_t *sse, const unsigned char *p, size_t len)
{
    if (sse->field == LLMB_SSE_F_DATA) {
        sse->handler(sse->data, p, len);
        return;
    }

    if (sse->field != LLMB_SSE_F_EVENT) {
        return;
    }

    if (len > LLMB_SSE_NAME - sse->name_len) {
        /* too long counts as unknown; what is left of it is not looked at */
        sse->name_len = 0;
        sse->field = LLMB_SSE_F_IGNORED;
        return;
    }

    memcpy(sse->name + sse->name_len, p, len);
    sse->name_len += len;
}


static void
llmb_sse_eol(llmb_sse_t *sse, unsigned char c)
{
    sse->state = (c == LLMB_SSE_CR) ? LLMB_SSE_S_CR : LLMB_SSE_S_LINE;
}


static const unsigned char *
llmb_sse_find_eol(const unsigned char *p, const unsigned char *last)
{
#if LLMB_SSE_SIMD

    int      mask;
    __m128i  cr, lf, x;

    cr = _mm_set1_epi8(LLMB_SSE_CR);
    lf = _mm_set1_epi8(LLMB_SSE_LF);

    while (last - p >= 16) {
        x = _mm_loadu_si128((const __m128i *) (const void *) p);

        mask = _mm_movemask_epi8(_mm_or_si128(_mm_cmpeq_epi8(x, cr),
                                              _mm_cmpeq_epi8(x, lf)));

        if (mask != 0) {
            return p + __builtin_ctz((unsigned) mask);
        }

        p += 16;
    }

#endif

    while (p < last && *p != LLMB_SSE_CR && *p != LLMB_SSE_LF) {
        p++;
    }

    return p;
}
