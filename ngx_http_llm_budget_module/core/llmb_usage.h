
/*
 * Copyright (C) the ngx_http_llm_budget_module authors
 *
 * Usage: what a provider reports, in the normal form (wire-formats.md
 * section 1), and the reader that finds it in an answer fed in pieces of any
 * size.  Constant memory, no allocation; the answer may be JSON or an event
 * stream, told apart by its first byte (wire-formats.md 5.1).
 */


#ifndef _NGX_HTTP_LLM_BUDGET_LLMB_USAGE_H_INCLUDED_
#define _NGX_HTTP_LLM_BUDGET_LLMB_USAGE_H_INCLUDED_


#include "core/llmb_json.h"
#include "core/llmb_sse.h"


/* samplings of other models inside one answer (trap 2) that are kept apart;
   the counts of further ones are added to the main record and flagged */
#define LLMB_USAGE_EXTRA        8


/* a field of a record */

typedef enum {
    LLMB_USAGE_INPUT = 0,       /* all input, cache reads, writes included */
    LLMB_USAGE_CACHED_READ,     /* part of input */
    LLMB_USAGE_CACHE_WRITE,     /* part of input: all writes */
    LLMB_USAGE_CACHE_WRITE_5M,  /* part of cache write */
    LLMB_USAGE_CACHE_WRITE_1H,  /* part of cache write */
    LLMB_USAGE_OUTPUT,          /* all output, reasoning included */
    LLMB_USAGE_REASONING,       /* part of output, information only */
    LLMB_USAGE_AUDIO_INPUT,     /* part of input */
    LLMB_USAGE_AUDIO_OUTPUT,    /* part of output */
    LLMB_USAGE_TOTAL,           /* the provider's own total */
    LLMB_USAGE_SEARCHES,        /* web searches, priced per call */
    LLMB_USAGE_FIELDS
} llmb_usage_field_e;


typedef struct {
    int64_t                 n[LLMB_USAGE_FIELDS];   /* 0 if not present */
    unsigned                present;    /* bit per field: a valid number */
} llmb_usage_counts_t;


/* why a record is not to be trusted as it stands */

#define LLMB_USAGE_BAD_VALUE    0x01    /* a count of a wrong type, negative,
                                           a fraction or absurd (T59) */
#define LLMB_USAGE_CLAMPED      0x02    /* parts exceeded their whole
                                           (trap 1) */
#define LLMB_USAGE_SURPLUS      0x04    /* total exceeded the parts: added to
                                           output or input (trap 4) */
#define LLMB_USAGE_DECREASED    0x08    /* a later value was smaller (T11) */
#define LLMB_USAGE_CROWDED      0x10    /* over LLMB_USAGE_EXTRA samplings */
#define LLMB_USAGE_BROKEN       0x20    /* an event or body was not JSON */


typedef struct {
    llmb_usage_counts_t     counts;
    size_t                  model_len;  /* 0: the request's model */
    unsigned char           model[LLMB_MODEL_LEN];
} llmb_usage_extra_t;


/* the normal form of one answer; see llmb_usage_result() */

typedef struct {
    llmb_usage_counts_t     counts;     /* CACHE_WRITE == _5M + _1H, if any */
    unsigned                flags;

    size_t                  model_len;  /* model that served; 0: not said */
    unsigned char           model[LLMB_MODEL_LEN];

    size_t                  tier_len;   /* service tier that served */
    unsigned char           tier[LLMB_TIER_LEN];

    unsigned                n_extra;    /* not included in counts */
    llmb_usage_extra_t      extra[LLMB_USAGE_EXTRA];
} llmb_usage_t;


/* what the reader has seen so far; sticky bits */

#define LLMB_SEEN_STREAM        0x01    /* it is an event stream */
#define LLMB_SEEN_CONTENT       0x02    /* some generated content */
#define LLMB_SEEN_USAGE         0x04    /* a usage object with a number in it */
#define LLMB_SEEN_FINAL         0x08    /* nothing that changes usage follows:
                                           [DONE], message_stop, a terminal
                                           response event, or the end of a JSON
                                           document */
#define LLMB_SEEN_ERROR         0x10    /* an error object or event (T44) */
#define LLMB_SEEN_PENDING       0x20    /* a promise, not an answer: queued or
                                           in progress (trap 9) */


/* what the last event was; see llmb_usage_feed() */

typedef enum {
    LLMB_EVENT_NONE = 0,        /* no event ended */
    LLMB_EVENT_OTHER,
    LLMB_EVENT_USAGE_ONLY       /* a chat or completions chunk with a usage
                                   object and empty choices (T09) */
} llmb_event_e;


typedef struct llmb_usage_dialect_s  llmb_usage_dialect_t;

struct llmb_usage_row_s;                /* private */


/*
 * The samplings listed inside a usage object (private).  Those inside the
 * top level counts are summed, since the sum may be the larger of the two.
 */

typedef struct {
    unsigned                listed;     /* there was a list */
    unsigned                inside;     /* bit per extra: counted on top, too */
    unsigned                bad;        /* a count in it is bad */
    llmb_usage_counts_t     sum;        /* of all that are inside */
    llmb_usage_counts_t     rest;       /* outside, but no extra was left */
} llmb_usage_split_t;


typedef struct {
    const llmb_usage_dialect_t  *dialect;

    unsigned                seen;
    llmb_event_e            event;

    /*
     * While an event is open: 1 once it is certain that it is not a
     * usage-only chunk (choices not empty, other data), so that whoever holds
     * it back may let it go.
     */
    unsigned                event_plain;

    /* decoded bytes of generated text, tool arguments and reasoning, and the
       number of deltas that carried some: for partial estimates (T47) */
    uint64_t                content_bytes;
    uint64_t                content_deltas;

    /* content_deltas when an output count last came: where nothing was
       generated since, that count needs no estimate (T04) */
    uint64_t                told_deltas;

    llmb_usage_t            usage;      /* raw, as merged so far */

    /* private: as merged so far */
    llmb_usage_split_t      split;
    unsigned                bad;        /* bit per field: last value was bad */
    int64_t                 searches_done;
    int64_t                 searches_listed;

    /* private: of the stream or document */
    unsigned                framing;
    unsigned                bom;
    unsigned                ended;
    llmb_sse_t              sse;
    llmb_json_t             json;

    /* private: of the open event, taken over when its JSON is complete */
    llmb_usage_t            next;
    llmb_usage_split_t      next_split;
    unsigned                next_bad;
    unsigned                next_names;
    unsigned                next_flags;
    int64_t                 next_searches;
    uint64_t                next_delta;
    uint64_t                next_reasoning;

    /* private: where the scanner is */
    const struct llmb_usage_row_s  *row;
    unsigned                in_sampling;
    unsigned                sampling_inside;
    llmb_usage_extra_t      sampling;
    uint64_t                mark;       /* where the last key or raw began */
    unsigned                skip_depth;
    unsigned                head_len;
    unsigned char           head[8];
    unsigned char           path[LLMB_ANSWER_DEPTH + 1];
} llmb_usage_reader_t;


void llmb_usage_init(llmb_usage_reader_t *reader, llmb_dialect_e dialect);

/*
 * Feeds answer bytes (identity encoding).  Consumes all of them, or, in an
 * event stream, up to the end of the next event; returns the number consumed
 * and sets reader->event.  Never fails: what cannot be read sets
 * LLMB_USAGE_BROKEN and reading goes on with the next event.
 */
size_t llmb_usage_feed(llmb_usage_reader_t *reader, const unsigned char *p,
    size_t len);

/* The answer ended (cleanly or not); the last open event is looked at. */
void llmb_usage_end(llmb_usage_reader_t *reader);

/*
 * The record so far in the normal form: per field the last present value
 * (T10, T11), dialect conventions folded in (T13), clamps and surplus
 * applied (traps 1, 4), other samplings as extras (trap 2).  cache_1h: the
 * request asked for one-hour cache writes, so writes without a breakdown are
 * 1h (T14).  LLMB_OK, or LLMB_DECLINED when there is no usage to charge:
 * none seen, or input or output is missing or bad where the dialect needs it
 * (then charge by policy, T59).
 */
llmb_rc_e llmb_usage_result(const llmb_usage_reader_t *reader,
    unsigned cache_1h, llmb_usage_t *usage);


#endif /* _NGX_HTTP_LLM_BUDGET_LLMB_USAGE_H_INCLUDED_ */
