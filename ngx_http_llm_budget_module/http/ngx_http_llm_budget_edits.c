
/*
 * Copyright (C) the ngx_http_llm_budget_module authors
 *
 * The edits of a request body: what the verdict asks for, on the pristine
 * bytes.
 */


#include "http/ngx_http_llm_budget_edits.h"


/* text of the edits of one attempt, the model's name aside */
#define NGX_HTTP_LLM_BUDGET_EDIT_TEXT   256


static llmb_rc_e ngx_http_llm_budget_edit_drops(
    ngx_http_llm_budget_ctx_t *ctx, llmb_edits_t *edits, u_char *drop);
static ngx_int_t ngx_http_llm_budget_edit_model(ngx_http_request_t *r,
    ngx_http_llm_budget_ctx_t *ctx, llmb_edits_t *edits);
static llmb_rc_e ngx_http_llm_budget_edit_ceiling(
    ngx_http_llm_budget_ctx_t *ctx, llmb_edits_t *edits, const u_char *drop,
    u_char **text);
static llmb_rc_e ngx_http_llm_budget_edit_usage(
    ngx_http_llm_budget_ctx_t *ctx, llmb_edits_t *edits, const u_char *drop);
static ngx_uint_t ngx_http_llm_budget_dropped(const llmb_request_t *req,
    const u_char *drop, const char *name);


ngx_int_t
ngx_http_llm_budget_edits(ngx_http_request_t *r,
    ngx_http_llm_budget_ctx_t *ctx, llmb_edits_t *edits)
{
    u_char     *text, drop[LLMB_REQUEST_MEMBERS];
    llmb_rc_e   rc;

    ngx_memzero(drop, sizeof(drop));

    rc = ngx_http_llm_budget_edit_drops(ctx, edits, drop);

    if (rc != LLMB_OK) {
        goto failed;
    }

    if (ngx_http_llm_budget_edit_model(r, ctx, edits) != NGX_OK) {
        return NGX_ERROR;
    }

    if (ctx->clamp >= 0 && ctx->dialect != LLMB_DIALECT_EMBEDDINGS) {

        text = ngx_pnalloc(r->pool, NGX_HTTP_LLM_BUDGET_EDIT_TEXT);
        if (text == NULL) {
            return NGX_ERROR;
        }

        rc = ngx_http_llm_budget_edit_ceiling(ctx, edits, drop, &text);

        if (rc != LLMB_OK) {
            goto failed;
        }
    }

    ctx->injected = 0;

    if (ctx->req->stream && ctx->llcf->inject_usage
        && (ctx->dialect == LLMB_DIALECT_CHAT
            || ctx->dialect == LLMB_DIALECT_COMPLETIONS))
    {
        rc = ngx_http_llm_budget_edit_usage(ctx, edits, drop);

        if (rc != LLMB_OK) {
            goto failed;
        }
    }

    return NGX_OK;

failed:

    ngx_log_error(NGX_LOG_ALERT, r->connection->log, 0,
                  "llm_budget: the edits of a body clash: %d", (int) rc);

    return NGX_ERROR;
}


static llmb_rc_e
ngx_http_llm_budget_edit_drops(ngx_http_llm_budget_ctx_t *ctx,
    llmb_edits_t *edits, u_char *drop)
{
    uint32_t                     hash;
    llmb_rc_e                    rc;
    ngx_str_t                   *name;
    ngx_uint_t                   i, k, m;
    llmb_range_t                 cut;
    llmb_request_t              *req;
    ngx_http_llm_budget_rung_t  *rung;

    static const llmb_str_t  empty = { 0, NULL };

    if (ctx->rungs == 0) {
        return LLMB_OK;
    }

    req = ctx->req;
    rung = ctx->llcf->rungs->elts;

    for (i = 0; i < ctx->llcf->rungs->nelts; i++) {

        if (!(ctx->rungs & ((uint32_t) 1 << i))) {
            continue;
        }

        name = rung[i].drops.elts;

        for (k = 0; k < rung[i].drops.nelts; k++) {
            hash = llmb_request_hash(name[k].data, name[k].len);

            for (m = 0; m < req->n_members; m++) {
                if (req->members[m].name_hash == hash
                    && req->members[m].name_len == name[k].len)
                {
                    drop[m] = 1;
                }
            }
        }
    }

    for (m = 0; m < req->n_members; m++) {

        if (!drop[m]) {
            continue;
        }

        llmb_request_member_cut(req, drop, (unsigned) m, &cut);

        rc = llmb_edits_add(edits, cut.start, cut.end, &empty);

        if (rc != LLMB_OK) {
            return rc;
        }
    }

    return LLMB_OK;
}


static ngx_int_t
ngx_http_llm_budget_edit_model(ngx_http_request_t *r,
    ngx_http_llm_budget_ctx_t *ctx, llmb_edits_t *edits)
{
    u_char          *p;
    uintptr_t        escape;
    llmb_str_t       text;
    llmb_request_t  *req;

    req = ctx->req;

    if (req->model_range.end == 0
        || (ctx->model.len == req->model_len
            && ngx_memcmp(ctx->model.data, req->model, req->model_len) == 0))
    {
        return NGX_OK;
    }

    escape = ngx_escape_json(NULL, ctx->model.data, ctx->model.len);

    text.len = ctx->model.len + (size_t) escape + 2;
    text.data = ngx_pnalloc(r->pool, text.len);
    if (text.data == NULL) {
        return NGX_ERROR;
    }

    p = text.data;
    *p++ = '"';
    p = (u_char *) ngx_escape_json(p, ctx->model.data, ctx->model.len);
    *p = '"';

    return llmb_edits_add(edits, req->model_range.start, req->model_range.end,
                          &text)
           == LLMB_OK ? NGX_OK : NGX_ERROR;
}


/* every ceiling the request gave is lowered, so that none can stand above */

static llmb_rc_e
ngx_http_llm_budget_edit_ceiling(ngx_http_llm_budget_ctx_t *ctx,
    llmb_edits_t *edits, const u_char *drop, u_char **text)
{
    u_char                    *p;
    llmb_rc_e                  rc;
    llmb_str_t                 value;
    const char                *name;
    ngx_uint_t                 i, set;
    llmb_request_t            *req;
    const llmb_request_int_t  *member[3];

    static const char *const  names[] = {
        "max_tokens", "max_completion_tokens", "max_output_tokens"
    };

    req = ctx->req;
    set = 0;

    member[0] = &req->max_tokens;
    member[1] = &req->max_completion_tokens;
    member[2] = &req->max_output_tokens;

    (void) llmb_request_ceiling(req, &name);

    value.data = *text;
    p = ngx_sprintf(*text, "%L", ctx->clamp);
    value.len = (size_t) (p - *text);
    *text = p;

    for (i = 0; i < 3; i++) {

        if (member[i]->range.end == 0
            || (!member[i]->is_set && ngx_strcmp(names[i], name) != 0)
            || ngx_http_llm_budget_dropped(req, drop, names[i]))
        {
            continue;
        }

        set |= (ngx_strcmp(names[i], name) == 0);

        if (member[i]->is_set && member[i]->value <= ctx->clamp) {
            continue;
        }

        rc = llmb_edits_add(edits, member[i]->range.start,
                            member[i]->range.end, &value);

        if (rc != LLMB_OK) {
            return rc;
        }
    }

    if (set) {
        return LLMB_OK;
    }

    value.data = *text;
    p = ngx_sprintf(*text, "\"%s\":%L,", name, ctx->clamp);
    value.len = (size_t) (p - *text);
    *text = p;

    return llmb_edits_add(edits, req->object_start + 1, req->object_start + 1,
                          &value);
}


/* a stream reports usage only when asked, and it is always asked (T08) */

static llmb_rc_e
ngx_http_llm_budget_edit_usage(ngx_http_llm_budget_ctx_t *ctx,
    llmb_edits_t *edits, const u_char *drop)
{
    uint64_t         start, end;
    llmb_request_t  *req;

    static const llmb_str_t  member =
        llmb_string("\"stream_options\":{\"include_usage\":true},");
    static const llmb_str_t  object = llmb_string("{\"include_usage\":true}");
    static const llmb_str_t  first = llmb_string("\"include_usage\":true");
    static const llmb_str_t  further = llmb_string("\"include_usage\":true,");
    static const llmb_str_t  yes = llmb_string("true");

    req = ctx->req;

    if (req->stream_options.end == 0
        || ngx_http_llm_budget_dropped(req, drop, "stream_options"))
    {
        ctx->injected = 1;

        return llmb_edits_add(edits, req->object_start + 1,
                              req->object_start + 1, &member);
    }

    start = req->stream_options.start;
    end = req->stream_options.end;

    if (!req->stream_options_object) {
        ctx->injected = 1;
        return llmb_edits_add(edits, start, end, &object);
    }

    if (req->include_usage.end == 0) {
        ctx->injected = 1;
        return llmb_edits_add(edits, start + 1, start + 1,
                              req->stream_options_empty ? &first : &further);
    }

    if (req->include_usage_true) {
        return LLMB_OK;
    }

    ctx->injected = 1;

    return llmb_edits_add(edits, req->include_usage.start,
                          req->include_usage.end, &yes);
}


static ngx_uint_t
ngx_http_llm_budget_dropped(const llmb_request_t *req, const u_char *drop,
    const char *name)
{
    int         i;
    llmb_str_t  text;

    text.data = (u_char *) (uintptr_t) name;
    text.len = ngx_strlen(name);

    i = llmb_request_member_find(req, &text);

    return i >= 0 && drop[i];
}
