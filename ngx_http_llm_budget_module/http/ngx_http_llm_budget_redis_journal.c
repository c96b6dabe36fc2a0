
/*
 * Copyright (C) the ngx_http_llm_budget_module authors
 *
 * The journal: its life, and what is written to this worker's file.
 */


#include "http/ngx_http_llm_budget_redis_journal.h"
#include "http/ngx_http_llm_budget_redis_journal_file.h"


static void ngx_http_llm_budget_journal_cleanup(void *data);


ngx_http_llm_budget_journal_t *
ngx_http_llm_budget_journal_create(ngx_conf_t *cf, ngx_str_t *dir,
    off_t max_len, const u_char *store)
{
    u_char                         *p;
    ngx_str_t                       name;
    ngx_path_t                     *path;
    ngx_pool_cleanup_t             *cln;
    ngx_http_llm_budget_journal_t  *journal;

    name = *dir;

    while (name.len > 1 && name.data[name.len - 1] == '/') {
        name.len--;
    }

    if (name.len == 0 || ngx_strlchr(name.data, name.data + name.len, '\0')) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "llm_budget: the journal needs a folder");
        return NULL;
    }

    if (max_len < NGX_HTTP_LLM_BUDGET_JOURNAL_MIN) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "llm_budget: the size of the journal \"%V\" is "
                           "less than %d bytes", &name,
                           NGX_HTTP_LLM_BUDGET_JOURNAL_MIN);
        return NULL;
    }

    if (ngx_conf_full_name(cf->cycle, &name, 0) != NGX_OK) {
        return NULL;
    }

    journal = ngx_pcalloc(cf->pool, sizeof(ngx_http_llm_budget_journal_t));
    path = ngx_pcalloc(cf->pool, sizeof(ngx_path_t));
    p = ngx_pnalloc(cf->pool, name.len + 1);
    cln = ngx_pool_cleanup_add(cf->pool, 0);

    if (journal == NULL || path == NULL || p == NULL || cln == NULL) {
        return NULL;
    }

    /* a value of the configuration ends with what was cut off above */

    *ngx_cpymem(p, name.data, name.len) = '\0';

    journal->dir.len = name.len;
    journal->dir.data = p;
    journal->max_len = max_len;
    ngx_memcpy(journal->store, store, NGX_HTTP_LLM_BUDGET_JOURNAL_STORE);
    journal->log = &cf->cycle->new_log;
    journal->own.fd = NGX_INVALID_FILE;
    journal->adopted.fd = NGX_INVALID_FILE;
    journal->current = &journal->own;

    cln->handler = ngx_http_llm_budget_journal_cleanup;
    cln->data = journal;

    if (ngx_http_llm_budget_journal_check_dir(cf, &journal->dir) != NGX_OK) {
        return NULL;
    }

    journal->path = ngx_pnalloc(cf->pool, name.len + 1 + sizeof("bad.")
                                       + NGX_HTTP_LLM_BUDGET_JOURNAL_NAME);
    journal->buf = ngx_pnalloc(cf->pool, NGX_HTTP_LLM_BUDGET_JOURNAL_BUF);

    if (journal->path == NULL || journal->buf == NULL) {
        return NULL;
    }

    journal->pos = journal->buf;
    journal->last = journal->buf;

    /* data is of its own: the folder is nobody else's */

    path->name = journal->dir;
    path->data = journal;
    path->conf_file = cf->conf_file->file.name.data;
    path->line = cf->conf_file->line;

    if (ngx_add_path(cf, &path) != NGX_OK) {
        return NULL;
    }

    return journal;
}


static void
ngx_http_llm_budget_journal_cleanup(void *data)
{
    ngx_http_llm_budget_journal_done(data);
}


void
ngx_http_llm_budget_journal_init(ngx_http_llm_budget_journal_t *journal,
    ngx_log_t *log)
{
    journal->log = log;

    if (journal->live) {
        return;
    }

    journal->count_at = ngx_current_msec;
    journal->adopt_at = ngx_current_msec;
    journal->write_quiet = ngx_current_msec;
    journal->read_quiet = ngx_current_msec;
    journal->refused_quiet = ngx_current_msec;
    journal->failed = ngx_current_msec;

    journal->live = 1;

    if (access((const char *) journal->dir.data, R_OK|W_OK|X_OK) == -1) {
        ngx_log_error(NGX_LOG_CRIT, log, ngx_errno,
                      "llm_budget: the journal \"%V\" cannot be used",
                      &journal->dir);
    }
}


ngx_int_t
ngx_http_llm_budget_journal_write(ngx_http_llm_budget_journal_t *journal,
    u_char *line, size_t len)
{
    ngx_err_t                            err;
    ngx_str_t                            text;
    ngx_http_llm_budget_journal_file_t  *own;

    own = &journal->own;

    if (len == 0 || len > LLMB_RECORD_LEN
        || ngx_strlchr(line, line + len, LF))
    {
        ngx_log_error(NGX_LOG_ALERT, journal->log, 0,
                      "llm_budget: %uz bytes are no line of a journal", len);
        return NGX_ERROR;
    }

    if (!journal->live) {
        ngx_log_error(NGX_LOG_ERR, journal->log, 0,
                      "llm_budget: the journal in \"%V\" is not open",
                      &journal->dir);
        return NGX_ERROR;
    }

    if (ngx_http_llm_budget_journal_fits(journal, len + 1) != NGX_OK) {

        if (ngx_http_llm_budget_journal_due(&journal->write_quiet,
                                            NGX_HTTP_LLM_BUDGET_JOURNAL_QUIET))
        {
            ngx_log_error(NGX_LOG_CRIT, journal->log, 0,
                          "llm_budget: the journal in \"%V\" is full: %O of "
                          "%O bytes; spend of refused calls is not recorded",
                          &journal->dir, own->size + journal->others,
                          journal->max_len);
        }

        return NGX_ERROR;
    }

    if (ngx_http_llm_budget_journal_ready(journal) != NGX_OK) {
        journal->failed = ngx_current_msec + NGX_HTTP_LLM_BUDGET_JOURNAL_SCAN;
        return NGX_ERROR;
    }

    text.len = len;
    text.data = line;

    err = ngx_http_llm_budget_journal_append(own->fd, own->size, journal->cut,
                                             NGX_HTTP_LLM_BUDGET_JOURNAL_NEW,
                                             &text);

    if (err == 0) {
        own->size += (off_t) len + 2 + journal->cut;
        journal->cut = 0;
        journal->doubt = 0;
        journal->failed = ngx_current_msec;
        return NGX_OK;
    }

    journal->doubt = 1;
    journal->failed = ngx_current_msec + NGX_HTTP_LLM_BUDGET_JOURNAL_SCAN;

    if (ngx_http_llm_budget_journal_due(&journal->write_quiet,
                                        NGX_HTTP_LLM_BUDGET_JOURNAL_QUIET))
    {
        ngx_log_error(NGX_LOG_CRIT, journal->log, err,
                      "llm_budget: writing to the journal \"%V/%s\" failed; "
                      "spend of refused calls is not recorded",
                      &journal->dir, own->name);
    }

    return NGX_ERROR;
}


void
ngx_http_llm_budget_journal_flush(ngx_http_llm_budget_journal_t *journal)
{
    if (journal->own.fd == NGX_INVALID_FILE || journal->own.size == 0) {
        return;
    }

    if (fsync(journal->own.fd) == -1) {
        ngx_log_error(NGX_LOG_CRIT, journal->log, ngx_errno,
                      "llm_budget: fsync() \"%V/%s\" failed",
                      &journal->dir, journal->own.name);
    }
}


/*
 * After a failure there is none for a second: then it is tried, with a file
 * and with room on the disk, before anybody's charge depends on it.
 */

ngx_int_t
ngx_http_llm_budget_journal_room(ngx_http_llm_budget_journal_t *journal)
{
    if (!journal->live
        || (ngx_msec_int_t) (journal->failed - ngx_current_msec) > 0
        || ngx_http_llm_budget_journal_fits(journal, LLMB_RECORD_LEN + 1)
           != NGX_OK)
    {
        return NGX_DECLINED;
    }

    if ((journal->doubt || journal->own.fd == NGX_INVALID_FILE)
        && ngx_http_llm_budget_journal_probe(journal) != NGX_OK)
    {
        journal->failed = ngx_current_msec + NGX_HTTP_LLM_BUDGET_JOURNAL_SCAN;
        return NGX_DECLINED;
    }

    return NGX_OK;
}


ngx_uint_t
ngx_http_llm_budget_journal_pending(ngx_http_llm_budget_journal_t *journal)
{
    return journal->own.size > 0;
}


void
ngx_http_llm_budget_journal_done(ngx_http_llm_budget_journal_t *journal)
{
    u_char  *path;

    if (!journal->live) {
        return;
    }

    journal->live = 0;

    if (journal->own.fd != NGX_INVALID_FILE && journal->own.size == 0) {
        path = ngx_http_llm_budget_journal_path(journal, "",
                                                journal->own.name);

        if (ngx_delete_file(path) == NGX_FILE_ERROR
            && ngx_errno != NGX_ENOENT)
        {
            ngx_log_error(NGX_LOG_ERR, journal->log, ngx_errno,
                          ngx_delete_file_n " \"%s\" failed", path);
        }
    }

    ngx_http_llm_budget_journal_close(&journal->own);
    ngx_http_llm_budget_journal_close(&journal->adopted);

    journal->current = &journal->own;
    journal->last = journal->pos;
    ngx_str_null(&journal->line);
}
