
/*
 * Copyright (C) the ngx_http_llm_budget_module authors
 *
 * The connections to a server of a Redis store: connecting, and what happens
 * to one.
 */


#include "http/ngx_http_llm_budget_redis_nodes_int.h"


/* a connection that was ready for less is not replaced at once */
#define NGX_HTTP_LLM_BUDGET_REDIS_STEADY    1000


static void ngx_http_llm_budget_redis_link_connect(
    ngx_http_llm_budget_redis_link_t *link);
static void ngx_http_llm_budget_redis_link_fail(
    ngx_http_llm_budget_redis_link_t *link, const char *reason);
static void ngx_http_llm_budget_redis_link_up(
    ngx_http_llm_budget_redis_conn_t *conn, void *data);
static void ngx_http_llm_budget_redis_link_down(
    ngx_http_llm_budget_redis_conn_t *conn, void *data, const char *reason);
static void ngx_http_llm_budget_redis_link_gone(
    ngx_http_llm_budget_redis_link_t *link, const char *reason);


const ngx_http_llm_budget_redis_events_t
    ngx_http_llm_budget_redis_link_events =
{
    ngx_http_llm_budget_redis_link_up,
    ngx_http_llm_budget_redis_link_down
};


/* connects what is closed; its name is resolved anew before */

void
ngx_http_llm_budget_redis_node_connect(ngx_http_llm_budget_redis_node_t *node)
{
    if (node->resolve != NULL) {
        return;
    }

    if (node->literal || node->nodes->conf->resolver == NULL) {
        ngx_http_llm_budget_redis_node_resolved(node, "has no address");
        return;
    }

    ngx_http_llm_budget_redis_resolve(node);
}


/* reason: why there are no addresses, if there are none */

void
ngx_http_llm_budget_redis_node_resolved(ngx_http_llm_budget_redis_node_t *node,
    const char *reason)
{
    ngx_uint_t                         i, n;
    ngx_http_llm_budget_redis_link_t  *link;

    if (node->nodes->destroying) {
        return;
    }

    if (ngx_exiting && !node->sentinel && node->nodes->nwaiting == 0) {

        /* nobody needs it now; it is connected when somebody does */

        if (node->state == NGX_HTTP_LLM_BUDGET_NODE_CONNECTING
            || node->state == NGX_HTTP_LLM_BUDGET_NODE_PROBING)
        {
            node->state = NGX_HTTP_LLM_BUDGET_NODE_IDLE;
        }

        return;
    }

    /* one of them finds out whether the others are worth it */

    n = ngx_http_llm_budget_redis_node_link(node) ? node->nlinks : 1;

    for (i = 0; i < node->nlinks && n; i++) {
        link = &node->links[i];

        if (link->open) {

            /* to be ready, or about to go */

            continue;
        }

        n--;

        if (node->naddrs == 0) {
            ngx_http_llm_budget_redis_link_fail(link, reason);
            return;
        }

        link->tried = 0;
        ngx_http_llm_budget_redis_link_connect(link);
    }
}


static void
ngx_http_llm_budget_redis_link_connect(ngx_http_llm_budget_redis_link_t *link)
{
    ngx_uint_t                         i;
    ngx_http_llm_budget_redis_node_t  *node;

    node = link->node;
    i = node->next % node->naddrs;

    link->up = 0;
    link->ready = 0;
    link->tried++;

    if (ngx_http_llm_budget_redis_conn_connect(link->conn,
                                               &node->addr[i].sockaddr,
                                               node->len[i], &node->host)
        != NGX_OK)
    {
        ngx_http_llm_budget_redis_link_fail(link, "no connection can be made");
        return;
    }

    link->open = 1;
}


/* it never became ready */

static void
ngx_http_llm_budget_redis_link_fail(ngx_http_llm_budget_redis_link_t *link,
    const char *reason)
{
    ngx_http_llm_budget_redis_node_t  *node;

    node = link->node;

    if (node->sentinel) {
        ngx_http_llm_budget_redis_sentinel_fail(node, reason);
        return;
    }

    if (node->state == NGX_HTTP_LLM_BUDGET_NODE_IDLE
        || node->state == NGX_HTTP_LLM_BUDGET_NODE_DOWN)
    {
        return;
    }

    if ((node->state == NGX_HTTP_LLM_BUDGET_NODE_UP
         || node->state == NGX_HTTP_LLM_BUDGET_NODE_HALF)
        && ngx_http_llm_budget_redis_node_link(node) != NULL)
    {
        /* one of several: the others do */

        if (!node->timer.timer_set) {
            ngx_http_llm_budget_redis_delay(&node->timer, &node->backoff);
        }

        return;
    }

    ngx_http_llm_budget_redis_node_fail(node, reason);
}


static void
ngx_http_llm_budget_redis_link_up(ngx_http_llm_budget_redis_conn_t *conn,
    void *data)
{
    ngx_http_llm_budget_redis_link_t *link = data;

    link->up = 1;

    if (link->node->sentinel) {
        ngx_http_llm_budget_redis_sentinel_up(link);
        return;
    }

    ngx_http_llm_budget_redis_check(link);
}


static void
ngx_http_llm_budget_redis_link_down(ngx_http_llm_budget_redis_conn_t *conn,
    void *data, const char *reason)
{
    ngx_http_llm_budget_redis_link_t *link = data;

    ngx_http_llm_budget_redis_node_t  *node;

    node = link->node;

    link->open = 0;

    if (node->nodes->destroying) {
        return;
    }

    if (!link->up) {
        node->next++;

        if (link->tried < node->naddrs
            && node->state != NGX_HTTP_LLM_BUDGET_NODE_DOWN
            && (node->state != NGX_HTTP_LLM_BUDGET_NODE_IDLE
                || node->sentinel))
        {
            ngx_http_llm_budget_redis_link_connect(link);
            return;
        }
    }

    ngx_http_llm_budget_redis_link_gone(link, reason);
    ngx_http_llm_budget_redis_kick(node->nodes);
}


static void
ngx_http_llm_budget_redis_link_gone(ngx_http_llm_budget_redis_link_t *link,
    const char *reason)
{
    ngx_uint_t                         ready, lost;
    ngx_http_llm_budget_redis_node_t  *node;

    node = link->node;
    ready = link->ready;
    lost = node->lost;

    link->up = 0;
    link->ready = 0;
    node->lost = 0;

    if (!ready) {
        ngx_http_llm_budget_redis_link_fail(link, reason);
        return;
    }

    if (lost) {
        ngx_http_llm_budget_redis_node_fail(node, reason);
        return;
    }

    if (node->state != NGX_HTTP_LLM_BUDGET_NODE_UP
        && node->state != NGX_HTTP_LLM_BUDGET_NODE_HALF)
    {
        if ((node->state == NGX_HTTP_LLM_BUDGET_NODE_CONNECTING
             || node->state == NGX_HTTP_LLM_BUDGET_NODE_PROBING)
            && !ngx_http_llm_budget_redis_node_open(node))
        {
            /* there was no link to try yet: all were about to go */

            ngx_http_llm_budget_redis_node_connect(node);
        }

        return;
    }

    if (ngx_exiting) {

        /* closed because it was idle; commands may still come */

        if (!ngx_http_llm_budget_redis_node_open(node)) {
            node->state = NGX_HTTP_LLM_BUDGET_NODE_IDLE;
        }

        return;
    }

    if (node->state == NGX_HTTP_LLM_BUDGET_NODE_HALF
        || ngx_current_msec - link->since < NGX_HTTP_LLM_BUDGET_REDIS_STEADY)
    {
        ngx_http_llm_budget_redis_node_fail(node, reason);
        return;
    }

    /* servers close what is idle, or restart: no reason to be down yet */

    if (ngx_http_llm_budget_redis_node_link(node) == NULL) {
        node->state = NGX_HTTP_LLM_BUDGET_NODE_CONNECTING;
    }

    ngx_http_llm_budget_redis_node_connect(node);
}


/* the link that a command goes to: the least loaded, or NULL */

ngx_http_llm_budget_redis_link_t *
ngx_http_llm_budget_redis_node_link(ngx_http_llm_budget_redis_node_t *node)
{
    ngx_uint_t                         i, load, least;
    ngx_http_llm_budget_redis_link_t  *link, *best;

    best = NULL;
    least = 0;

    for (i = 0; i < node->nlinks; i++) {
        link = &node->links[i];

        if (!link->ready
            || ngx_http_llm_budget_redis_conn_state(link->conn) != NGX_OK)
        {
            continue;
        }

        load = ngx_http_llm_budget_redis_conn_load(link->conn);

        if (best == NULL || load < least) {
            best = link;
            least = load;
        }
    }

    return best;
}


/* whether it has any connection, even one that is about to go */

ngx_uint_t
ngx_http_llm_budget_redis_node_open(ngx_http_llm_budget_redis_node_t *node)
{
    ngx_uint_t  i;

    for (i = 0; i < node->nlinks; i++) {

        if (node->links[i].open) {
            return 1;
        }
    }

    return 0;
}


/* commands that its connections have */

ngx_uint_t
ngx_http_llm_budget_redis_node_load(ngx_http_llm_budget_redis_node_t *node)
{
    ngx_uint_t  i, load;

    load = 0;

    for (i = 0; i < node->nlinks; i++) {
        load += ngx_http_llm_budget_redis_conn_load(node->links[i].conn);
    }

    return load;
}
