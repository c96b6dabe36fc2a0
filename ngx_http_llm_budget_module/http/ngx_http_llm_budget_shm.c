
/*
 * Copyright (C) the ngx_http_llm_budget_module authors
 *
 * The store in shared memory: the core's ledger in a zone, under its mutex.
 */


#include "http/ngx_http_llm_budget_shm.h"


typedef struct {
    ngx_slab_pool_t  *shpool;
    llmb_ledger_t    *ledger;
    ngx_uint_t        charge;       /* overdue holds */
} ngx_http_llm_budget_shm_t;


static void ngx_http_llm_budget_shm_policy(void *data, ngx_uint_t charge);
static ngx_int_t ngx_http_llm_budget_shm_init_zone(ngx_shm_zone_t *shm_zone,
    void *data);
static ngx_uint_t ngx_http_llm_budget_shm_resized(ngx_shm_zone_t *shm_zone);
static ngx_int_t ngx_http_llm_budget_shm_open(void *data,
    ngx_http_llm_budget_call_t *call);
static void ngx_http_llm_budget_shm_cancel(void *data,
    ngx_http_llm_budget_call_t *call);
static ngx_int_t ngx_http_llm_budget_shm_post(void *data,
    ngx_http_llm_budget_closing_t *closing, llmb_ledger_rc_e *rc);
static ngx_int_t ngx_http_llm_budget_shm_void(void *data,
    ngx_http_llm_budget_closing_t *closing, llmb_ledger_rc_e *rc);
static void ngx_http_llm_budget_shm_extend(void *data, const u_char *id,
    llmb_str_t *tag, int64_t timeout_ms);
static ngx_int_t ngx_http_llm_budget_shm_read(void *data,
    ngx_http_llm_budget_read_t *read);
static void ngx_http_llm_budget_shm_cancel_read(void *data,
    ngx_http_llm_budget_read_t *read);
static int64_t ngx_http_llm_budget_shm_now(void *data);
static ngx_int_t ngx_http_llm_budget_shm_ready(void *data);


ngx_int_t
ngx_http_llm_budget_shm_create(ngx_conf_t *cf,
    ngx_http_llm_budget_store_t *store, ngx_str_t *name, size_t size,
    ngx_shm_zone_t **shm_zone)
{
    ngx_http_llm_budget_shm_t  *shm;

    shm = ngx_pcalloc(cf->pool, sizeof(ngx_http_llm_budget_shm_t));
    if (shm == NULL) {
        return NGX_ERROR;
    }

    *shm_zone = ngx_shared_memory_add(cf, name, size,
                                      &ngx_http_llm_budget_module);
    if (*shm_zone == NULL) {
        return NGX_ERROR;
    }

    shm->charge = 1;

    (*shm_zone)->init = ngx_http_llm_budget_shm_init_zone;
    (*shm_zone)->data = shm;

    store->name = "zone";
    store->data = shm;
    store->open = ngx_http_llm_budget_shm_open;
    store->cancel = ngx_http_llm_budget_shm_cancel;
    store->post = ngx_http_llm_budget_shm_post;
    store->void_hold = ngx_http_llm_budget_shm_void;
    store->extend = ngx_http_llm_budget_shm_extend;
    store->read = ngx_http_llm_budget_shm_read;
    store->cancel_read = ngx_http_llm_budget_shm_cancel_read;
    store->now = ngx_http_llm_budget_shm_now;
    store->ready = ngx_http_llm_budget_shm_ready;
    store->policy = ngx_http_llm_budget_shm_policy;

    return NGX_OK;
}


static void
ngx_http_llm_budget_shm_policy(void *data, ngx_uint_t charge)
{
    ngx_http_llm_budget_shm_t  *shm = data;

    shm->charge = charge;
}


static ngx_int_t
ngx_http_llm_budget_shm_init_zone(ngx_shm_zone_t *shm_zone, void *data)
{
    ngx_http_llm_budget_shm_t  *old = data;

    size_t                      size;
    void                       *region;
    ngx_http_llm_budget_shm_t  *shm;

    shm = shm_zone->data;

    if (old) {
        shm->shpool = old->shpool;
        shm->ledger = old->ledger;

        ngx_shmtx_lock(&shm->shpool->mutex);
        llmb_ledger_expire_policy(shm->ledger, (unsigned) shm->charge);
        ngx_shmtx_unlock(&shm->shpool->mutex);

        return NGX_OK;
    }

    if (ngx_http_llm_budget_shm_resized(shm_zone)) {
        return NGX_ERROR;
    }

    shm->shpool = (ngx_slab_pool_t *) shm_zone->shm.addr;

    if (shm_zone->shm.exists) {

        /* the mapping is inherited as a whole: only where there is no fork */

        shm->ledger = shm->shpool->data;
        return NGX_OK;
    }

    /* one run of pages, as many as the slab pool has left */

    shm->shpool->log_nomem = 0;

    size = shm->shpool->pfree * ngx_pagesize;
    region = ngx_slab_alloc(shm->shpool, size);

    if (region == NULL) {
        ngx_log_error(NGX_LOG_EMERG, shm_zone->shm.log, 0,
                      "llm_budget: zone \"%V\" has no room for a ledger",
                      &shm_zone->shm.name);
        return NGX_ERROR;
    }

    shm->ledger = llmb_ledger_create(region, size);

    if (shm->ledger == NULL) {
        ngx_log_error(NGX_LOG_EMERG, shm_zone->shm.log, 0,
                      "llm_budget: zone \"%V\" is too small for a ledger",
                      &shm_zone->shm.name);
        return NGX_ERROR;
    }

    llmb_ledger_expire_policy(shm->ledger, (unsigned) shm->charge);

    shm->shpool->data = shm->ledger;

    return NGX_OK;
}


/*
 * nginx gives a zone of another size new and empty memory on reload: all that
 * was spent would be forgotten, and old workers would go on in the old one.
 */

static ngx_uint_t
ngx_http_llm_budget_shm_resized(ngx_shm_zone_t *shm_zone)
{
    ngx_uint_t        i;
    ngx_list_part_t  *part;
    ngx_shm_zone_t   *old;

    if (ngx_test_config || ngx_is_init_cycle(ngx_cycle)) {
        return 0;
    }

    part = (ngx_list_part_t *) &ngx_cycle->shared_memory.part;
    old = part->elts;

    for (i = 0; /* void */ ; i++) {

        if (i >= part->nelts) {
            if (part->next == NULL) {
                break;
            }

            part = part->next;
            old = part->elts;
            i = 0;
        }

        if (old[i].tag == shm_zone->tag
            && old[i].shm.name.len == shm_zone->shm.name.len
            && ngx_strncmp(old[i].shm.name.data, shm_zone->shm.name.data,
                           shm_zone->shm.name.len)
               == 0)
        {
            ngx_log_error(NGX_LOG_EMERG, shm_zone->shm.log, 0,
                          "llm_budget: the size of zone \"%V\" cannot change "
                          "from %uz to %uz on reload: it would forget what "
                          "was spent; restart nginx to change it",
                          &shm_zone->shm.name, old[i].shm.size,
                          shm_zone->shm.size);
            return 1;
        }
    }

    return 0;
}


static ngx_int_t
ngx_http_llm_budget_shm_open(void *data, ngx_http_llm_budget_call_t *call)
{
    ngx_http_llm_budget_shm_t  *shm = data;

    int64_t  now_ms;

    now_ms = ngx_http_llm_budget_now();
    call->late = 0;

    ngx_shmtx_lock(&shm->shpool->mutex);
    call->rc = llmb_ledger_open(shm->ledger, call->open, now_ms,
                                now_ms + call->timeout_ms);
    ngx_shmtx_unlock(&shm->shpool->mutex);

    return NGX_OK;
}


/* nothing ever waits here */

static void
ngx_http_llm_budget_shm_cancel(void *data, ngx_http_llm_budget_call_t *call)
{
}


static ngx_int_t
ngx_http_llm_budget_shm_post(void *data,
    ngx_http_llm_budget_closing_t *closing, llmb_ledger_rc_e *rc)
{
    ngx_http_llm_budget_shm_t  *shm = data;

    ngx_shmtx_lock(&shm->shpool->mutex);
    *rc = llmb_ledger_post(shm->ledger, closing->id, closing->actual,
                           ngx_http_llm_budget_now(), NULL);
    ngx_shmtx_unlock(&shm->shpool->mutex);

    return NGX_OK;
}


static ngx_int_t
ngx_http_llm_budget_shm_void(void *data,
    ngx_http_llm_budget_closing_t *closing, llmb_ledger_rc_e *rc)
{
    ngx_http_llm_budget_shm_t  *shm = data;

    ngx_shmtx_lock(&shm->shpool->mutex);
    *rc = llmb_ledger_void(shm->ledger, closing->id, ngx_http_llm_budget_now(),
                           NULL);
    ngx_shmtx_unlock(&shm->shpool->mutex);

    return NGX_OK;
}


static void
ngx_http_llm_budget_shm_extend(void *data, const u_char *id, llmb_str_t *tag,
    int64_t timeout_ms)
{
    ngx_http_llm_budget_shm_t  *shm = data;

    ngx_shmtx_lock(&shm->shpool->mutex);
    (void) llmb_ledger_extend(shm->ledger, id,
                              ngx_http_llm_budget_now() + timeout_ms);
    ngx_shmtx_unlock(&shm->shpool->mutex);
}


static ngx_int_t
ngx_http_llm_budget_shm_read(void *data, ngx_http_llm_budget_read_t *read)
{
    ngx_http_llm_budget_shm_t  *shm = data;

    u_char                 *names;
    uint64_t                cursor;
    llmb_ledger_account_t  *account;

    names = ngx_pnalloc(read->pool, read->max * LLMB_LEDGER_NAME
                                    + sizeof(uint64_t));
    if (names == NULL) {
        return NGX_ERROR;
    }

    cursor = 0;

    if (read->cursor.len) {
        ngx_memcpy(&cursor, read->cursor.data, sizeof(uint64_t));
    }

    ngx_shmtx_lock(&shm->shpool->mutex);

    (void) llmb_ledger_expire(shm->ledger, ngx_http_llm_budget_now(),
                              LLMB_LEDGER_SWEEP);
    llmb_ledger_stat(shm->ledger, &read->stat);

    for (read->n = 0; read->n < read->max; read->n++) {
        account = &read->account[read->n];

        if (!llmb_ledger_next(shm->ledger, &cursor, account)) {
            break;
        }

        /* the name views the zone: copy it while it is locked */

        ngx_memcpy(names, account->name.data, account->name.len);
        account->name.data = names;
        names += LLMB_LEDGER_NAME;
    }

    ngx_shmtx_unlock(&shm->shpool->mutex);

    read->cursor.data = names;
    read->cursor.len = (read->n < read->max) ? 0 : sizeof(uint64_t);
    ngx_memcpy(names, &cursor, sizeof(uint64_t));

    return NGX_OK;
}


static void
ngx_http_llm_budget_shm_cancel_read(void *data,
    ngx_http_llm_budget_read_t *read)
{
}


static int64_t
ngx_http_llm_budget_shm_now(void *data)
{
    return ngx_http_llm_budget_now();
}


static ngx_int_t
ngx_http_llm_budget_shm_ready(void *data)
{
    return NGX_OK;
}
