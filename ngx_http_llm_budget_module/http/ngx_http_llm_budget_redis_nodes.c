
/*
 * Copyright (C) the ngx_http_llm_budget_module authors
 *
 * The servers of a Redis store: which of them gets a command, and what becomes
 * of its answer.  A command is at a connection, or waits in here for a server
 * that is being connected, or for a better time.
 */


#include "http/ngx_http_llm_budget_redis_nodes_int.h"


static void ngx_http_llm_budget_redis_nodes_init(
    ngx_http_llm_budget_redis_nodes_t *nodes);
static ngx_int_t ngx_http_llm_budget_redis_nodes_start(
    ngx_http_llm_budget_redis_nodes_t *nodes);
static void ngx_http_llm_budget_redis_nodes_free(
    ngx_http_llm_budget_redis_nodes_t *nodes);
static void ngx_http_llm_budget_redis_again_timer(ngx_event_t *ev);
static void ngx_http_llm_budget_redis_wait_timer(ngx_event_t *ev);
static void ngx_http_llm_budget_redis_event(ngx_event_t *ev);
static void ngx_http_llm_budget_redis_close_links(
    ngx_http_llm_budget_redis_nodes_t *nodes);


ngx_http_llm_budget_redis_nodes_t *
ngx_http_llm_budget_redis_nodes_create(ngx_http_llm_budget_redis_conf_t *conf,
    ngx_log_t *log, void (*up)(void *data), void *data)
{
    ngx_http_llm_budget_redis_nodes_t  *nodes;

    nodes = ngx_calloc(sizeof(ngx_http_llm_budget_redis_nodes_t), log);
    if (nodes == NULL) {
        return NULL;
    }

    nodes->conf = conf;
    nodes->log = log;
    nodes->up = up;
    nodes->data = data;

    ngx_http_llm_budget_redis_nodes_init(nodes);

    /* the clock of a new worker stands since the configuration was read */

    ngx_time_update();

    if (ngx_http_llm_budget_redis_nodes_start(nodes) != NGX_OK) {
        ngx_http_llm_budget_redis_nodes_free(nodes);
        return NULL;
    }

    return nodes;
}


static void
ngx_http_llm_budget_redis_nodes_init(ngx_http_llm_budget_redis_nodes_t *nodes)
{
    ngx_uint_t    i;
    ngx_event_t  *ev[] = { &nodes->timer, &nodes->again, &nodes->event,
                           &nodes->ask_timer, &nodes->map_timer };

    nodes->ident = -1;

    ngx_queue_init(&nodes->waiting);
    ngx_queue_init(&nodes->later);

    for (i = 0; i < sizeof(ev) / sizeof(ev[0]); i++) {
        ev[i]->data = nodes;
        ev[i]->log = nodes->log;
    }

    nodes->timer.handler = ngx_http_llm_budget_redis_wait_timer;
    nodes->again.handler = ngx_http_llm_budget_redis_again_timer;
    nodes->event.handler = ngx_http_llm_budget_redis_event;
    nodes->ask_timer.handler = ngx_http_llm_budget_redis_sentinel_timer;
    nodes->map_timer.handler = ngx_http_llm_budget_redis_cluster_timer;

    /* the other two have commands */

    nodes->ask_timer.cancelable = 1;
    nodes->map_timer.cancelable = 1;
}


static ngx_int_t
ngx_http_llm_budget_redis_nodes_start(ngx_http_llm_budget_redis_nodes_t *nodes)
{
    ngx_uint_t                         i;
    ngx_http_llm_budget_redis_url_t   *url;
    ngx_http_llm_budget_redis_node_t  *node;

    url = nodes->conf->urls.elts;
    node = NULL;

    for (i = 0; i < nodes->conf->urls.nelts; i++) {
        node = ngx_http_llm_budget_redis_node_seed(nodes, &url[i]);
        if (node == NULL) {
            return NGX_ERROR;
        }
    }

    switch (nodes->conf->mode) {

    case NGX_HTTP_LLM_BUDGET_REDIS_SENTINEL:
        ngx_http_llm_budget_redis_sentinel_ask(nodes);
        break;

    case NGX_HTTP_LLM_BUDGET_REDIS_CLUSTER:
        nodes->slots = ngx_alloc(NGX_HTTP_LLM_BUDGET_SLOTS * sizeof(uint16_t),
                                 nodes->log);
        if (nodes->slots == NULL) {
            return NGX_ERROR;
        }

        ngx_memset(nodes->slots, 0xff,
                   NGX_HTTP_LLM_BUDGET_SLOTS * sizeof(uint16_t));

        ngx_http_llm_budget_redis_cluster_fetch(nodes);
        break;

    default: /* SINGLE */
        nodes->master = node;
        ngx_http_llm_budget_redis_node_start(node);
    }

    return NGX_OK;
}


void
ngx_http_llm_budget_redis_nodes_destroy(
    ngx_http_llm_budget_redis_nodes_t *nodes, ngx_queue_t *left)
{
    ngx_uint_t                         i, k;
    ngx_http_llm_budget_redis_node_t  *node;

    nodes->destroying = 1;
    nodes->left = left;

    /* those at connections come back through done() */

    for (i = 0; i < nodes->n; i++) {
        node = nodes->node[i];

        for (k = 0; node != NULL && k < node->nlinks; k++) {
            ngx_http_llm_budget_redis_conn_close(node->links[k].conn,
                                                 "the worker exits");
        }
    }

    if (!ngx_queue_empty(&nodes->waiting)) {
        ngx_queue_add(left, &nodes->waiting);
    }

    if (!ngx_queue_empty(&nodes->later)) {
        ngx_queue_add(left, &nodes->later);
    }

    ngx_http_llm_budget_redis_nodes_free(nodes);
}


static void
ngx_http_llm_budget_redis_nodes_free(ngx_http_llm_budget_redis_nodes_t *nodes)
{
    ngx_uint_t    i;
    ngx_event_t  *ev[] = { &nodes->timer, &nodes->again, &nodes->ask_timer,
                           &nodes->map_timer };

    for (i = 0; i < nodes->n; i++) {

        if (nodes->node[i] != NULL) {
            ngx_http_llm_budget_redis_node_free(nodes->node[i]);
        }
    }

    for (i = 0; i < sizeof(ev) / sizeof(ev[0]); i++) {

        if (ev[i]->timer_set) {
            ngx_del_timer(ev[i]);
        }
    }

    if (nodes->event.posted) {
        ngx_delete_posted_event(&nodes->event);
    }

    if (nodes->slots != NULL) {
        ngx_free(nodes->slots);
    }

    ngx_free(nodes);
}


ngx_int_t
ngx_http_llm_budget_redis_nodes_state(ngx_http_llm_budget_redis_nodes_t *nodes)
{
    ngx_uint_t                         i;
    ngx_http_llm_budget_redis_node_t  *node;

    if (nodes->conf->mode == NGX_HTTP_LLM_BUDGET_REDIS_SENTINEL
        && nodes->master == NULL)
    {
        return nodes->no_answer ? NGX_DECLINED : NGX_AGAIN;
    }

    if (nodes->conf->mode != NGX_HTTP_LLM_BUDGET_REDIS_CLUSTER) {
        node = nodes->master;

    } else if (nodes->mapped) {
        node = ngx_http_llm_budget_redis_any(nodes);

    } else {

        /* a seed that is connected is asked for the map */

        for (i = 0; i < nodes->n; i++) {
            node = nodes->node[i];

            if (node != NULL
                && (node->state == NGX_HTTP_LLM_BUDGET_NODE_CONNECTING
                    || node->state == NGX_HTTP_LLM_BUDGET_NODE_UP))
            {
                return NGX_AGAIN;
            }
        }

        node = NULL;
    }

    if (node == NULL) {
        return NGX_DECLINED;
    }

    switch (node->state) {

    case NGX_HTTP_LLM_BUDGET_NODE_UP:
    case NGX_HTTP_LLM_BUDGET_NODE_HALF:
        return NGX_OK;

    case NGX_HTTP_LLM_BUDGET_NODE_IDLE:
    case NGX_HTTP_LLM_BUDGET_NODE_CONNECTING:
        return NGX_AGAIN;

    default:
        return NGX_DECLINED;
    }
}


/* one that has slots and can be used, or else one that is being connected */

ngx_http_llm_budget_redis_node_t *
ngx_http_llm_budget_redis_any(ngx_http_llm_budget_redis_nodes_t *nodes)
{
    ngx_uint_t                         i;
    ngx_http_llm_budget_redis_node_t  *node, *second;

    second = NULL;

    for (i = 0; i < nodes->n; i++) {
        node = nodes->node[i];

        if (node == NULL || node->slots == 0) {
            continue;
        }

        switch (node->state) {

        case NGX_HTTP_LLM_BUDGET_NODE_UP:
            return node;

        case NGX_HTTP_LLM_BUDGET_NODE_IDLE:
        case NGX_HTTP_LLM_BUDGET_NODE_CONNECTING:
        case NGX_HTTP_LLM_BUDGET_NODE_HALF:
            second = node;
            break;

        default:
            break;
        }
    }

    return second;
}


void
ngx_http_llm_budget_redis_wait(ngx_http_llm_budget_redis_nodes_t *nodes,
    ngx_http_llm_budget_redis_cmd_t *cmd)
{
    ngx_msec_int_t  left;

    ngx_queue_insert_tail(&nodes->waiting, &cmd->queue);
    nodes->nwaiting++;

    left = (ngx_msec_int_t) (cmd->deadline - ngx_current_msec);
    left = ngx_max(left, 1);

    if (nodes->timer.timer_set) {

        if ((ngx_msec_int_t) (nodes->timer.timer.key - ngx_current_msec)
            <= left)
        {
            return;
        }

        ngx_del_timer(&nodes->timer);
    }

    ngx_add_timer(&nodes->timer, (ngx_msec_t) left);
}


void
ngx_http_llm_budget_redis_finish(ngx_http_llm_budget_redis_cmd_t *cmd,
    ngx_int_t rc, redisReply *reply)
{
    cmd->done = NULL;
    cmd->handler(cmd, rc, reply);
}


static void
ngx_http_llm_budget_redis_again_timer(ngx_event_t *ev)
{
    ngx_http_llm_budget_redis_nodes_t *nodes = ev->data;

    if (!ngx_queue_empty(&nodes->later)) {
        ngx_queue_add(&nodes->waiting, &nodes->later);
        ngx_queue_init(&nodes->later);
    }

    ngx_http_llm_budget_redis_event(&nodes->event);
}


static void
ngx_http_llm_budget_redis_wait_timer(ngx_event_t *ev)
{
    ngx_http_llm_budget_redis_nodes_t *nodes = ev->data;

    ngx_http_llm_budget_redis_event(&nodes->event);
}


/* something has changed: commands that wait are looked at again */

void
ngx_http_llm_budget_redis_kick(ngx_http_llm_budget_redis_nodes_t *nodes)
{
    if (nodes->closing || nodes->notify || nodes->nwaiting) {
        ngx_post_event(&nodes->event, &ngx_posted_events);
    }
}


static void
ngx_http_llm_budget_redis_event(ngx_event_t *ev)
{
    ngx_int_t                           rc;
    ngx_queue_t                         queue, *q;
    ngx_http_llm_budget_redis_cmd_t    *cmd;
    ngx_http_llm_budget_redis_nodes_t  *nodes;

    nodes = ev->data;

    if (nodes->closing) {
        nodes->closing = 0;
        ngx_http_llm_budget_redis_close_links(nodes);
    }

    ngx_queue_init(&queue);

    if (!ngx_queue_empty(&nodes->waiting)) {
        ngx_queue_add(&queue, &nodes->waiting);
        ngx_queue_init(&nodes->waiting);
    }

    while (!ngx_queue_empty(&queue)) {
        q = ngx_queue_head(&queue);
        ngx_queue_remove(q);

        cmd = ngx_queue_data(q, ngx_http_llm_budget_redis_cmd_t, queue);

        rc = NGX_DECLINED;

        if (!ngx_http_llm_budget_redis_expired(cmd)) {
            rc = ngx_http_llm_budget_redis_route(nodes, cmd);
        }

        nodes->nwaiting--;

        if (rc == NGX_AGAIN) {
            ngx_http_llm_budget_redis_wait(nodes, cmd);

        } else if (rc == NGX_DECLINED) {
            ngx_http_llm_budget_redis_finish(cmd, NGX_ERROR, NULL);
        }
    }

    if (nodes->nwaiting == 0 && nodes->timer.timer_set) {

        /* or an exiting worker would stay for it */

        ngx_del_timer(&nodes->timer);
    }

    if (nodes->notify) {
        nodes->notify = 0;

        if (nodes->up != NULL
            && ngx_http_llm_budget_redis_nodes_state(nodes) == NGX_OK)
        {
            nodes->up(nodes->data);
        }
    }
}


static void
ngx_http_llm_budget_redis_close_links(ngx_http_llm_budget_redis_nodes_t *nodes)
{
    ngx_uint_t                         i, k;
    ngx_http_llm_budget_redis_node_t  *node;

    for (i = 0; i < nodes->n; i++) {
        node = nodes->node[i];

        if (node == NULL || !node->close) {
            continue;
        }

        node->close = 0;

        for (k = 0; k < node->nlinks; k++) {
            ngx_http_llm_budget_redis_conn_close(node->links[k].conn,
                                                 "it is not used any more");
        }
    }
}


/* whether a command waits that will go to this very node */

ngx_uint_t
ngx_http_llm_budget_redis_awaited(ngx_http_llm_budget_redis_node_t *node)
{
    ngx_uint_t                        i;
    ngx_queue_t                      *q, *queues[2];
    ngx_http_llm_budget_redis_cmd_t  *cmd;

    queues[0] = &node->nodes->waiting;
    queues[1] = &node->nodes->later;

    for (i = 0; i < 2; i++) {

        for (q = ngx_queue_head(queues[i]);
             q != ngx_queue_sentinel(queues[i]);
             q = ngx_queue_next(q))
        {
            cmd = ngx_queue_data(q, ngx_http_llm_budget_redis_cmd_t, queue);

            if (cmd->asking && cmd->node == node) {
                return 1;
            }
        }
    }

    return 0;
}


ngx_uint_t
ngx_http_llm_budget_redis_expired(ngx_http_llm_budget_redis_cmd_t *cmd)
{
    return (ngx_msec_int_t) (cmd->deadline - ngx_current_msec) <= 0;
}
