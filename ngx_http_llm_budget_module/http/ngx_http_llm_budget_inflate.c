
/*
 * Copyright (C) the ngx_http_llm_budget_module authors
 *
 * Reading an answer that a provider compressed though identity was asked.
 */


#include "http/ngx_http_llm_budget_inflate.h"

#include <zlib.h>


/* inflated bytes handed on at a time */
#define NGX_HTTP_LLM_BUDGET_INFLATE_BUF     4096


static voidpf ngx_http_llm_budget_inflate_alloc(voidpf opaque, uInt items,
    uInt size);
static void ngx_http_llm_budget_inflate_free(voidpf opaque, voidpf address);


ngx_int_t
ngx_http_llm_budget_inflate_begin(ngx_http_llm_budget_ctx_t *ctx,
    ngx_str_t *encoding)
{
    int        bits;
    z_stream  *z;

    if (encoding->len == 4
        && ngx_strncasecmp(encoding->data, (u_char *) "gzip", 4) == 0)
    {
        bits = MAX_WBITS + 16;

    } else if (encoding->len == 7
               && ngx_strncasecmp(encoding->data, (u_char *) "deflate", 7)
                  == 0)
    {
        bits = MAX_WBITS;

    } else {
        return NGX_DECLINED;
    }

    z = ngx_pcalloc(ctx->request->pool, sizeof(z_stream));
    if (z == NULL) {
        return NGX_DECLINED;
    }

    z->zalloc = ngx_http_llm_budget_inflate_alloc;
    z->zfree = ngx_http_llm_budget_inflate_free;
    z->opaque = ctx->request->pool;

    if (inflateInit2(z, bits) != Z_OK) {
        return NGX_DECLINED;
    }

    ctx->inflate = z;

    return NGX_OK;
}


ngx_int_t
ngx_http_llm_budget_inflate(ngx_http_llm_budget_ctx_t *ctx, u_char *p,
    size_t len, ngx_http_llm_budget_inflate_pt handler)
{
    int        rc;
    u_char     out[NGX_HTTP_LLM_BUDGET_INFLATE_BUF];
    z_stream  *z;

    z = ctx->inflate;

    z->next_in = p;
    z->avail_in = (uInt) len;

    do {
        z->next_out = out;
        z->avail_out = sizeof(out);

        rc = inflate(z, Z_SYNC_FLUSH);

        if (rc != Z_OK && rc != Z_STREAM_END && rc != Z_BUF_ERROR) {
            return NGX_ERROR;
        }

        if (z->avail_out < sizeof(out)) {
            handler(ctx, out, sizeof(out) - z->avail_out);
        }

        if (rc == Z_STREAM_END) {

            /* further members may follow */

            if (z->avail_in == 0 || inflateReset(z) != Z_OK) {
                return NGX_OK;
            }
        }

    } while (z->avail_in || z->avail_out == 0);

    return NGX_OK;
}


void
ngx_http_llm_budget_inflate_end(ngx_http_llm_budget_ctx_t *ctx)
{
    if (ctx->inflate) {
        (void) inflateEnd(ctx->inflate);
        ctx->inflate = NULL;
    }
}


static voidpf
ngx_http_llm_budget_inflate_alloc(voidpf opaque, uInt items, uInt size)
{
    return ngx_palloc(opaque, (size_t) items * size);
}


static void
ngx_http_llm_budget_inflate_free(voidpf opaque, voidpf address)
{
    (void) ngx_pfree(opaque, address);
}
