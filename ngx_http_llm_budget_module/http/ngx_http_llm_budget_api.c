
/*
 * Copyright (C) the ngx_http_llm_budget_module authors
 *
 * The read endpoints: the ledger as JSON, copied in portions, so that the
 * zone is never locked while text is made of it.
 */


#include "http/ngx_http_llm_budget_api.h"
#include "http/ngx_http_llm_budget_conf.h"
#include "http/ngx_http_llm_budget_store.h"

#include "core/llmb_out.h"


/* accounts read under one lock, and at most in one answer */
#define NGX_HTTP_LLM_BUDGET_PORTION     256
#define NGX_HTTP_LLM_BUDGET_ACCOUNTS    100000

/* bytes of one account's JSON: the name escaped at worst, and the rest */
#define NGX_HTTP_LLM_BUDGET_ACCOUNT_LEN (12 * LLMB_LEDGER_NAME + 512)

#define NGX_HTTP_LLM_BUDGET_STAT_LEN    1024


static ngx_int_t ngx_http_llm_budget_api_handler(ngx_http_request_t *r);
static ngx_int_t ngx_http_llm_budget_api_ledger(ngx_http_request_t *r,
    ngx_http_llm_budget_store_t *store, ngx_chain_t **out, off_t *size);
static ngx_int_t ngx_http_llm_budget_api_accounts(ngx_http_request_t *r,
    ngx_http_llm_budget_store_t *store, llmb_out_t *text,
    ngx_chain_t ***ll, off_t *size);
static void ngx_http_llm_budget_api_stat(llmb_out_t *out,
    const llmb_ledger_stat_t *stat);
static void ngx_http_llm_budget_api_account(llmb_out_t *out,
    const llmb_ledger_account_t *account);
static ngx_int_t ngx_http_llm_budget_api_push(ngx_http_request_t *r,
    llmb_out_t *text, ngx_chain_t ***ll, off_t *size);


char *
ngx_http_llm_budget_api(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    ngx_http_llm_budget_loc_conf_t  *llcf = conf;

    ngx_http_core_loc_conf_t  *clcf;

    if (llcf->api) {
        return "is duplicate";
    }

    clcf = ngx_http_conf_get_module_loc_conf(cf, ngx_http_core_module);

    if (clcf->handler) {
        return "shares its location with another content handler, as of "
               "proxy_pass: give it a location of its own";
    }

    llcf->api_place = ngx_http_llm_budget_place(cf);
    if (llcf->api_place == NULL) {
        return NGX_CONF_ERROR;
    }

    /* a handler that comes after it, or "llm_budget on": seen at the merge */

    llcf->api = ngx_http_llm_budget_api_handler;
    clcf->handler = ngx_http_llm_budget_api_handler;

    return NGX_CONF_OK;
}


static ngx_int_t
ngx_http_llm_budget_api_handler(ngx_http_request_t *r)
{
    off_t                             size;
    ngx_int_t                         rc;
    ngx_chain_t                      *out;
    ngx_http_llm_budget_main_conf_t  *lmcf;

    if (!(r->method & (NGX_HTTP_GET|NGX_HTTP_HEAD))) {
        return NGX_HTTP_NOT_ALLOWED;
    }

    rc = ngx_http_discard_request_body(r);

    if (rc != NGX_OK) {
        return rc;
    }

    if (r->uri.len < sizeof("/ledger") - 1
        || ngx_memcmp(r->uri.data + r->uri.len - (sizeof("/ledger") - 1),
                      "/ledger", sizeof("/ledger") - 1)
           != 0)
    {
        return NGX_HTTP_NOT_FOUND;
    }

    lmcf = ngx_http_get_module_main_conf(r, ngx_http_llm_budget_module);

    if (lmcf->store == NULL) {
        return NGX_HTTP_NOT_FOUND;
    }

    if (ngx_http_llm_budget_api_ledger(r, lmcf->store, &out, &size)
        != NGX_OK)
    {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    r->headers_out.status = NGX_HTTP_OK;
    r->headers_out.content_length_n = size;
    ngx_str_set(&r->headers_out.content_type, "application/json");
    r->headers_out.content_type_len = r->headers_out.content_type.len;
    r->headers_out.content_type_lowcase = NULL;

    rc = ngx_http_send_header(r);

    if (rc == NGX_ERROR || rc > NGX_OK || r->header_only) {
        return rc;
    }

    return ngx_http_output_filter(r, out);
}


static ngx_int_t
ngx_http_llm_budget_api_ledger(ngx_http_request_t *r,
    ngx_http_llm_budget_store_t *store, ngx_chain_t **out, off_t *size)
{
    size_t               room;
    u_char              *p;
    llmb_out_t           text;
    ngx_chain_t         *cl, **ll;
    llmb_ledger_stat_t   stat;

    if (store->stat(store->data, ngx_http_llm_budget_now(), &stat) != NGX_OK) {
        return NGX_ERROR;
    }

    *out = NULL;
    *size = 0;
    ll = out;

    room = NGX_HTTP_LLM_BUDGET_STAT_LEN;

    p = ngx_pnalloc(r->pool, room);
    if (p == NULL) {
        return NGX_ERROR;
    }

    llmb_out_init(&text, p, room);
    ngx_http_llm_budget_api_stat(&text, &stat);

    if (ngx_http_llm_budget_api_push(r, &text, &ll, size) != NGX_OK
        || ngx_http_llm_budget_api_accounts(r, store, &text, &ll, size)
           != NGX_OK)
    {
        return NGX_ERROR;
    }

    p = ngx_pnalloc(r->pool, 4);
    if (p == NULL) {
        return NGX_ERROR;
    }

    llmb_out_init(&text, p, 4);
    llmb_out_text(&text, "]}\n");

    if (ngx_http_llm_budget_api_push(r, &text, &ll, size) != NGX_OK) {
        return NGX_ERROR;
    }

    for (cl = *out; cl->next; cl = cl->next) { /* void */ }

    cl->buf->last_buf = (r == r->main);
    cl->buf->last_in_chain = 1;

    return NGX_OK;
}


static ngx_int_t
ngx_http_llm_budget_api_accounts(ngx_http_request_t *r,
    ngx_http_llm_budget_store_t *store, llmb_out_t *text, ngx_chain_t ***ll,
    off_t *size)
{
    size_t                  room;
    u_char                 *p, *names;
    uint64_t                cursor;
    ngx_uint_t              i, n, total;
    llmb_ledger_account_t  *accounts;

    accounts = ngx_palloc(r->pool, NGX_HTTP_LLM_BUDGET_PORTION
                                   * (sizeof(llmb_ledger_account_t)
                                      + LLMB_LEDGER_NAME));
    if (accounts == NULL) {
        return NGX_ERROR;
    }

    names = (u_char *) &accounts[NGX_HTTP_LLM_BUDGET_PORTION];
    cursor = 0;

    for (total = 0; total < NGX_HTTP_LLM_BUDGET_ACCOUNTS; total += n) {

        if (store->walk(store->data, &cursor, accounts, names,
                        NGX_HTTP_LLM_BUDGET_PORTION, &n)
            != NGX_OK)
        {
            return NGX_ERROR;
        }

        if (n == 0) {
            break;
        }

        room = n * NGX_HTTP_LLM_BUDGET_ACCOUNT_LEN;

        p = ngx_palloc(r->pool, room);
        if (p == NULL) {
            return NGX_ERROR;
        }

        llmb_out_init(text, p, room);

        for (i = 0; i < n; i++) {
            if (total + i) {
                llmb_out_text(text, ",");
            }

            ngx_http_llm_budget_api_account(text, &accounts[i]);
        }

        if (ngx_http_llm_budget_api_push(r, text, ll, size) != NGX_OK) {
            return NGX_ERROR;
        }
    }

    return NGX_OK;
}


static void
ngx_http_llm_budget_api_stat(llmb_out_t *out, const llmb_ledger_stat_t *stat)
{
    ngx_uint_t  i;

    const struct {
        const char  *name;
        uint64_t     n;
    } counts[] = {
        { "pending", stat->pending },
        { "opened", stat->opened },
        { "posted", stat->posted },
        { "voided", stat->voided },
        { "expired", stat->expired },
        { "denied", stat->denied },
        { "full", stat->full },
        { "accounts", stat->accounts },
        { "accounts_max", stat->accounts_max },
        { "holds", stat->holds },
        { "holds_max", stat->holds_max },
        { "legs", stat->legs },
        { "legs_max", stat->legs_max }
    };

    llmb_out_text(out, "{\"stat\":{");

    for (i = 0; i < sizeof(counts) / sizeof(counts[0]); i++) {
        llmb_out_text(out, i ? ",\"" : "\"");
        llmb_out_text(out, counts[i].name);
        llmb_out_text(out, "\":");
        llmb_out_int(out, (int64_t) counts[i].n);
    }

    llmb_out_text(out, "},\"accounts\":[");
}


/* the name is "budget/unit/period id/key"; only the key may hold a slash */

static void
ngx_http_llm_budget_api_account(llmb_out_t *out,
    const llmb_ledger_account_t *account)
{
    u_char      *p, *last, *slash;
    llmb_str_t   part[4];
    ngx_uint_t   i;

    p = account->name.data;
    last = p + account->name.len;

    for (i = 0; i < 4; i++) {
        slash = (i < 3) ? ngx_strlchr(p, last, '/') : NULL;

        if (slash == NULL) {
            slash = last;
        }

        part[i].data = p;
        part[i].len = (size_t) (slash - p);

        p = (slash < last) ? slash + 1 : last;
    }

    llmb_out_text(out, "{\"name\":");
    llmb_out_json(out, &account->name);
    llmb_out_text(out, ",\"budget\":");
    llmb_out_json(out, &part[0]);
    llmb_out_text(out, ",\"key\":");
    llmb_out_json(out, &part[3]);
    llmb_out_text(out, ",\"unit\":\"");
    llmb_out_text(out, llmb_unit_name(account->unit));
    llmb_out_text(out, "\",\"period_id\":");
    llmb_out_json(out, &part[2]);
    llmb_out_text(out, ",\"limit\":");
    llmb_out_int(out, account->limit);
    llmb_out_text(out, ",\"spent\":");
    llmb_out_int(out, account->spent);
    llmb_out_text(out, ",\"held\":");
    llmb_out_int(out, account->held);
    if (account->unit == LLMB_UNIT_USD) {
        llmb_out_text(out, ",\"limit_usd\":\"");
        llmb_out_nusd(out, account->limit);
        llmb_out_text(out, "\",\"spent_usd\":\"");
        llmb_out_nusd(out, account->spent);
        llmb_out_text(out, "\",\"held_usd\":\"");
        llmb_out_nusd(out, account->held);
        llmb_out_text(out, "\"");
    }

    llmb_out_text(out, ",\"pending\":");
    llmb_out_int(out, (int64_t) account->pending);
    llmb_out_text(out, "}");
}


static ngx_int_t
ngx_http_llm_budget_api_push(ngx_http_request_t *r, llmb_out_t *text,
    ngx_chain_t ***ll, off_t *size)
{
    ngx_buf_t    *b;
    ngx_chain_t  *cl;

    if (text->full) {
        ngx_log_error(NGX_LOG_ALERT, r->connection->log, 0,
                      "llm_budget: an answer of the API did not fit");
        return NGX_ERROR;
    }

    b = ngx_calloc_buf(r->pool);
    if (b == NULL) {
        return NGX_ERROR;
    }

    cl = ngx_alloc_chain_link(r->pool);
    if (cl == NULL) {
        return NGX_ERROR;
    }

    b->pos = text->start;
    b->last = text->pos;
    b->memory = 1;

    cl->buf = b;
    cl->next = NULL;

    **ll = cl;
    *ll = &cl->next;

    *size += b->last - b->pos;

    return NGX_OK;
}
