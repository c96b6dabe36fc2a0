
/*
 * Copyright (C) the ngx_http_llm_budget_module authors
 *
 * What every store shares: the clock.
 */


#include "http/ngx_http_llm_budget_store.h"


int64_t
ngx_http_llm_budget_now(void)
{
    ngx_time_t  *tp;

    tp = ngx_timeofday();

    return (int64_t) tp->sec * 1000 + (int64_t) tp->msec;
}
