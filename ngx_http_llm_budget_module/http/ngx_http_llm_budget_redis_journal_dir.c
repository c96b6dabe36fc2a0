
/*
 * Copyright (C) the ngx_http_llm_budget_module authors
 *
 * The journal's folder.  A file is locked from its creation to its end, and a
 * lock dies with its process: a file that can be locked has lost its worker.
 * POSIX locks have two edges.  They do not keep out the process that has them,
 * and they go when it closes any descriptor of the file: so this worker's own
 * file is known by its inode, and is never opened again, and no file is opened
 * while one is adopted.  A process has one journal.
 */


#include "http/ngx_http_llm_budget_redis_journal_file.h"


static void ngx_http_llm_budget_journal_adopt(
    ngx_http_llm_budget_journal_t *journal, u_char *name, u_char *path);
static ngx_uint_t ngx_http_llm_budget_journal_is_name(u_char *name);


ngx_int_t
ngx_http_llm_budget_journal_check_dir(ngx_conf_t *cf, ngx_str_t *dir)
{
    ngx_file_info_t  fi;

    if (ngx_file_info(dir->data, &fi) == NGX_FILE_ERROR) {

        if (ngx_errno == NGX_ENOENT) {
            return NGX_OK;
        }

        ngx_conf_log_error(NGX_LOG_EMERG, cf, ngx_errno,
                           ngx_file_info_n " \"%V\" failed", dir);
        return NGX_ERROR;
    }

    if (!ngx_is_dir(&fi)) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "llm_budget: the journal \"%V\" is not a folder",
                           dir);
        return NGX_ERROR;
    }

    if (fi.st_mode & S_IWOTH) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "llm_budget: the journal \"%V\" can be written by "
                           "everybody", dir);
        return NGX_ERROR;
    }

    if (geteuid() != 0
        && access((const char *) dir->data, R_OK|W_OK|X_OK) == -1)
    {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, ngx_errno,
                           "llm_budget: the journal \"%V\" cannot be used",
                           dir);
        return NGX_ERROR;
    }

    return NGX_OK;
}


ngx_int_t
ngx_http_llm_budget_journal_fits(ngx_http_llm_budget_journal_t *journal,
    size_t len)
{
    if (ngx_http_llm_budget_journal_due(&journal->count_at,
                                        NGX_HTTP_LLM_BUDGET_JOURNAL_SCAN))
    {
        ngx_http_llm_budget_journal_scan(journal, 0);
    }

    /* a line feed after, and one before where the file was cut */

    if (journal->own.size + journal->others + (off_t) len + 2
        > journal->max_len)
    {
        return NGX_DECLINED;
    }

    return NGX_OK;
}


void
ngx_http_llm_budget_journal_scan(ngx_http_llm_budget_journal_t *journal,
    ngx_uint_t adopt)
{
    off_t             size;
    u_char           *name, *path;
    ngx_dir_t         dir;
    ngx_err_t         err;
    ngx_uint_t        n, journals;
    const char       *what;
    ngx_file_info_t   fi;

    size = 0;
    err = 0;
    what = NULL;
    journal->count_at = ngx_current_msec + NGX_HTTP_LLM_BUDGET_JOURNAL_SCAN;

    if (ngx_open_dir(&journal->dir, &dir) != NGX_OK) {
        err = ngx_errno;
        what = ngx_open_dir_n " failed";
        goto done;
    }

    for (n = 0; n < NGX_HTTP_LLM_BUDGET_JOURNAL_ENTRIES; n++) {

        ngx_set_errno(0);

        if (ngx_read_dir(&dir) != NGX_OK) {
            err = ngx_errno;
            what = err ? ngx_read_dir_n " failed" : NULL;
            break;
        }

        name = ngx_de_name(&dir);
        journals = ngx_http_llm_budget_journal_is_name(name);

        if (!journals && ngx_strncmp(name, "bad.journal.", 12) != 0) {
            continue;
        }

        if (ngx_de_namelen(&dir) >= NGX_HTTP_LLM_BUDGET_JOURNAL_NAME) {
            continue;
        }

        path = ngx_http_llm_budget_journal_path(journal, "", name);

        if (ngx_link_info(path, &fi) == NGX_FILE_ERROR || !ngx_is_file(&fi)) {
            continue;
        }

        if (journal->own.fd != NGX_INVALID_FILE
            && journal->own.ino == fi.st_ino
            && journal->own.dev == fi.st_dev)
        {
            continue;
        }

        size += ngx_file_size(&fi);

        if (adopt && journals && journal->adopted.fd == NGX_INVALID_FILE) {
            ngx_http_llm_budget_journal_adopt(journal, name, path);
        }
    }

    if (n == NGX_HTTP_LLM_BUDGET_JOURNAL_ENTRIES) {
        what = "has too many files";
    }

    (void) ngx_close_dir(&dir);

    journal->others = size;

done:

    if (what
        && ngx_http_llm_budget_journal_due(&journal->read_quiet,
                                           NGX_HTTP_LLM_BUDGET_JOURNAL_QUIET))
    {
        ngx_log_error(NGX_LOG_CRIT, journal->log, err,
                      "llm_budget: the journal \"%V\" cannot be looked "
                      "through: %s", &journal->dir, what);
    }
}


/* "journal.<store>.<pid>.<n>" */

static ngx_uint_t
ngx_http_llm_budget_journal_is_name(u_char *name)
{
    u_char      *p;
    ngx_uint_t   i;

    if (ngx_strncmp(name, "journal.", 8) != 0) {
        return 0;
    }

    p = name + 8;

    for (i = 0; i < NGX_HTTP_LLM_BUDGET_JOURNAL_STORE; i++) {

        if ((*p < '0' || *p > '9') && (*p < 'a' || *p > 'f')) {
            return 0;
        }

        p++;
    }

    for (i = 0; i < 2; i++) {

        if (*p++ != '.' || *p < '0' || *p > '9') {
            return 0;
        }

        while (*p >= '0' && *p <= '9') {
            p++;
        }
    }

    return *p == '\0';
}


/*
 * The lock decides who has it; the file may have been removed by the one who
 * had it before.  An empty one of a worker that is gone is just removed.  One
 * of another store stays, and is spoken of once.
 */

static void
ngx_http_llm_budget_journal_adopt(ngx_http_llm_budget_journal_t *journal,
    u_char *name, u_char *path)
{
    ngx_fd_t                             fd;
    ngx_err_t                            err;
    ngx_uint_t                           other;
    const char                          *what;
    ngx_file_info_t                      fi, named;
    ngx_http_llm_budget_journal_file_t  *file;

    what = ngx_open_file_n;
    other = ngx_memcmp(name + 8, journal->store,
                       NGX_HTTP_LLM_BUDGET_JOURNAL_STORE)
            != 0;

    if (other && journal->told_other) {
        return;
    }

    fd = ngx_open_file(path, NGX_FILE_RDWR|O_NOFOLLOW|O_NONBLOCK,
                       NGX_FILE_OPEN, 0);

    if (fd == NGX_INVALID_FILE) {
        err = ngx_errno;

        if (err == NGX_ENOENT || other) {
            return;
        }

        goto failed;
    }

    err = ngx_trylock_fd(fd);

    if (err) {
        (void) ngx_close_file(fd);

        if (err == NGX_EAGAIN || err == NGX_EACCES) {
            return;
        }

        what = ngx_trylock_fd_n;
        goto failed;
    }

    if (ngx_fd_info(fd, &fi) == NGX_FILE_ERROR
        || ngx_file_info(path, &named) == NGX_FILE_ERROR
        || fi.st_ino != named.st_ino
        || fi.st_dev != named.st_dev
        || !ngx_is_file(&fi))
    {
        (void) ngx_close_file(fd);
        return;
    }

    if (other) {
        (void) ngx_close_file(fd);

        if (ngx_file_size(&fi)) {
            journal->told_other = 1;
            ngx_log_error(NGX_LOG_WARN, journal->log, 0,
                          "llm_budget: the journal \"%s\" is of another redis, "
                          "prefix or database, and is not told; if it is of "
                          "this one, put \"%s\" into its name", path,
                          journal->store);
        }

        return;
    }

    if (ngx_file_size(&fi) == 0) {
        (void) ngx_delete_file(path);
        (void) ngx_close_file(fd);
        return;
    }

    file = &journal->adopted;

    file->fd = fd;
    file->size = ngx_file_size(&fi);

    ngx_cpystrn(file->name, name, NGX_HTTP_LLM_BUDGET_JOURNAL_NAME);

    ngx_log_error(NGX_LOG_NOTICE, journal->log, 0,
                  "llm_budget: the journal \"%s\" has lost its worker: its "
                  "%O bytes are told", path, file->size);
    return;

failed:

    if (ngx_http_llm_budget_journal_due(&journal->read_quiet,
                                        NGX_HTTP_LLM_BUDGET_JOURNAL_QUIET))
    {
        ngx_log_error(NGX_LOG_CRIT, journal->log, err,
                      "llm_budget: the journal \"%s\" cannot be adopted: "
                      "%s failed", path, what);
    }
}
