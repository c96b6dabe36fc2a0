
/*
 * Copyright (C) the ngx_http_llm_budget_module authors
 *
 * The usage reader.  Bytes go straight from the event splitter into the JSON
 * scanner, and its tokens through the dialect's table of places; nothing is
 * gathered, so an event or body may be of any length.  What an event says is
 * set aside and taken over when its JSON is complete.
 */


#include "core/llmb_usage_dialect.h"

#include <string.h>


static size_t llmb_usage_sniff(llmb_usage_reader_t *reader,
    const unsigned char *p, size_t len);
static void llmb_usage_begin(llmb_usage_reader_t *reader);
static void llmb_usage_data(void *data, const unsigned char *p, size_t len);
static llmb_event_e llmb_usage_event(llmb_usage_reader_t *reader);
static unsigned llmb_usage_done(const llmb_usage_reader_t *reader);
static void llmb_usage_cut(llmb_usage_reader_t *reader);
static void llmb_usage_merge(llmb_usage_reader_t *reader);
static void llmb_usage_split(const llmb_usage_reader_t *reader,
    llmb_usage_t *usage);


static const llmb_usage_dialect_t *const  llmb_usage_dialects[] = {
    &llmb_usage_chat,
    &llmb_usage_completions,
    &llmb_usage_responses,
    &llmb_usage_embeddings,
    &llmb_usage_anthropic
};


void
llmb_usage_init(llmb_usage_reader_t *reader, llmb_dialect_e dialect)
{
    memset(reader, 0, sizeof(llmb_usage_reader_t));

    reader->dialect = llmb_usage_dialects[dialect];

    llmb_sse_init(&reader->sse, llmb_usage_data, reader);
    llmb_usage_begin(reader);
}


size_t
llmb_usage_feed(llmb_usage_reader_t *reader, const unsigned char *p, size_t len)
{
    int     event;
    size_t  n;

    reader->event = LLMB_EVENT_NONE;

    if (reader->ended || len == 0) {
        return len;
    }

    n = 0;

    if (reader->framing == LLMB_FRAMING_NONE) {
        n = llmb_usage_sniff(reader, p, len);

        if (n == len) {
            return len;
        }
    }

    if (reader->framing == LLMB_FRAMING_DOCUMENT) {
        llmb_usage_data(reader, p + n, len - n);

        if (reader->next_flags & LLMB_NEXT_BROKEN) {
            reader->usage.flags |= LLMB_USAGE_BROKEN;
        }

        return len;
    }

    /* reader->framing == LLMB_FRAMING_EVENTS */

    if (!(reader->next_flags & LLMB_NEXT_OPEN)) {
        llmb_usage_begin(reader);
    }

    n += llmb_sse_feed(&reader->sse, p + n, len - n, &event);

    if (event) {
        reader->event = llmb_usage_event(reader);
    }

    return n;
}


void
llmb_usage_end(llmb_usage_reader_t *reader)
{
    if (reader->ended) {
        return;
    }

    reader->ended = 1;
    reader->event = LLMB_EVENT_NONE;

    if (reader->framing == LLMB_FRAMING_EVENTS) {

        if (llmb_sse_end(&reader->sse)) {
            llmb_usage_cut(reader);
            reader->event = llmb_usage_event(reader);
        }

        return;
    }

    if (reader->framing == LLMB_FRAMING_DOCUMENT
        && !(reader->next_flags & LLMB_NEXT_BROKEN))
    {
        llmb_usage_cut(reader);

        if (llmb_json_end(&reader->json) != LLMB_OK) {
            reader->usage.flags |= LLMB_USAGE_BROKEN;

            /* a body cut behind its usage has been billed all the same */

            if (reader->next_flags & LLMB_NEXT_USAGE_END) {
                llmb_usage_merge(reader);
            }
        }
    }
}


llmb_rc_e
llmb_usage_result(const llmb_usage_reader_t *reader, unsigned cache_1h,
    llmb_usage_t *usage)
{
    *usage = reader->usage;

    if (!(reader->seen & LLMB_SEEN_USAGE)) {
        usage->n_extra = 0;
        return LLMB_DECLINED;
    }

    llmb_usage_split(reader, usage);

    return reader->dialect->result(reader, cache_1h, usage);
}


/* Skips white space and a BOM; the first other byte tells the framing. */

static size_t
llmb_usage_sniff(llmb_usage_reader_t *reader, const unsigned char *p,
    size_t len)
{
    size_t                      i;
    static const unsigned char  bom[] = { 0xef, 0xbb, 0xbf };

    for (i = 0; i < len; i++) {

        if (reader->bom < sizeof(bom) && p[i] == bom[reader->bom]) {
            reader->bom++;
            continue;
        }

        reader->bom = sizeof(bom);

        switch (p[i]) {

        case ' ':
        case '\t':
        case '\r':
        case '\n':
            continue;

        case ':':
        case 'd':
        case 'e':
        case 'i':
        case 'r':
            reader->framing = LLMB_FRAMING_EVENTS;
            reader->seen |= LLMB_SEEN_STREAM;
            break;

        default:
            reader->framing = LLMB_FRAMING_DOCUMENT;
            break;
        }

        return i;
    }

    return len;
}


static void
llmb_usage_begin(llmb_usage_reader_t *reader)
{
    reader->event_plain = !reader->dialect->chunks;

    reader->next.counts.present = 0;
    reader->next.flags = 0;
    reader->next.model_len = 0;
    reader->next.tier_len = 0;
    reader->next.n_extra = 0;
    reader->next_split.listed = 0;
    reader->next_bad = 0;
    reader->next_names = 0;
    reader->next_flags = LLMB_NEXT_OPEN;
    reader->next_searches = 0;
    reader->next_delta = 0;

    reader->row = NULL;
    reader->in_sampling = 0;
    reader->mark = 0;
    reader->skip_depth = LLMB_USAGE_NO_SKIP;
    reader->head_len = 0;

    llmb_json_init(&reader->json, LLMB_JSON_LAX_TEXT, LLMB_ANSWER_DEPTH,
                   llmb_usage_token, reader);
}


/* Data of an event, or of the document. */

static void
llmb_usage_data(void *data, const unsigned char *p, size_t len)
{
    size_t                i;
    llmb_rc_e             rc;
    llmb_usage_reader_t  *reader;

    reader = data;

    for (i = 0; i < len && reader->head_len < sizeof(reader->head); i++) {

        if (reader->head_len == 0
            && (p[i] == ' ' || p[i] == '\t' || p[i] == '\r' || p[i] == '\n'))
        {
            continue;
        }

        reader->head[reader->head_len++] = p[i];
    }

    if (reader->head_len != 0 && reader->head[0] != '{') {
        reader->event_plain = 1;
    }

    if (reader->next_flags & LLMB_NEXT_BROKEN) {
        return;
    }

    rc = llmb_json_feed(&reader->json, p, len);

    if (rc != LLMB_OK && rc != LLMB_AGAIN) {
        reader->next_flags |= LLMB_NEXT_BROKEN;
        reader->event_plain = 1;
    }
}


/* An event of a stream ended: what was it? */

static llmb_event_e
llmb_usage_event(llmb_usage_reader_t *reader)
{
    unsigned  want;

    reader->next_flags &= ~(unsigned) LLMB_NEXT_OPEN;

    /* some servers send empty data lines to keep the connection alive */

    if (!reader->sse.has_data || reader->head_len == 0) {
        return LLMB_EVENT_OTHER;
    }

    if (llmb_usage_done(reader)) {
        reader->seen |= LLMB_SEEN_FINAL;
        return LLMB_EVENT_OTHER;
    }

    if (reader->sse.name_len == 5
        && memcmp(reader->sse.name, "error", 5) == 0)
    {
        reader->seen |= LLMB_SEEN_ERROR;
    }

    if ((reader->next_flags & LLMB_NEXT_BROKEN)
        || llmb_json_end(&reader->json) != LLMB_OK)
    {
        reader->usage.flags |= LLMB_USAGE_BROKEN;
        return LLMB_EVENT_OTHER;
    }

    want = LLMB_NEXT_TAKEN|LLMB_NEXT_USAGE|LLMB_NEXT_CHOICES;

    if (!reader->event_plain && (reader->next_flags & want) == want) {
        return LLMB_EVENT_USAGE_ONLY;
    }

    return LLMB_EVENT_OTHER;
}


/* "[DONE]", perhaps with white space around it */

static unsigned
llmb_usage_done(const llmb_usage_reader_t *reader)
{
    unsigned  i;

    if (reader->head_len < 6 || memcmp(reader->head, "[DONE]", 6) != 0) {
        return 0;
    }

    for (i = 6; i < reader->head_len; i++) {

        if (reader->head[i] != ' ' && reader->head[i] != '\t'
            && reader->head[i] != '\r' && reader->head[i] != '\n')
        {
            return 0;
        }
    }

    return 1;
}


/*
 * The input ended: what there is of a generated text that is being read was
 * generated, too.  Its raw bytes are counted, as they were not decoded yet.
 */

static void
llmb_usage_cut(llmb_usage_reader_t *reader)
{
    uint64_t  n;

    if (reader->next_flags & (LLMB_NEXT_BROKEN|LLMB_NEXT_TAKEN)) {
        return;
    }

    n = reader->json.offset - reader->mark;

    if (reader->next_flags & LLMB_NEXT_RAW) {
        llmb_usage_text(reader, n);
        return;
    }

    /* ':' and '"' follow the key */

    if (reader->row != NULL && n > 2
        && (reader->row->action == LLMB_DO_TEXT
            || reader->row->action == LLMB_DO_REASONING))
    {
        llmb_usage_text(reader, n - 2);
    }
}


/* The JSON of an event, or the document, is complete. */

void
llmb_usage_take(llmb_usage_reader_t *reader)
{
    reader->next_flags |= LLMB_NEXT_TAKEN;

    llmb_usage_merge(reader);

    if (reader->next_names & LLMB_NAME_TEXT) {
        llmb_usage_text(reader, reader->next_delta);
    }

    if (reader->next_names & LLMB_NAME_ITEM) {
        reader->searches_done += reader->next_searches;

    } else if (reader->next_flags & LLMB_NEXT_ITEMS) {
        reader->searches_listed = reader->next_searches;
    }

    if (reader->framing == LLMB_FRAMING_DOCUMENT) {
        reader->seen |= LLMB_SEEN_FINAL;

        if (reader->next_names & LLMB_NAME_PENDING) {
            reader->seen |= LLMB_SEEN_PENDING;
        }

    } else if (reader->next_names & LLMB_NAME_FINAL) {
        reader->seen |= LLMB_SEEN_FINAL;
    }
}


/* Per field the last present value wins (T10, T11); absent is not zero. */

static void
llmb_usage_merge(llmb_usage_reader_t *reader)
{
    unsigned       i, bit;
    llmb_usage_t  *next, *usage;

    next = &reader->next;
    usage = &reader->usage;

    for (i = 0; i < LLMB_USAGE_FIELDS; i++) {
        bit = llmb_usage_bit(i);

        if (!(next->counts.present & bit)) {
            continue;
        }

        if (next->counts.n[i] < usage->counts.n[i]) {
            usage->flags |= LLMB_USAGE_DECREASED;
        }

        usage->counts.n[i] = next->counts.n[i];
        usage->counts.present |= bit;
    }

    if (next->counts.present & ~llmb_usage_bit(LLMB_USAGE_SEARCHES)) {
        reader->seen |= LLMB_SEEN_USAGE;
    }

    if (next->counts.present & llmb_usage_bit(LLMB_USAGE_OUTPUT)) {
        reader->told_deltas = reader->content_deltas;
    }

    reader->bad &= ~next->counts.present;
    reader->bad |= reader->next_bad;
    usage->flags |= next->flags;

    if (next->model_len) {
        usage->model_len = next->model_len;
        memcpy(usage->model, next->model, next->model_len);
    }

    if (next->tier_len) {
        usage->tier_len = next->tier_len;
        memcpy(usage->tier, next->tier, next->tier_len);
    }

    if (reader->next_split.listed) {
        reader->split = reader->next_split;
        usage->n_extra = next->n_extra;
        memcpy(usage->extra, next->extra, sizeof(usage->extra));
    }
}


/*
 * Applies the samplings to the top level counts (trap 2): those are at least
 * the sum of what is inside them, and what another model did is taken out.
 */

static void
llmb_usage_split(const llmb_usage_reader_t *reader, llmb_usage_t *usage)
{
    unsigned                   i, k, inside;
    llmb_usage_counts_t       *counts;
    const llmb_usage_split_t  *split;
    const llmb_usage_extra_t  *extra;

    split = &reader->split;
    counts = &usage->counts;
    usage->n_extra = 0;

    for (i = 0; i < LLMB_USAGE_FIELDS; i++) {

        if (counts->n[i] < split->sum.n[i]) {
            counts->n[i] = split->sum.n[i];
        }
    }

    counts->present |= split->sum.present;

    for (k = 0; k < reader->usage.n_extra; k++) {
        extra = &reader->usage.extra[k];
        inside = split->inside & llmb_usage_bit(k);

        if (inside && extra->model_len == usage->model_len
            && memcmp(extra->model, usage->model, usage->model_len) == 0)
        {
            continue;
        }

        for (i = 0; inside && i < LLMB_USAGE_FIELDS; i++) {
            counts->n[i] -= (counts->n[i] < extra->counts.n[i])
                            ? counts->n[i] : extra->counts.n[i];
        }

        usage->extra[usage->n_extra++] = *extra;
    }

    llmb_usage_plus(counts, &split->rest);
}


/* Adds counts field by field; what would overflow stays at the greatest. */

void
llmb_usage_plus(llmb_usage_counts_t *to, const llmb_usage_counts_t *counts)
{
    unsigned  i;

    for (i = 0; i < LLMB_USAGE_FIELDS; i++) {
        to->n[i] = (to->n[i] > LLMB_USAGE_SUM_MAX - counts->n[i])
                   ? LLMB_USAGE_SUM_MAX : to->n[i] + counts->n[i];
    }

    to->present |= counts->present;
}
