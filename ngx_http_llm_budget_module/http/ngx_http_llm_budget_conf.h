
/*
 * Copyright (C) the ngx_http_llm_budget_module authors
 *
 * Configuration: creation, merging, checks and directive setters.
 */


#ifndef _NGX_HTTP_LLM_BUDGET_CONF_H_INCLUDED_
#define _NGX_HTTP_LLM_BUDGET_CONF_H_INCLUDED_


#include "http/ngx_http_llm_budget.h"


void *ngx_http_llm_budget_create_main_conf(ngx_conf_t *cf);
char *ngx_http_llm_budget_init_main_conf(ngx_conf_t *cf, void *conf);
void *ngx_http_llm_budget_create_loc_conf(ngx_conf_t *cf);
char *ngx_http_llm_budget_merge_loc_conf(ngx_conf_t *cf, void *parent,
    void *child);

char *ngx_http_llm_budget_enable(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);
char *ngx_http_llm_budget_zone(ngx_conf_t *cf, ngx_command_t *cmd, void *conf);
char *ngx_http_llm_budget_prices(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);
char *ngx_http_llm_budget_price_alias(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);
char *ngx_http_llm_budget_expire(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);
char *ngx_http_llm_budget_provider(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);
char *ngx_http_llm_budget_key(ngx_conf_t *cf, ngx_command_t *cmd, void *conf);
char *ngx_http_llm_budget_endpoint(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);
char *ngx_http_llm_budget_pass(ngx_conf_t *cf, ngx_command_t *cmd, void *conf);
char *ngx_http_llm_budget_reserve(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);
char *ngx_http_llm_budget_unknown_model(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);
char *ngx_http_llm_budget_clamp(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);

/* llm_budget_redis, ..._journal, ..._store, ..._outage and ..._redis_tag */
char *ngx_http_llm_budget_redis(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);
char *ngx_http_llm_budget_journal(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);
char *ngx_http_llm_budget_store(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);
char *ngx_http_llm_budget_outage_conf(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);
char *ngx_http_llm_budget_redis_tag(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);

/* The parts of creating, merging and checking that are about stores. */
ngx_int_t ngx_http_llm_budget_init_store(ngx_conf_t *cf,
    ngx_http_llm_budget_main_conf_t *lmcf);
void ngx_http_llm_budget_merge_store(ngx_http_llm_budget_loc_conf_t *prev,
    ngx_http_llm_budget_loc_conf_t *conf);
char *ngx_http_llm_budget_check_store(ngx_conf_t *cf,
    ngx_http_llm_budget_main_conf_t *lmcf,
    ngx_http_llm_budget_loc_conf_t *conf);

/* No budget of a location that serves is elsewhere in another one. */
char *ngx_http_llm_budget_check_places(ngx_conf_t *cf,
    ngx_http_llm_budget_main_conf_t *lmcf,
    ngx_http_llm_budget_loc_conf_t *conf);

/* The store of a location, metered or not; NULL: there is none. */
ngx_http_llm_budget_store_t *ngx_http_llm_budget_store_of(
    ngx_http_llm_budget_main_conf_t *lmcf,
    ngx_http_llm_budget_loc_conf_t *llcf);

/* llm_budget_limit and llm_budget_degrade */
char *ngx_http_llm_budget_limit(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);
char *ngx_http_llm_budget_degrade(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);

/* post handlers of llm_budget_hold_timeout and llm_budget_max_body */
char *ngx_http_llm_budget_check_timeout(ngx_conf_t *cf, void *post,
    void *data);
char *ngx_http_llm_budget_check_body(ngx_conf_t *cf, void *post, void *data);

/* The place of the directive being read; NULL: no memory. */
ngx_http_llm_budget_place_t *ngx_http_llm_budget_place(ngx_conf_t *cf);

/* Logs as ngx_conf_log_error() does, but with the place given, or none. */
void ngx_cdecl ngx_http_llm_budget_place_error(ngx_uint_t level,
    ngx_conf_t *cf, ngx_http_llm_budget_place_t *place, const char *fmt, ...);

/* Checks a location of llm_budget_api before its merge. */
char *ngx_http_llm_budget_check_api(ngx_conf_t *cf,
    ngx_http_llm_budget_loc_conf_t *conf);

/* Checks a metered location after its merge; makes a zone if there is none. */
char *ngx_http_llm_budget_check_loc(ngx_conf_t *cf,
    ngx_http_llm_budget_main_conf_t *lmcf,
    ngx_http_llm_budget_loc_conf_t *conf);

/* Text with variables, compiled into cv.  NGX_OK or NGX_ERROR. */
ngx_int_t ngx_http_llm_budget_compile(ngx_conf_t *cf, ngx_str_t *text,
    ngx_http_complex_value_t *cv);

/*
 * The provider with that name, or, if text is a URL, one made for it without
 * a credential; NULL after an error was logged.
 */
ngx_http_llm_budget_provider_t *ngx_http_llm_budget_provider_find(
    ngx_conf_t *cf, ngx_str_t *text);


#endif /* _NGX_HTTP_LLM_BUDGET_CONF_H_INCLUDED_ */
