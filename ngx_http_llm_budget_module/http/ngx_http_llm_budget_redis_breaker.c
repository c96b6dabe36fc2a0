
/*
 * Copyright (C) the ngx_http_llm_budget_module authors
 *
 * The breaker of each server of a Redis store.  Any failure opens it; after a
 * delay the server is tried; it is closed by a good answer.  All changes of a
 * node's state for the better or the worse, and the lines about them.
 */


#include "http/ngx_http_llm_budget_redis_nodes_int.h"


/* delays grow from MIN to MAX and a quarter, and start anew after CALM */
#define NGX_HTTP_LLM_BUDGET_REDIS_MIN       100
#define NGX_HTTP_LLM_BUDGET_REDIS_MAX       800
#define NGX_HTTP_LLM_BUDGET_REDIS_CALM      2000

/* lines: of one node once in that time, and of all in a second */
#define NGX_HTTP_LLM_BUDGET_REDIS_SAY       1000
#define NGX_HTTP_LLM_BUDGET_REDIS_LINES     4


static ngx_uint_t ngx_http_llm_budget_redis_node_wanted(
    ngx_http_llm_budget_redis_node_t *node);
static void ngx_http_llm_budget_redis_node_reason(
    ngx_http_llm_budget_redis_node_t *node, const char *reason);


/* connects it, while commands wait for it */

void
ngx_http_llm_budget_redis_node_start(ngx_http_llm_budget_redis_node_t *node)
{
    if (node->state != NGX_HTTP_LLM_BUDGET_NODE_IDLE) {
        return;
    }

    node->state = NGX_HTTP_LLM_BUDGET_NODE_CONNECTING;
    node->used = ngx_current_msec;

    ngx_http_llm_budget_redis_node_connect(node);
}


void
ngx_http_llm_budget_redis_node_fail(ngx_http_llm_budget_redis_node_t *node,
    const char *reason)
{
    ngx_http_llm_budget_redis_nodes_t  *nodes;

    if (node->state == NGX_HTTP_LLM_BUDGET_NODE_DOWN
        || node->state == NGX_HTTP_LLM_BUDGET_NODE_IDLE)
    {
        return;
    }

    if (node->state == NGX_HTTP_LLM_BUDGET_NODE_UP
        && ngx_current_msec - node->since >= NGX_HTTP_LLM_BUDGET_REDIS_CALM)
    {
        node->backoff = 0;
    }

    node->state = NGX_HTTP_LLM_BUDGET_NODE_DOWN;
    node->probe = NULL;

    if (node->timer.timer_set) {
        ngx_del_timer(&node->timer);
    }

    ngx_http_llm_budget_redis_delay(&node->timer, &node->backoff);

    ngx_http_llm_budget_redis_node_reason(node, reason);
    ngx_http_llm_budget_redis_node_say(node);

    nodes = node->nodes;

    if (nodes->conf->mode == NGX_HTTP_LLM_BUDGET_REDIS_CLUSTER) {

        if (nodes->mapped) {
            ngx_http_llm_budget_redis_cluster_refresh(nodes);

        } else {
            ngx_http_llm_budget_redis_cluster_fetch(nodes);
        }
    }

    ngx_http_llm_budget_redis_kick(nodes);
}


/* a link of it was checked and can be used */

void
ngx_http_llm_budget_redis_node_ready(ngx_http_llm_budget_redis_node_t *node)
{
    ngx_http_llm_budget_redis_nodes_t  *nodes;

    nodes = node->nodes;

    if (node->state == NGX_HTTP_LLM_BUDGET_NODE_PROBING && node->doubt) {
        node->state = NGX_HTTP_LLM_BUDGET_NODE_HALF;
        nodes->notify = 1;

    } else if (node->state == NGX_HTTP_LLM_BUDGET_NODE_PROBING
               || node->state == NGX_HTTP_LLM_BUDGET_NODE_CONNECTING)
    {
        ngx_http_llm_budget_redis_node_good(node);
    }

    if (nodes->conf->mode == NGX_HTTP_LLM_BUDGET_REDIS_CLUSTER
        && nodes->stale
        && (!nodes->mapped || !nodes->map_timer.timer_set))
    {
        ngx_http_llm_budget_redis_cluster_fetch(nodes);
    }

    ngx_http_llm_budget_redis_kick(nodes);
}


/* it is up */

void
ngx_http_llm_budget_redis_node_good(ngx_http_llm_budget_redis_node_t *node)
{
    node->state = NGX_HTTP_LLM_BUDGET_NODE_UP;
    node->since = ngx_current_msec;
    node->used = node->since;
    node->probe = NULL;
    node->doubt = 0;
    node->renew = 0;

    ngx_http_llm_budget_redis_node_say(node);

    if (!ngx_exiting && node->nlinks > 1) {
        ngx_http_llm_budget_redis_node_connect(node);
    }

    node->nodes->notify = 1;

    ngx_http_llm_budget_redis_kick(node->nodes);
}


void
ngx_http_llm_budget_redis_node_timer(ngx_event_t *ev)
{
    ngx_http_llm_budget_redis_node_t   *node;
    ngx_http_llm_budget_redis_nodes_t  *nodes;

    node = ev->data;
    nodes = node->nodes;

    if (node->state == NGX_HTTP_LLM_BUDGET_NODE_UP
        || node->state == NGX_HTTP_LLM_BUDGET_NODE_HALF)
    {
        /* the rest of its links */

        if (!ngx_exiting) {
            ngx_http_llm_budget_redis_node_connect(node);
        }

        return;
    }

    if (node->state != NGX_HTTP_LLM_BUDGET_NODE_DOWN) {
        return;
    }

    ngx_http_llm_budget_redis_node_say(node);

    if (!ngx_http_llm_budget_redis_node_wanted(node)) {
        ngx_http_llm_budget_redis_node_close(node);
        return;
    }

    if (ngx_http_llm_budget_redis_node_open(node)) {

        if (node->renew) {
            node->renew = 0;
            node->close = 1;
            nodes->closing = 1;

            ngx_add_timer(ev, NGX_HTTP_LLM_BUDGET_REDIS_MIN);
            ngx_http_llm_budget_redis_kick(nodes);
            return;
        }

    } else if (ngx_exiting) {
        node->state = NGX_HTTP_LLM_BUDGET_NODE_IDLE;
        return;
    }

    if (nodes->conf->mode == NGX_HTTP_LLM_BUDGET_REDIS_SENTINEL) {

        /*
         * Its answer, or that there is none, goes on with this node.  The one
         * that named it may be out of date: another is asked.
         */

        if (!nodes->asking) {
            nodes->sentinel = (nodes->sentinel + 1)
                              % nodes->conf->urls.nelts;
        }

        ngx_http_llm_budget_redis_sentinel_ask(nodes);
        return;
    }

    if (nodes->conf->mode == NGX_HTTP_LLM_BUDGET_REDIS_CLUSTER) {
        ngx_http_llm_budget_redis_cluster_refresh(nodes);
    }

    ngx_http_llm_budget_redis_node_probe(node);
}


static ngx_uint_t
ngx_http_llm_budget_redis_node_wanted(ngx_http_llm_budget_redis_node_t *node)
{
    switch (node->nodes->conf->mode) {

    case NGX_HTTP_LLM_BUDGET_REDIS_CLUSTER:
        return node->slots || (node->seed && !node->nodes->mapped);

    default: /* SINGLE, SENTINEL */
        return node == node->nodes->master;
    }
}


/* finds out whether a node that is down still is */

void
ngx_http_llm_budget_redis_node_probe(ngx_http_llm_budget_redis_node_t *node)
{
    ngx_uint_t                         i;
    ngx_http_llm_budget_redis_link_t  *link;

    if (node->timer.timer_set) {
        ngx_del_timer(&node->timer);
    }

    node->state = NGX_HTTP_LLM_BUDGET_NODE_PROBING;

    for (i = 0; i < node->nlinks; i++) {
        link = &node->links[i];

        if (link->up
            && ngx_http_llm_budget_redis_conn_state(link->conn) == NGX_OK)
        {
            ngx_http_llm_budget_redis_check(link);
            return;
        }
    }

    ngx_http_llm_budget_redis_node_connect(node);
}


/*
 * One line per change; what flaps says so once in a while, and a server of a
 * cluster is not up before it told the map.
 */

void
ngx_http_llm_budget_redis_node_say(ngx_http_llm_budget_redis_node_t *node)
{
    ngx_log_t  *log;

    log = node->nodes->log;

    if (node->state == NGX_HTTP_LLM_BUDGET_NODE_UP) {

        if (node->said
            && (node->nodes->mapped
                || node->nodes->conf->mode
                   != NGX_HTTP_LLM_BUDGET_REDIS_CLUSTER))
        {
            node->said = 0;
            ngx_log_error(NGX_LOG_NOTICE, log, 0,
                          "llm_budget: redis %V is up again", &node->name);
        }

        return;
    }

    if (node->said
        || (node->said_at && ngx_current_msec - node->said_at
                             < NGX_HTTP_LLM_BUDGET_REDIS_SAY)
        || !ngx_http_llm_budget_redis_quota(node->nodes))
    {
        return;
    }

    node->said = 1;
    node->said_at = ngx_current_msec;

    ngx_log_error(NGX_LOG_ERR, log, 0, "llm_budget: redis %V is down: %s",
                  &node->name, node->reason);
}


/* servers repeat what they were sent when they do not know it: not in a log */

static void
ngx_http_llm_budget_redis_node_reason(ngx_http_llm_budget_redis_node_t *node,
    const char *reason)
{
    u_char  *p;

    (void) ngx_cpystrn(node->reason, (u_char *) reason,
                       NGX_HTTP_LLM_BUDGET_REDIS_REASON);

    p = (u_char *) ngx_strstr(node->reason, ", with args");

    if (p != NULL) {
        *p = '\0';
    }

    for (p = node->reason; *p != '\0'; p++) {

        if (*p < 0x20 || *p == 0x7f) {
            *p = ' ';
        }
    }
}


/* whether one more line may be logged in this second */

ngx_uint_t
ngx_http_llm_budget_redis_quota(ngx_http_llm_budget_redis_nodes_t *nodes)
{
    if (nodes->lines_sec != ngx_time()) {
        nodes->lines_sec = ngx_time();
        nodes->lines = 0;
    }

    if (nodes->lines == NGX_HTTP_LLM_BUDGET_REDIS_LINES) {
        return 0;
    }

    nodes->lines++;

    return 1;
}


/* sets a timer by an exponential backoff with jitter */

void
ngx_http_llm_budget_redis_delay(ngx_event_t *ev, ngx_msec_t *backoff)
{
    ngx_msec_t  msec;

    msec = *backoff * 2;
    msec = ngx_max(msec, NGX_HTTP_LLM_BUDGET_REDIS_MIN);
    msec = ngx_min(msec, NGX_HTTP_LLM_BUDGET_REDIS_MAX);

    *backoff = msec;

    ngx_add_timer(ev, msec + (ngx_msec_t) ngx_random() % (msec / 4 + 1));
}
