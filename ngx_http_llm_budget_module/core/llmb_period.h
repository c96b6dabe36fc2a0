
/*
 * Copyright (C) the ngx_http_llm_budget_module authors
 *
 * Budget periods: a time gives the id of the period it lies in, and the
 * period's edges.  The id is part of the account's name, so there is no reset
 * job (T29).  UTC; the proleptic Gregorian calendar; weeks start on Monday.
 */


#ifndef _NGX_HTTP_LLM_BUDGET_LLMB_PERIOD_H_INCLUDED_
#define _NGX_HTTP_LLM_BUDGET_LLMB_PERIOD_H_INCLUDED_


#include "core/llmb.h"


typedef enum {
    LLMB_PERIOD_MINUTE = 0,
    LLMB_PERIOD_HOUR,
    LLMB_PERIOD_DAY,
    LLMB_PERIOD_WEEK,
    LLMB_PERIOD_MONTH,
    LLMB_PERIOD_YEAR,
    LLMB_PERIOD_LIFETIME
} llmb_period_e;


/* longest id, and an RFC 3339 time "2026-12-01T00:00:00Z" */
#define LLMB_PERIOD_ID_LEN      24
#define LLMB_PERIOD_TIME_LEN    20


typedef struct {
    size_t                  id_len;
    unsigned char           id[LLMB_PERIOD_ID_LEN];
    int64_t                 start_ms;   /* inclusive, ms since the epoch */
    int64_t                 end_ms;     /* exclusive; INT64_MAX: lifetime */
} llmb_period_t;


/* "minute", "hour", "day", "week", "month", "year", "lifetime" */
llmb_rc_e llmb_period_parse(const llmb_str_t *text, llmb_period_e *kind);

const char *llmb_period_name(llmb_period_e kind);

/*
 * now_ms is between 0 and the end of the year 9999, else LLMB_INVALID.  Ids:
 * "2026-11-20T16:25", "2026-11-20T16", "2026-11-20", "2026-W47" (ISO week and
 * ISO week year), "2026-11", "2026", "lifetime".  The first week, 1970-W01,
 * starts before the epoch; the last one ends after the year 9999.
 */
llmb_rc_e llmb_period_at(llmb_period_e kind, int64_t now_ms,
    llmb_period_t *period);

/*
 * RFC 3339 in UTC, whole seconds; buf holds LLMB_PERIOD_TIME_LEN bytes, and
 * the length is always that.  A time outside the years 0 - 9999, as the end
 * of "lifetime", is written as the nearest one inside.
 */
size_t llmb_period_format(unsigned char *buf, int64_t time_ms);


#endif /* _NGX_HTTP_LLM_BUDGET_LLMB_PERIOD_H_INCLUDED_ */
