
/*
 * Copyright (C) the ngx_http_llm_budget_module authors
 *
 * llm_budget_prices and llm_budget_price_alias.
 */


#include "http/ngx_http_llm_budget_conf.h"
#include "http/ngx_http_llm_budget_identity.h"

#include "core/llmb_price_file.h"


/* no price may move by more than this factor on reload (T56) */
#define NGX_HTTP_LLM_BUDGET_PRICE_JUMP  10


static char *ngx_http_llm_budget_prices_load(ngx_conf_t *cf, ngx_str_t *name,
    ngx_str_t *text);
static void *ngx_http_llm_budget_prices_alloc(void *data, size_t size);
static char *ngx_http_llm_budget_prices_compare(ngx_conf_t *cf,
    llmb_price_table_t *prices);
static ngx_int_t ngx_http_llm_budget_row_compare(ngx_conf_t *cf,
    const llmb_price_t *was, const llmb_price_t *is,
    const llmb_price_row_t *row);
static ngx_uint_t ngx_http_llm_budget_price_jumped(int64_t was, int64_t is);


char *
ngx_http_llm_budget_prices(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    ngx_http_llm_budget_main_conf_t  *lmcf = conf;

    char                             *rv;
    ngx_str_t                        *value, text;
    llmb_price_error_t                error;

    if (lmcf->prices_file.data) {
        return "is duplicate";
    }

    value = cf->args->elts;
    lmcf->prices_file = value[1];

    if (ngx_conf_full_name(cf->cycle, &lmcf->prices_file, 1) != NGX_OK) {
        return NGX_CONF_ERROR;
    }

    rv = ngx_http_llm_budget_prices_load(cf, &lmcf->prices_file, &text);
    if (rv != NGX_CONF_OK) {
        return rv;
    }

    ngx_memzero(&error, sizeof(llmb_price_error_t));

    if (llmb_price_file_read(&lmcf->prices, ngx_http_llm_budget_view(&text),
                             ngx_http_llm_budget_prices_alloc, cf->pool,
                             &error)
        != LLMB_OK)
    {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "llm_budget: prices \"%V\":%d: %s",
                           &lmcf->prices_file, error.line,
                           error.text[0] ? error.text : "no memory");
        return NGX_CONF_ERROR;
    }

    if (error.text[0]) {
        ngx_conf_log_error(NGX_LOG_WARN, cf, 0,
                           "llm_budget: prices \"%V\": %s",
                           &lmcf->prices_file, error.text);
    }

    if (ngx_http_llm_budget_sha256(lmcf->prices.version, text.data, text.len)
        != NGX_OK)
    {
        return NGX_CONF_ERROR;
    }

    ngx_pfree(cf->pool, text.data);

    ngx_log_debug2(NGX_LOG_DEBUG_CORE, cf->log, 0,
                   "llm_budget: %ui models priced, %ui not metered",
                   (ngx_uint_t) lmcf->prices.n,
                   (ngx_uint_t) lmcf->prices.not_metered);

    return ngx_http_llm_budget_prices_compare(cf, &lmcf->prices);
}


static char *
ngx_http_llm_budget_prices_load(ngx_conf_t *cf, ngx_str_t *name,
    ngx_str_t *text)
{
    off_t            size;
    char            *rv;
    ssize_t          n;
    ngx_file_t       file;
    ngx_file_info_t  fi;

    ngx_memzero(&file, sizeof(ngx_file_t));

    file.name = *name;
    file.log = cf->log;
    file.fd = ngx_open_file(name->data, NGX_FILE_RDONLY, NGX_FILE_OPEN, 0);

    if (file.fd == NGX_INVALID_FILE) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, ngx_errno,
                           ngx_open_file_n " \"%V\" failed", name);
        return NGX_CONF_ERROR;
    }

    rv = NGX_CONF_ERROR;

    if (ngx_fd_info(file.fd, &fi) == NGX_FILE_ERROR) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, ngx_errno,
                           ngx_fd_info_n " \"%V\" failed", name);
        goto done;
    }

    size = ngx_file_size(&fi);

    if (size > LLMB_PRICE_FILE_MAX) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "llm_budget: prices \"%V\" are larger than %d "
                           "bytes", name, LLMB_PRICE_FILE_MAX);
        goto done;
    }

    text->data = ngx_palloc(cf->pool, (size_t) size + 1);
    if (text->data == NULL) {
        goto done;
    }

    n = ngx_read_file(&file, text->data, (size_t) size, 0);

    if (n == NGX_ERROR || (off_t) n != size) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, ngx_errno,
                           ngx_read_file_n " \"%V\" failed", name);
        goto done;
    }

    text->len = (size_t) n;
    rv = NGX_CONF_OK;

done:

    if (ngx_close_file(file.fd) == NGX_FILE_ERROR) {
        ngx_conf_log_error(NGX_LOG_ALERT, cf, ngx_errno,
                           ngx_close_file_n " \"%V\" failed", name);
    }

    return rv;
}


static void *
ngx_http_llm_budget_prices_alloc(void *data, size_t size)
{
    return ngx_pcalloc(data, size);
}


/*
 * A reload must not move a price by a factor of ten or across zero: that is a
 * typing error or a broken download.  Whoever means it restarts nginx.
 */

static char *
ngx_http_llm_budget_prices_compare(ngx_conf_t *cf, llmb_price_table_t *prices)
{
    ngx_uint_t                        i, k;
    const llmb_price_t               *was, *is;
    ngx_http_llm_budget_main_conf_t  *old;

    if (cf->cycle->old_cycle == NULL
        || ngx_is_init_cycle(cf->cycle->old_cycle)
        || cf->cycle->old_cycle->conf_ctx[ngx_http_module.index] == NULL)
    {
        return NGX_CONF_OK;
    }

    /* loaded by this reload, the old arrays have no place for us */

    for (i = 0; cf->cycle->old_cycle->modules[i]; i++) {
        if (cf->cycle->old_cycle->modules[i] == &ngx_http_llm_budget_module) {
            break;
        }
    }

    if (cf->cycle->old_cycle->modules[i] == NULL) {
        return NGX_CONF_OK;
    }

    old = ngx_http_cycle_get_module_main_conf(cf->cycle->old_cycle,
                                              ngx_http_llm_budget_module);

    if (old == NULL || old->prices.n == 0) {
        return NGX_CONF_OK;
    }

    for (i = 0; i < prices->n; i++) {

        is = &prices->prices[i];
        was = llmb_price_find(&old->prices, &is->name, NULL);

        if (was == NULL || was->name.len != is->name.len
            || ngx_memcmp(was->name.data, is->name.data, is->name.len) != 0)
        {
            continue;
        }

        for (k = 0; k < is->n_rows; k++) {
            if (ngx_http_llm_budget_row_compare(cf, was, is, &is->row[k])
                != NGX_OK)
            {
                return NGX_CONF_ERROR;
            }
        }
    }

    return NGX_CONF_OK;
}


static ngx_int_t
ngx_http_llm_budget_row_compare(ngx_conf_t *cf, const llmb_price_t *was,
    const llmb_price_t *is, const llmb_price_row_t *row)
{
    ngx_uint_t               i, k;
    const llmb_price_row_t  *old;

    static const char *const  names[] = {
        "input", "cached input", "cache write", "1h cache write", "output",
        "audio input", "audio output"
    };

    for (i = 0; i < was->n_rows; i++) {

        old = &was->row[i];

        if (old->tier != row->tier || old->above != row->above) {
            continue;
        }

        for (k = 0; k < LLMB_RATES; k++) {

            if (!ngx_http_llm_budget_price_jumped(old->rate[k], row->rate[k]))
            {
                continue;
            }

            ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                               "llm_budget: the %s price of \"%V\" would move "
                               "from %L to %L pico-USD per token, by more "
                               "than a factor of %d; correct the file, or "
                               "restart nginx if it is meant",
                               names[k],
                               ngx_http_llm_budget_unview(&is->name),
                               old->rate[k], row->rate[k],
                               NGX_HTTP_LLM_BUDGET_PRICE_JUMP);
            return NGX_ERROR;
        }
    }

    return NGX_OK;
}


static ngx_uint_t
ngx_http_llm_budget_price_jumped(int64_t was, int64_t is)
{
    if (was == is || was == LLMB_PRICE_NONE || is == LLMB_PRICE_NONE) {
        return 0;
    }

    if (was == 0 || is == 0) {
        return 1;
    }

    return is / NGX_HTTP_LLM_BUDGET_PRICE_JUMP > was
           || was / NGX_HTTP_LLM_BUDGET_PRICE_JUMP > is;
}


char *
ngx_http_llm_budget_price_alias(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    ngx_http_llm_budget_main_conf_t  *lmcf = conf;

    ngx_str_t                     *value;
    llmb_str_t                    *pair;
    ngx_uint_t                     i;
    ngx_http_llm_budget_place_t  **place;

    if (lmcf->aliases.elts == NULL
        && (ngx_array_init(&lmcf->aliases, cf->pool, 8, sizeof(llmb_str_t))
            != NGX_OK
            || ngx_array_init(&lmcf->alias_places, cf->pool, 4,
                              sizeof(ngx_http_llm_budget_place_t *))
               != NGX_OK))
    {
        return NGX_CONF_ERROR;
    }

    value = cf->args->elts;
    pair = lmcf->aliases.elts;

    for (i = 0; i < lmcf->aliases.nelts; i += 2) {
        if (pair[i].len == value[1].len
            && ngx_memcmp(pair[i].data, value[1].data, value[1].len) == 0)
        {
            ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                               "llm_budget: duplicate price alias \"%V\": "
                               "keep one of them", &value[1]);
            return NGX_CONF_ERROR;
        }
    }

    pair = ngx_array_push_n(&lmcf->aliases, 2);
    if (pair == NULL) {
        return NGX_CONF_ERROR;
    }

    pair[0] = *ngx_http_llm_budget_view(&value[1]);
    pair[1] = *ngx_http_llm_budget_view(&value[2]);

    place = ngx_array_push(&lmcf->alias_places);
    if (place == NULL) {
        return NGX_CONF_ERROR;
    }

    *place = ngx_http_llm_budget_place(cf);

    return *place ? NGX_CONF_OK : NGX_CONF_ERROR;
}
