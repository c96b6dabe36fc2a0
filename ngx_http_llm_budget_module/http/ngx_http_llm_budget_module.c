
/*
 * Copyright (C) the ngx_http_llm_budget_module authors
 *
 * The module: its directives and its places in nginx's phases and filters.
 */


#include "http/ngx_http_llm_budget_access.h"
#include "http/ngx_http_llm_budget_api.h"
#include "http/ngx_http_llm_budget_body.h"
#include "http/ngx_http_llm_budget_conf.h"
#include "http/ngx_http_llm_budget_filter.h"
#include "http/ngx_http_llm_budget_log.h"
#include "http/ngx_http_llm_budget_settle.h"
#include "http/ngx_http_llm_budget_store.h"
#include "http/ngx_http_llm_budget_variables.h"


static ngx_int_t ngx_http_llm_budget_init(ngx_conf_t *cf);
static ngx_int_t ngx_http_llm_budget_first(ngx_array_t *handlers,
    ngx_http_handler_pt handler);
static ngx_int_t ngx_http_llm_budget_init_process(ngx_cycle_t *cycle);
static void ngx_http_llm_budget_exit_process(ngx_cycle_t *cycle);
static ngx_http_llm_budget_store_t *ngx_http_llm_budget_worker_store(
    ngx_cycle_t *cycle);


static ngx_conf_num_bounds_t  ngx_http_llm_budget_status_bounds = {
    ngx_conf_check_num_bounds, 400, 599
};


static ngx_conf_post_t  ngx_http_llm_budget_timeout_post = {
    ngx_http_llm_budget_check_timeout
};

static ngx_conf_post_t  ngx_http_llm_budget_body_post = {
    ngx_http_llm_budget_check_body
};


static ngx_command_t  ngx_http_llm_budget_commands[] = {

    { ngx_string("llm_budget_zone"),
      NGX_HTTP_MAIN_CONF|NGX_CONF_TAKE2,
      ngx_http_llm_budget_zone,
      NGX_HTTP_MAIN_CONF_OFFSET,
      0,
      NULL },

    { ngx_string("llm_budget_redis"),
      NGX_HTTP_MAIN_CONF|NGX_CONF_1MORE,
      ngx_http_llm_budget_redis,
      NGX_HTTP_MAIN_CONF_OFFSET,
      0,
      NULL },

    { ngx_string("llm_budget_journal"),
      NGX_HTTP_MAIN_CONF|NGX_CONF_TAKE12,
      ngx_http_llm_budget_journal,
      NGX_HTTP_MAIN_CONF_OFFSET,
      0,
      NULL },

    { ngx_string("llm_budget_prices"),
      NGX_HTTP_MAIN_CONF|NGX_CONF_TAKE1,
      ngx_http_llm_budget_prices,
      NGX_HTTP_MAIN_CONF_OFFSET,
      0,
      NULL },

    { ngx_string("llm_budget_price_alias"),
      NGX_HTTP_MAIN_CONF|NGX_CONF_TAKE2,
      ngx_http_llm_budget_price_alias,
      NGX_HTTP_MAIN_CONF_OFFSET,
      0,
      NULL },

    { ngx_string("llm_budget_expire"),
      NGX_HTTP_MAIN_CONF|NGX_CONF_TAKE1,
      ngx_http_llm_budget_expire,
      NGX_HTTP_MAIN_CONF_OFFSET,
      0,
      NULL },

    { ngx_string("llm_budget_provider"),
      NGX_HTTP_MAIN_CONF|NGX_CONF_BLOCK|NGX_CONF_TAKE1,
      ngx_http_llm_budget_provider,
      NGX_HTTP_MAIN_CONF_OFFSET,
      0,
      NULL },

    { ngx_string("llm_budget"),
      NGX_HTTP_MAIN_CONF|NGX_HTTP_SRV_CONF|NGX_HTTP_LOC_CONF|NGX_CONF_FLAG,
      ngx_http_llm_budget_enable,
      NGX_HTTP_LOC_CONF_OFFSET,
      offsetof(ngx_http_llm_budget_loc_conf_t, enable),
      NULL },

    { ngx_string("llm_budget_key"),
      NGX_HTTP_MAIN_CONF|NGX_HTTP_SRV_CONF|NGX_HTTP_LOC_CONF|NGX_CONF_1MORE,
      ngx_http_llm_budget_key,
      NGX_HTTP_LOC_CONF_OFFSET,
      0,
      NULL },

    { ngx_string("llm_budget_limit"),
      NGX_HTTP_MAIN_CONF|NGX_HTTP_SRV_CONF|NGX_HTTP_LOC_CONF|NGX_CONF_2MORE,
      ngx_http_llm_budget_limit,
      NGX_HTTP_LOC_CONF_OFFSET,
      0,
      NULL },

    { ngx_string("llm_budget_degrade"),
      NGX_HTTP_MAIN_CONF|NGX_HTTP_SRV_CONF|NGX_HTTP_LOC_CONF|NGX_CONF_1MORE,
      ngx_http_llm_budget_degrade,
      NGX_HTTP_LOC_CONF_OFFSET,
      0,
      NULL },

    { ngx_string("llm_budget_endpoint"),
      NGX_HTTP_MAIN_CONF|NGX_HTTP_SRV_CONF|NGX_HTTP_LOC_CONF|NGX_CONF_TAKE3
                        |NGX_CONF_TAKE4,
      ngx_http_llm_budget_endpoint,
      NGX_HTTP_LOC_CONF_OFFSET,
      0,
      NULL },

    { ngx_string("llm_budget_pass"),
      NGX_HTTP_MAIN_CONF|NGX_HTTP_SRV_CONF|NGX_HTTP_LOC_CONF|NGX_CONF_TAKE1,
      ngx_http_llm_budget_pass,
      NGX_HTTP_LOC_CONF_OFFSET,
      0,
      NULL },

    { ngx_string("llm_budget_store"),
      NGX_HTTP_MAIN_CONF|NGX_HTTP_SRV_CONF|NGX_HTTP_LOC_CONF|NGX_CONF_TAKE1,
      ngx_http_llm_budget_store,
      NGX_HTTP_LOC_CONF_OFFSET,
      0,
      NULL },

    { ngx_string("llm_budget_redis_tag"),
      NGX_HTTP_MAIN_CONF|NGX_HTTP_SRV_CONF|NGX_HTTP_LOC_CONF|NGX_CONF_TAKE1,
      ngx_http_llm_budget_redis_tag,
      NGX_HTTP_LOC_CONF_OFFSET,
      0,
      NULL },

    { ngx_string("llm_budget_outage"),
      NGX_HTTP_MAIN_CONF|NGX_HTTP_SRV_CONF|NGX_HTTP_LOC_CONF|NGX_CONF_TAKE12,
      ngx_http_llm_budget_outage_conf,
      NGX_HTTP_LOC_CONF_OFFSET,
      0,
      NULL },

    { ngx_string("llm_budget_reserve"),
      NGX_HTTP_MAIN_CONF|NGX_HTTP_SRV_CONF|NGX_HTTP_LOC_CONF|NGX_CONF_TAKE123,
      ngx_http_llm_budget_reserve,
      NGX_HTTP_LOC_CONF_OFFSET,
      0,
      NULL },

    { ngx_string("llm_budget_clamp"),
      NGX_HTTP_MAIN_CONF|NGX_HTTP_SRV_CONF|NGX_HTTP_LOC_CONF|NGX_CONF_TAKE1,
      ngx_http_llm_budget_clamp,
      NGX_HTTP_LOC_CONF_OFFSET,
      0,
      NULL },

    { ngx_string("llm_budget_unknown_model"),
      NGX_HTTP_MAIN_CONF|NGX_HTTP_SRV_CONF|NGX_HTTP_LOC_CONF|NGX_CONF_TAKE1,
      ngx_http_llm_budget_unknown_model,
      NGX_HTTP_LOC_CONF_OFFSET,
      0,
      NULL },

    { ngx_string("llm_budget_inject_usage"),
      NGX_HTTP_MAIN_CONF|NGX_HTTP_SRV_CONF|NGX_HTTP_LOC_CONF|NGX_CONF_FLAG,
      ngx_conf_set_flag_slot,
      NGX_HTTP_LOC_CONF_OFFSET,
      offsetof(ngx_http_llm_budget_loc_conf_t, inject_usage),
      NULL },

    { ngx_string("llm_budget_status"),
      NGX_HTTP_MAIN_CONF|NGX_HTTP_SRV_CONF|NGX_HTTP_LOC_CONF|NGX_CONF_TAKE1,
      ngx_conf_set_num_slot,
      NGX_HTTP_LOC_CONF_OFFSET,
      offsetof(ngx_http_llm_budget_loc_conf_t, deny_status),
      &ngx_http_llm_budget_status_bounds },

    { ngx_string("llm_budget_show_amounts"),
      NGX_HTTP_MAIN_CONF|NGX_HTTP_SRV_CONF|NGX_HTTP_LOC_CONF|NGX_CONF_FLAG,
      ngx_conf_set_flag_slot,
      NGX_HTTP_LOC_CONF_OFFSET,
      offsetof(ngx_http_llm_budget_loc_conf_t, show_amounts),
      NULL },

    { ngx_string("llm_budget_hold_timeout"),
      NGX_HTTP_MAIN_CONF|NGX_HTTP_SRV_CONF|NGX_HTTP_LOC_CONF|NGX_CONF_TAKE1,
      ngx_conf_set_msec_slot,
      NGX_HTTP_LOC_CONF_OFFSET,
      offsetof(ngx_http_llm_budget_loc_conf_t, hold_timeout),
      &ngx_http_llm_budget_timeout_post },

    { ngx_string("llm_budget_max_body"),
      NGX_HTTP_MAIN_CONF|NGX_HTTP_SRV_CONF|NGX_HTTP_LOC_CONF|NGX_CONF_TAKE1,
      ngx_conf_set_size_slot,
      NGX_HTTP_LOC_CONF_OFFSET,
      offsetof(ngx_http_llm_budget_loc_conf_t, max_body),
      &ngx_http_llm_budget_body_post },

    { ngx_string("llm_budget_api"),
      NGX_HTTP_LOC_CONF|NGX_CONF_NOARGS,
      ngx_http_llm_budget_api,
      NGX_HTTP_LOC_CONF_OFFSET,
      0,
      NULL },

      ngx_null_command
};


static ngx_http_module_t  ngx_http_llm_budget_module_ctx = {
    ngx_http_llm_budget_add_variables,     /* preconfiguration */
    ngx_http_llm_budget_init,              /* postconfiguration */

    ngx_http_llm_budget_create_main_conf,  /* create main configuration */
    ngx_http_llm_budget_init_main_conf,    /* init main configuration */

    NULL,                                  /* create server configuration */
    NULL,                                  /* merge server configuration */

    ngx_http_llm_budget_create_loc_conf,   /* create location configuration */
    ngx_http_llm_budget_merge_loc_conf     /* merge location configuration */
};


ngx_module_t  ngx_http_llm_budget_module = {
    NGX_MODULE_V1,
    &ngx_http_llm_budget_module_ctx,       /* module context */
    ngx_http_llm_budget_commands,          /* module directives */
    NGX_HTTP_MODULE,                       /* module type */
    NULL,                                  /* init master */
    NULL,                                  /* init module */
    ngx_http_llm_budget_init_process,      /* init process */
    NULL,                                  /* init thread */
    NULL,                                  /* exit thread */
    ngx_http_llm_budget_exit_process,      /* exit process */
    NULL,                                  /* exit master */
    NGX_MODULE_V1_PADDING
};


/* the adapter between the two byte views relies on this */

typedef char  ngx_http_llm_budget_view_check
    [(sizeof(ngx_str_t) == sizeof(llmb_str_t)
      && offsetof(ngx_str_t, len) == offsetof(llmb_str_t, len)
      && offsetof(ngx_str_t, data) == offsetof(llmb_str_t, data)) ? 1 : -1];


static ngx_int_t
ngx_http_llm_budget_init(ngx_conf_t *cf)
{
    ngx_http_handler_pt              *h;
    ngx_http_core_main_conf_t        *cmcf;
    ngx_http_llm_budget_main_conf_t  *lmcf;

    lmcf = ngx_http_conf_get_module_main_conf(cf, ngx_http_llm_budget_module);

    if (!lmcf->used) {
        return NGX_OK;
    }

    cmcf = ngx_http_conf_get_module_main_conf(cf, ngx_http_core_module);

    /*
     * Handlers of a phase run from the last to the first: the first place of
     * the access phase is after auth_* and deny (NGINX.md 1.3).  Log handlers
     * run from the first to the last: the first place is before access_log.
     */

    if (ngx_http_llm_budget_first(&cmcf->phases[NGX_HTTP_ACCESS_PHASE].handlers,
                                  ngx_http_llm_budget_access_handler)
        != NGX_OK)
    {
        return NGX_ERROR;
    }

    h = ngx_array_push(&cmcf->phases[NGX_HTTP_PRECONTENT_PHASE].handlers);
    if (h == NULL) {
        return NGX_ERROR;
    }

    *h = ngx_http_llm_budget_guard_handler;

    if (ngx_http_llm_budget_first(&cmcf->phases[NGX_HTTP_LOG_PHASE].handlers,
                                  ngx_http_llm_budget_log_handler)
        != NGX_OK)
    {
        return NGX_ERROR;
    }

    ngx_http_llm_budget_body_init();
    ngx_http_llm_budget_filter_init();

    return NGX_OK;
}


static ngx_int_t
ngx_http_llm_budget_first(ngx_array_t *handlers, ngx_http_handler_pt handler)
{
    ngx_http_handler_pt  *h;

    h = ngx_array_push(handlers);
    if (h == NULL) {
        return NGX_ERROR;
    }

    h = handlers->elts;

    ngx_memmove(&h[1], &h[0],
                (handlers->nelts - 1) * sizeof(ngx_http_handler_pt));

    h[0] = handler;

    return NGX_OK;
}


static ngx_int_t
ngx_http_llm_budget_init_process(ngx_cycle_t *cycle)
{
    ngx_http_llm_budget_store_t  *store;

    store = ngx_http_llm_budget_worker_store(cycle);

    return store ? store->init(store->data, cycle) : NGX_OK;
}


/*
 * A worker that was told to stop at once never logs its requests: their holds
 * are closed here, and what no store could be told goes to the journal.
 */

static void
ngx_http_llm_budget_exit_process(ngx_cycle_t *cycle)
{
    ngx_http_llm_budget_store_t  *store;

    if (ngx_process != NGX_PROCESS_WORKER && ngx_process != NGX_PROCESS_SINGLE)
    {
        return;
    }

    ngx_http_llm_budget_close_all();

    store = ngx_http_llm_budget_worker_store(cycle);

    if (store) {
        store->exit(store->data);
    }
}


/* a store with a life in this process; the cache manager has none */

static ngx_http_llm_budget_store_t *
ngx_http_llm_budget_worker_store(ngx_cycle_t *cycle)
{
    ngx_http_llm_budget_main_conf_t  *lmcf;

    if (ngx_process != NGX_PROCESS_WORKER && ngx_process != NGX_PROCESS_SINGLE)
    {
        return NULL;
    }

    if (cycle->conf_ctx[ngx_http_module.index] == NULL) {

        /* no http block */

        return NULL;
    }

    lmcf = ngx_http_cycle_get_module_main_conf(cycle,
                                               ngx_http_llm_budget_module);

    return (lmcf->redis && lmcf->used) ? lmcf->redis : NULL;
}
