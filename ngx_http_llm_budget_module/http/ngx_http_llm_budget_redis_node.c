
/*
 * Copyright (C) the ngx_http_llm_budget_module authors
 *
 * The servers that a Redis store knows of: making, finding, and forgetting
 * them.
 */


#include "http/ngx_http_llm_budget_redis_nodes_int.h"


static ngx_http_llm_budget_redis_node_t *ngx_http_llm_budget_redis_node_new(
    ngx_http_llm_budget_redis_nodes_t *nodes, ngx_str_t *host, in_port_t port,
    ngx_uint_t sentinel);
static ngx_int_t ngx_http_llm_budget_redis_node_place(
    ngx_http_llm_budget_redis_nodes_t *nodes,
    ngx_http_llm_budget_redis_node_t *node);
static ngx_int_t ngx_http_llm_budget_redis_node_links(
    ngx_http_llm_budget_redis_node_t *node);
static ngx_uint_t ngx_http_llm_budget_redis_node_spare(
    ngx_http_llm_budget_redis_node_t *node);


ngx_http_llm_budget_redis_node_t *
ngx_http_llm_budget_redis_node_get(ngx_http_llm_budget_redis_nodes_t *nodes,
    ngx_str_t *host, in_port_t port)
{
    ngx_uint_t                         i;
    ngx_http_llm_budget_redis_node_t  *node;

    for (i = 0; i < nodes->n; i++) {
        node = nodes->node[i];

        if (node != NULL && !node->sentinel && node->port == port
            && node->host.len == host->len
            && ngx_strncasecmp(node->host.data, host->data, host->len) == 0)
        {
            return node;
        }
    }

    if (host->len == 0 || host->len > NGX_HTTP_LLM_BUDGET_REDIS_HOST
        || port == 0)
    {
        return NULL;
    }

    return ngx_http_llm_budget_redis_node_new(nodes, host, port, 0);
}


ngx_http_llm_budget_redis_node_t *
ngx_http_llm_budget_redis_node_seed(ngx_http_llm_budget_redis_nodes_t *nodes,
    ngx_http_llm_budget_redis_url_t *url)
{
    ngx_uint_t                         sentinel;
    ngx_http_llm_budget_redis_node_t  *node;

    sentinel = nodes->conf->mode == NGX_HTTP_LLM_BUDGET_REDIS_SENTINEL;

    node = ngx_http_llm_budget_redis_node_new(nodes, &url->host, url->port,
                                              sentinel);
    if (node != NULL) {
        node->seed = 1;
    }

    return node;
}


static ngx_http_llm_budget_redis_node_t *
ngx_http_llm_budget_redis_node_new(ngx_http_llm_budget_redis_nodes_t *nodes,
    ngx_str_t *host, in_port_t port, ngx_uint_t sentinel)
{
    u_char                            *p;
    ngx_http_llm_budget_redis_node_t  *node;

    node = ngx_calloc(sizeof(ngx_http_llm_budget_redis_node_t)
                      + 2 * host->len + sizeof("unix:[]:65535"), nodes->log);
    if (node == NULL) {
        return NULL;
    }

    node->nodes = nodes;
    node->ident = -1;
    node->port = port;
    node->sentinel = sentinel;
    node->conf = sentinel ? &nodes->conf->sentinel : &nodes->conf->conn;
    node->nlinks = sentinel ? 1 : nodes->conf->connections;
    node->used = ngx_current_msec;

    node->timer.handler = ngx_http_llm_budget_redis_node_timer;
    node->timer.data = node;
    node->timer.log = nodes->log;
    node->timer.cancelable = 1;

    p = (u_char *) node + sizeof(ngx_http_llm_budget_redis_node_t);

    node->host.len = host->len;
    node->host.data = p;

    if (port == 0) {
        p = ngx_cpymem(p, host->data, host->len);
        node->name.data = p;
        p = ngx_sprintf(p, "unix:%V", host);

    } else {
        ngx_strlow(p, host->data, host->len);
        p += host->len;
        node->name.data = p;

        if (ngx_strlchr(host->data, host->data + host->len, ':') != NULL
            && host->data[0] != '[')
        {
            p = ngx_sprintf(p, "[%V]:%ui", &node->host, (ngx_uint_t) port);

        } else {
            p = ngx_sprintf(p, "%V:%ui", &node->host, (ngx_uint_t) port);
        }
    }

    node->name.len = (size_t) (p - node->name.data);

    ngx_http_llm_budget_redis_resolve_init(node);

    if (ngx_http_llm_budget_redis_node_links(node) != NGX_OK
        || ngx_http_llm_budget_redis_node_place(nodes, node) != NGX_OK)
    {
        ngx_http_llm_budget_redis_node_free(node);
        return NULL;
    }

    return node;
}


static ngx_int_t
ngx_http_llm_budget_redis_node_links(ngx_http_llm_budget_redis_node_t *node)
{
    ngx_uint_t                         i;
    ngx_http_llm_budget_redis_link_t  *link;

    node->links = ngx_calloc(node->nlinks
                             * sizeof(ngx_http_llm_budget_redis_link_t),
                             node->nodes->log);
    if (node->links == NULL) {
        return NGX_ERROR;
    }

    for (i = 0; i < node->nlinks; i++) {
        link = &node->links[i];
        link->node = node;

        link->conn = ngx_http_llm_budget_redis_conn_create(node->conf,
                                        &ngx_http_llm_budget_redis_link_events,
                                         link, node->nodes->log);
        if (link->conn == NULL) {
            return NGX_ERROR;
        }
    }

    return NGX_OK;
}


/* a place among the nodes, if need be that of one that is not used */

static ngx_int_t
ngx_http_llm_budget_redis_node_place(ngx_http_llm_budget_redis_nodes_t *nodes,
    ngx_http_llm_budget_redis_node_t *node)
{
    ngx_uint_t  i;

    for (i = 0; i < nodes->n && nodes->node[i] != NULL; i++) { /* void */ }

    if (i < NGX_HTTP_LLM_BUDGET_REDIS_NODES) {
        nodes->node[i] = node;
        nodes->n = ngx_max(nodes->n, i + 1);
        node->index = i;

        return NGX_OK;
    }

    for (i = 0; i < nodes->n; i++) {

        if (ngx_http_llm_budget_redis_node_spare(nodes->node[i])) {
            ngx_http_llm_budget_redis_node_free(nodes->node[i]);
            nodes->node[i] = node;
            node->index = i;

            return NGX_OK;
        }
    }

    if (ngx_http_llm_budget_redis_quota(nodes)) {
        ngx_log_error(NGX_LOG_ERR, nodes->log, 0,
                      "llm_budget: redis %V is not used, since there are %d "
                      "servers already", &node->name,
                      NGX_HTTP_LLM_BUDGET_REDIS_NODES);
    }

    return NGX_ERROR;
}


/* forgets what nobody refers to */

void
ngx_http_llm_budget_redis_node_sweep(ngx_http_llm_budget_redis_nodes_t *nodes)
{
    ngx_uint_t  i;

    for (i = 0; i < nodes->n; i++) {

        if (nodes->node[i] != NULL
            && ngx_http_llm_budget_redis_node_spare(nodes->node[i]))
        {
            ngx_http_llm_budget_redis_node_free(nodes->node[i]);
            nodes->node[i] = NULL;
        }
    }
}


static ngx_uint_t
ngx_http_llm_budget_redis_node_spare(ngx_http_llm_budget_redis_node_t *node)
{
    ngx_http_llm_budget_redis_nodes_t  *nodes;

    nodes = node->nodes;

    return node->state == NGX_HTTP_LLM_BUDGET_NODE_IDLE
           && !node->seed && !node->slots && !node->close
           && node->resolve == NULL
           && node != nodes->master && node != nodes->map_node
           && !ngx_http_llm_budget_redis_node_open(node)
           && ngx_http_llm_budget_redis_node_load(node) == 0
           && !ngx_http_llm_budget_redis_awaited(node);
}


void
ngx_http_llm_budget_redis_node_free(ngx_http_llm_budget_redis_node_t *node)
{
    ngx_uint_t  i;

    if (node->resolve != NULL) {
        ngx_resolve_name_done(node->resolve);
    }

    if (node->timer.timer_set) {
        ngx_del_timer(&node->timer);
    }

    for (i = 0; node->links != NULL && i < node->nlinks; i++) {

        if (node->links[i].conn != NULL) {
            ngx_http_llm_budget_redis_conn_destroy(node->links[i].conn);
        }
    }

    if (node->links != NULL) {
        ngx_free(node->links);
    }

    ngx_free(node);
}


/* not used any more, until somebody needs it; its links go soon */

void
ngx_http_llm_budget_redis_node_close(ngx_http_llm_budget_redis_node_t *node)
{
    if (node->timer.timer_set) {
        ngx_del_timer(&node->timer);
    }

    if (node->resolve != NULL) {

        /* or it would be connected, and nobody would know */

        ngx_resolve_name_done(node->resolve);
        node->resolve = NULL;
    }

    node->state = NGX_HTTP_LLM_BUDGET_NODE_IDLE;
    node->probe = NULL;
    node->doubt = 0;
    node->said = 0;
    node->backoff = 0;
    node->renew = 0;
    node->close = 1;
    node->nodes->closing = 1;

    ngx_http_llm_budget_redis_kick(node->nodes);
}
