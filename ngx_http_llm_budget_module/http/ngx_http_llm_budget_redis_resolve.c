
/*
 * Copyright (C) the ngx_http_llm_budget_module authors
 *
 * Addresses of the servers of a Redis store: those of configuration time, of
 * addresses given as text, and of the resolver at each reconnect.
 */


#include "http/ngx_http_llm_budget_redis_nodes_int.h"


/* for how long old addresses are held back by a resolver that is silent */
#define NGX_HTTP_LLM_BUDGET_REDIS_RESOLVE   500


static ngx_int_t ngx_http_llm_budget_redis_resolve_literal(
    ngx_http_llm_budget_redis_node_t *node);
static void ngx_http_llm_budget_redis_resolve_add(
    ngx_http_llm_budget_redis_node_t *node, struct sockaddr *sockaddr,
    socklen_t socklen);
static void ngx_http_llm_budget_redis_resolve_handler(
    ngx_resolver_ctx_t *ctx);


/* all that is known without asking */

void
ngx_http_llm_budget_redis_resolve_init(ngx_http_llm_budget_redis_node_t *node)
{
    ngx_uint_t                        i, k;
    ngx_http_llm_budget_redis_url_t  *url;

    if (ngx_http_llm_budget_redis_resolve_literal(node) == NGX_OK) {
        node->literal = 1;
        return;
    }

    url = node->nodes->conf->urls.elts;

    for (i = 0; i < node->nodes->conf->urls.nelts; i++) {

        if (url[i].host.len != node->host.len
            || ngx_strncasecmp(url[i].host.data, node->host.data,
                               node->host.len)
               != 0)
        {
            continue;
        }

        for (k = 0; k < url[i].naddrs; k++) {
            ngx_http_llm_budget_redis_resolve_add(node,
                                                  url[i].addrs[k].sockaddr,
                                                  url[i].addrs[k].socklen);
        }

        node->literal = node->port == 0;

        return;
    }
}


static ngx_int_t
ngx_http_llm_budget_redis_resolve_literal(
    ngx_http_llm_budget_redis_node_t *node)
{
    size_t                len;
    u_char               *p;
    struct sockaddr_in    sin;
#if (NGX_HAVE_INET6)
    struct sockaddr_in6   sin6;
#endif

    if (node->port == 0) {
        return NGX_DECLINED;
    }

    p = node->host.data;
    len = node->host.len;

    ngx_memzero(&sin, sizeof(struct sockaddr_in));

    sin.sin_family = AF_INET;
    sin.sin_addr.s_addr = ngx_inet_addr(p, len);

    if (sin.sin_addr.s_addr != INADDR_NONE) {
        ngx_http_llm_budget_redis_resolve_add(node, (struct sockaddr *) &sin,
                                              sizeof(struct sockaddr_in));
        return NGX_OK;
    }

#if (NGX_HAVE_INET6)

    if (len > 2 && p[0] == '[' && p[len - 1] == ']') {
        p++;
        len -= 2;
    }

    ngx_memzero(&sin6, sizeof(struct sockaddr_in6));

    sin6.sin6_family = AF_INET6;

    if (ngx_inet6_addr(p, len, sin6.sin6_addr.s6_addr) == NGX_OK) {
        ngx_http_llm_budget_redis_resolve_add(node, (struct sockaddr *) &sin6,
                                              sizeof(struct sockaddr_in6));
        return NGX_OK;
    }

#endif

    return NGX_DECLINED;
}


static void
ngx_http_llm_budget_redis_resolve_add(ngx_http_llm_budget_redis_node_t *node,
    struct sockaddr *sockaddr, socklen_t socklen)
{
    ngx_sockaddr_t  *addr;

    if (node->naddrs == NGX_HTTP_LLM_BUDGET_REDIS_ADDRS
        || socklen > (socklen_t) sizeof(ngx_sockaddr_t))
    {
        return;
    }

    addr = &node->addr[node->naddrs];

    ngx_memcpy(addr, sockaddr, socklen);
    ngx_inet_set_port(&addr->sockaddr, node->port);

    node->len[node->naddrs++] = socklen;
}


/* ends in node_resolved(), at once or later */

void
ngx_http_llm_budget_redis_resolve(ngx_http_llm_budget_redis_node_t *node)
{
    ngx_resolver_ctx_t                *ctx;
    ngx_http_llm_budget_redis_conf_t  *conf;

    conf = node->nodes->conf;

    ctx = ngx_resolve_start(conf->resolver, NULL);

    if (ctx == NULL || ctx == NGX_NO_RESOLVER) {
        ngx_http_llm_budget_redis_node_resolved(node,
                                                "its name cannot be resolved");
        return;
    }

    ctx->name = node->host;
    ctx->handler = ngx_http_llm_budget_redis_resolve_handler;
    ctx->data = node;
    ctx->timeout = conf->resolver_timeout;
    ctx->cancelable = 1;

    if (node->naddrs) {
        ctx->timeout = ngx_min(ctx->timeout,
                               NGX_HTTP_LLM_BUDGET_REDIS_RESOLVE);
    }

    node->resolve = ctx;

    /* the handler may be called in here */

    if (ngx_resolve_name(ctx) != NGX_OK) {
        node->resolve = NULL;
        ngx_http_llm_budget_redis_node_resolved(node,
                                                "its name cannot be resolved");
    }
}


static void
ngx_http_llm_budget_redis_resolve_handler(ngx_resolver_ctx_t *ctx)
{
    char                              *reason;
    ngx_uint_t                         i;
    ngx_http_llm_budget_redis_node_t  *node;

    node = ctx->data;
    node->resolve = NULL;
    reason = "its name has no address";

    if (ctx->state) {
        reason = ngx_resolver_strerror(ctx->state);

    } else if (ctx->naddrs) {
        node->naddrs = 0;
        node->next = 0;

        for (i = 0; i < ctx->naddrs; i++) {
            ngx_http_llm_budget_redis_resolve_add(node, ctx->addrs[i].sockaddr,
                                                  ctx->addrs[i].socklen);
        }
    }

    ngx_resolve_name_done(ctx);

    ngx_http_llm_budget_redis_node_resolved(node, reason);
}
