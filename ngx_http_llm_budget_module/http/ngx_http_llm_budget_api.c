
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


/* an answer in the making: the store may have to be waited for */

typedef struct {
    ngx_http_request_t           *request;
    ngx_http_llm_budget_store_t  *store;
    ngx_http_llm_budget_read_t    read;
    u_char                        tag[NGX_HTTP_LLM_BUDGET_TAG_MAX];
    ngx_uint_t                    total;    /* accounts written */
    ngx_uint_t                    begun;    /* unsigned  begun:1; */
    off_t                         size;
    ngx_chain_t                  *out;
    ngx_chain_t                 **last;
} ngx_http_llm_budget_api_t;


static ngx_int_t ngx_http_llm_budget_api_handler(ngx_http_request_t *r);
static ngx_int_t ngx_http_llm_budget_api_wait(ngx_http_request_t *r);
static ngx_int_t ngx_http_llm_budget_api_ledger(
    ngx_http_llm_budget_api_t *api);
static void ngx_http_llm_budget_api_done(ngx_http_llm_budget_read_t *read,
    ngx_int_t rc);
static void ngx_http_llm_budget_api_cleanup(void *data);
static ngx_int_t ngx_http_llm_budget_api_portion(
    ngx_http_llm_budget_api_t *api);
static ngx_int_t ngx_http_llm_budget_api_send(ngx_http_llm_budget_api_t *api);
static void ngx_http_llm_budget_api_stat(llmb_out_t *out,
    const llmb_ledger_stat_t *stat);
static void ngx_http_llm_budget_api_account(llmb_out_t *out,
    const llmb_ledger_account_t *account);
static ngx_int_t ngx_http_llm_budget_api_push(ngx_http_llm_budget_api_t *api,
    llmb_out_t *text);


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
    ngx_int_t                         rc;
    ngx_str_t                         text;
    ngx_pool_cleanup_t               *cln;
    ngx_http_llm_budget_api_t        *api;
    ngx_http_llm_budget_loc_conf_t   *llcf;
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
    llcf = ngx_http_get_module_loc_conf(r, ngx_http_llm_budget_module);

    cln = ngx_pool_cleanup_add(r->pool, sizeof(ngx_http_llm_budget_api_t));
    if (cln == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    api = cln->data;
    ngx_memzero(api, sizeof(ngx_http_llm_budget_api_t));

    api->request = r;
    api->last = &api->out;
    api->store = ngx_http_llm_budget_store_of(lmcf, llcf);

    if (api->store == NULL || (api->store == lmcf->redis && !lmcf->used)) {
        return NGX_HTTP_NOT_FOUND;
    }

    ngx_str_null(&text);

    if (llcf->tag && ngx_http_complex_value(r, llcf->tag, &text) != NGX_OK) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    ngx_http_llm_budget_store_tag(api->tag, &text, &api->read.tag);

    api->read.pool = r->pool;
    api->read.max = NGX_HTTP_LLM_BUDGET_PORTION;
    api->read.done = ngx_http_llm_budget_api_done;
    api->read.data = api;
    api->read.account = ngx_palloc(r->pool, NGX_HTTP_LLM_BUDGET_PORTION
                                            * sizeof(llmb_ledger_account_t));
    if (api->read.account == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    cln->handler = ngx_http_llm_budget_api_cleanup;

    rc = ngx_http_llm_budget_api_ledger(api);

    return api->read.op ? ngx_http_llm_budget_api_wait(r) : rc;
}


/* a client that leaves ends it, and its end cancels the read */

static ngx_int_t
ngx_http_llm_budget_api_wait(ngx_http_request_t *r)
{
    ngx_event_t  *rev;

    rev = r->connection->read;

    if (!r->discard_body) {

        if (rev->ready) {
            ngx_post_event(rev, &ngx_posted_events);

        } else if (ngx_handle_read_event(rev, 0) != NGX_OK) {
            return NGX_HTTP_INTERNAL_SERVER_ERROR;
        }

        r->read_event_handler = ngx_http_test_reading;
    }

    r->main->count++;

    return NGX_DONE;
}


/* reads portions until the end; NGX_AGAIN: api_done() goes on */

static ngx_int_t
ngx_http_llm_budget_api_ledger(ngx_http_llm_budget_api_t *api)
{
    ngx_int_t  rc;

    do {
        rc = api->store->read(api->store->data, &api->read);

        if (rc == NGX_AGAIN) {
            return NGX_AGAIN;
        }

        if (rc != NGX_OK) {
            return NGX_HTTP_SERVICE_UNAVAILABLE;
        }

        rc = ngx_http_llm_budget_api_portion(api);

    } while (rc == NGX_AGAIN);

    return (rc == NGX_OK) ? ngx_http_llm_budget_api_send(api)
                          : NGX_HTTP_INTERNAL_SERVER_ERROR;
}


static void
ngx_http_llm_budget_api_done(ngx_http_llm_budget_read_t *read, ngx_int_t rc)
{
    ngx_connection_t           *c;
    ngx_http_request_t         *r;
    ngx_http_llm_budget_api_t  *api;

    api = read->data;
    r = api->request;
    c = r->connection;

    ngx_http_set_log_request(c->log, r);

    if (rc != NGX_OK) {
        rc = NGX_HTTP_SERVICE_UNAVAILABLE;

    } else {
        rc = ngx_http_llm_budget_api_portion(api);

        if (rc == NGX_AGAIN) {
            rc = ngx_http_llm_budget_api_ledger(api);

        } else {
            rc = (rc == NGX_OK) ? ngx_http_llm_budget_api_send(api)
                                : NGX_HTTP_INTERNAL_SERVER_ERROR;
        }
    }

    if (api->read.op) {
        return;
    }

    ngx_http_finalize_request(r, rc);
    ngx_http_run_posted_requests(c);
}


static void
ngx_http_llm_budget_api_cleanup(void *data)
{
    ngx_http_llm_budget_api_t  *api = data;

    if (api->read.op) {
        api->store->cancel_read(api->store->data, &api->read);
    }
}


/* the text of what was read; NGX_AGAIN: there is more */

static ngx_int_t
ngx_http_llm_budget_api_portion(ngx_http_llm_budget_api_t *api)
{
    size_t       room;
    u_char      *p;
    llmb_out_t   text;
    ngx_uint_t   i;

    room = NGX_HTTP_LLM_BUDGET_STAT_LEN
           + api->read.n * NGX_HTTP_LLM_BUDGET_ACCOUNT_LEN;

    p = ngx_palloc(api->request->pool, room);
    if (p == NULL) {
        return NGX_ERROR;
    }

    llmb_out_init(&text, p, room);

    if (!api->begun) {
        api->begun = 1;
        ngx_http_llm_budget_api_stat(&text, &api->read.stat);
    }

    for (i = 0; i < api->read.n; i++) {
        if (api->total++) {
            llmb_out_text(&text, ",");
        }

        ngx_http_llm_budget_api_account(&text, &api->read.account[i]);
    }

    if (api->read.cursor.len && api->total < NGX_HTTP_LLM_BUDGET_ACCOUNTS) {
        return ngx_http_llm_budget_api_push(api, &text) == NGX_OK ? NGX_AGAIN
                                                                  : NGX_ERROR;
    }

    llmb_out_text(&text, "]}\n");

    return ngx_http_llm_budget_api_push(api, &text);
}


static ngx_int_t
ngx_http_llm_budget_api_send(ngx_http_llm_budget_api_t *api)
{
    ngx_int_t            rc;
    ngx_chain_t         *cl;
    ngx_http_request_t  *r;

    r = api->request;

    for (cl = api->out; cl->next; cl = cl->next) { /* void */ }

    cl->buf->last_buf = (r == r->main);
    cl->buf->last_in_chain = 1;

    r->headers_out.status = NGX_HTTP_OK;
    r->headers_out.content_length_n = api->size;
    ngx_str_set(&r->headers_out.content_type, "application/json");
    r->headers_out.content_type_len = r->headers_out.content_type.len;
    r->headers_out.content_type_lowcase = NULL;

    rc = ngx_http_send_header(r);

    if (rc == NGX_ERROR || rc > NGX_OK || r->header_only) {
        return rc;
    }

    return ngx_http_output_filter(r, api->out);
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
ngx_http_llm_budget_api_push(ngx_http_llm_budget_api_t *api, llmb_out_t *text)
{
    ngx_buf_t           *b;
    ngx_chain_t         *cl;
    ngx_http_request_t  *r;

    r = api->request;

    if (text->full) {
        ngx_log_error(NGX_LOG_ALERT, r->connection->log, 0,
                      "llm_budget: an answer of the API did not fit");
        return NGX_ERROR;
    }

    if (text->pos == text->start) {
        return NGX_OK;
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

    *api->last = cl;
    api->last = &cl->next;
    api->size += b->last - b->pos;

    return NGX_OK;
}
