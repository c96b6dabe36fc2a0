
/*
 * Copyright (C) the ngx_http_llm_budget_module authors
 *
 * The journal's files: the making of this worker's own, appending to one, and
 * reading its lines.
 */


#include "http/ngx_http_llm_budget_redis_journal_file.h"


static ngx_int_t ngx_http_llm_budget_journal_open_own(
    ngx_http_llm_budget_journal_t *journal);
static ngx_int_t ngx_http_llm_budget_journal_fill(
    ngx_http_llm_budget_journal_t *journal,
    ngx_http_llm_budget_journal_file_t *file, size_t len);


/* what a probe writes */

static u_char  ngx_http_llm_budget_journal_feeds[LLMB_RECORD_LEN];


ngx_int_t
ngx_http_llm_budget_journal_ready(ngx_http_llm_budget_journal_t *journal)
{
    off_t                                size;
    const char                          *what;
    ngx_err_t                            err;
    ngx_int_t                            rc;
    ngx_file_info_t                      fi;
    ngx_http_llm_budget_journal_file_t  *own;

    own = &journal->own;

    if (own->fd == NGX_INVALID_FILE) {
        return ngx_http_llm_budget_journal_open_own(journal);
    }

    rc = NGX_OK;
    err = 0;
    what = NULL;

    if (ngx_fd_info(own->fd, &fi) == NGX_FILE_ERROR) {
        rc = NGX_ERROR;
        err = ngx_errno;
        what = "cannot be read";
        goto done;
    }

    size = ngx_file_size(&fi);

    if (fi.st_nlink == 0) {

        if (own->size == 0 && own->given == own->told) {
            ngx_http_llm_budget_journal_close(own);
            return ngx_http_llm_budget_journal_open_own(journal);
        }

        what = "was removed by someone, and will be lost with its worker";
    }

    if (size > own->size) {

        /* the rest of a write that failed */

        if (ftruncate(own->fd, own->size) == -1) {
            rc = NGX_ERROR;
            err = ngx_errno;
            what = "cannot be cut";
        }

    } else if (size < own->size) {
        what = "was cut by someone";

        own->size = size;
        journal->cut = (size > 0);

        own->next = ngx_min(own->next, size);

        if (journal->current == own) {
            journal->last = journal->pos;
        }
    }

done:

    if (what
        && ngx_http_llm_budget_journal_due(&journal->write_quiet,
                                           NGX_HTTP_LLM_BUDGET_JOURNAL_QUIET))
    {
        ngx_log_error(NGX_LOG_CRIT, journal->log, err,
                      "llm_budget: the journal \"%V/%s\" %s",
                      &journal->dir, own->name, what);
    }

    return rc;
}


/*
 * Another worker may adopt and remove the new file before it is locked: then
 * it is not the one of that name, and another is made.
 */

static ngx_int_t
ngx_http_llm_budget_journal_open_own(ngx_http_llm_budget_journal_t *journal)
{
    u_char                              *path;
    ngx_fd_t                             fd;
    ngx_err_t                            err;
    ngx_uint_t                           n;
    const char                          *what;
    ngx_file_info_t                      fi;
    ngx_http_llm_budget_journal_file_t  *own;

    own = &journal->own;
    what = "finding a name like";
    err = 0;

    journal->cut = 0;

    if (journal->current == own) {
        journal->last = journal->pos;
    }

    for (n = 0; n < NGX_HTTP_LLM_BUDGET_JOURNAL_TRIES; n++) {

        ngx_sprintf(own->name, "journal.%s.%P.%ui%Z", journal->store, ngx_pid,
                    n);
        path = ngx_http_llm_budget_journal_path(journal, "", own->name);

        fd = ngx_open_file(path, NGX_FILE_RDWR|O_APPEND,
                           NGX_FILE_CREATE_OR_OPEN|O_EXCL,
                           NGX_FILE_OWNER_ACCESS);

        if (fd == NGX_INVALID_FILE) {
            err = ngx_errno;

            if (err == NGX_EEXIST) {
                continue;
            }

            what = ngx_open_file_n;
            break;
        }

        err = ngx_trylock_fd(fd);

        if (err == 0
            && ngx_fd_info(fd, &fi) != NGX_FILE_ERROR
            && fi.st_nlink > 0)
        {
            own->fd = fd;
            own->dev = fi.st_dev;
            own->ino = fi.st_ino;

            return NGX_OK;
        }

        (void) ngx_close_file(fd);

        if (err && err != NGX_EAGAIN && err != NGX_EACCES) {
            (void) ngx_delete_file(path);
            what = ngx_trylock_fd_n;
            break;
        }
    }

    if (ngx_http_llm_budget_journal_due(&journal->write_quiet,
                                        NGX_HTTP_LLM_BUDGET_JOURNAL_QUIET))
    {
        ngx_log_error(NGX_LOG_CRIT, journal->log, err,
                      "llm_budget: %s \"%V/%s\" failed; spend of refused "
                      "calls is not recorded",
                      what, &journal->dir, own->name);
    }

    return NGX_ERROR;
}


ngx_err_t
ngx_http_llm_budget_journal_append(ngx_fd_t fd, off_t size, ngx_uint_t cut,
    u_char state, ngx_str_t *line)
{
    int           i;
    size_t        total;
    ssize_t       n;
    struct iovec  iov[4];

    i = 0;
    total = line->len + 1;

    if (cut) {
        iov[i].iov_base = (void *) "\n";
        iov[i++].iov_len = 1;
        total++;
    }

    if (state) {
        iov[i].iov_base = &state;
        iov[i++].iov_len = 1;
        total++;
    }

    iov[i].iov_base = (void *) line->data;
    iov[i++].iov_len = line->len;
    iov[i].iov_base = (void *) "\n";
    iov[i++].iov_len = 1;

    do {
        n = writev(fd, iov, i);
    } while (n == -1 && ngx_errno == NGX_EINTR);

    if (n == (ssize_t) total) {
        return 0;
    }

    if (n == -1) {
        return ngx_errno;
    }

    /* the disk is full; what stays here, ..._ready() will cut */

    (void) !ftruncate(fd, size);

    return NGX_ENOSPC;
}


/* a descriptor that appends writes nowhere else: it must not, for a moment */

void
ngx_http_llm_budget_journal_mark(ngx_http_llm_budget_journal_t *journal,
    off_t place, u_char state)
{
    int      flags;
    ssize_t  n;

    ngx_http_llm_budget_journal_file_t  *file;

    file = journal->current;

    flags = fcntl(file->fd, F_GETFL);

    if (flags != -1 && (flags & O_APPEND)) {
        (void) fcntl(file->fd, F_SETFL, flags & ~O_APPEND);
    }

    do {
        n = pwrite(file->fd, &state, 1, place);
    } while (n == -1 && ngx_errno == NGX_EINTR);

    if (n != 1
        && ngx_http_llm_budget_journal_due(&journal->read_quiet,
                                           NGX_HTTP_LLM_BUDGET_JOURNAL_QUIET))
    {
        ngx_log_error(NGX_LOG_CRIT, journal->log, ngx_errno,
                      "llm_budget: pwrite() \"%V/%s\" failed: its lines may "
                      "be told again", &journal->dir, file->name);
    }

    if (flags != -1 && (flags & O_APPEND)) {
        (void) fcntl(file->fd, F_SETFL, flags);
    }
}


ngx_err_t
ngx_http_llm_budget_journal_keep(ngx_http_llm_budget_journal_t *journal,
    u_char *name, ngx_str_t *line)
{
    u_char           *path;
    ngx_fd_t          fd;
    ngx_err_t         err;
    ngx_file_info_t   fi;

    if (ngx_http_llm_budget_journal_fits(journal, line->len) != NGX_OK) {
        return NGX_ENOSPC;
    }

    path = ngx_http_llm_budget_journal_path(journal, "bad.", name);

    fd = ngx_open_file(path, O_WRONLY|O_APPEND|O_NOFOLLOW|O_NONBLOCK,
                       NGX_FILE_CREATE_OR_OPEN, NGX_FILE_OWNER_ACCESS);

    if (fd == NGX_INVALID_FILE) {
        return ngx_errno;
    }

    if (ngx_fd_info(fd, &fi) == NGX_FILE_ERROR) {
        err = ngx_errno;

    } else {
        err = ngx_http_llm_budget_journal_append(fd, ngx_file_size(&fi), 0, 0,
                                                 line);
    }

    (void) ngx_close_file(fd);

    if (err == 0) {
        journal->others += (off_t) line->len + 1;
    }

    return err;
}


/*
 * The file is there; and where a write has failed, so many line feeds fit as
 * the largest record has bytes.  They are no lines, and are cut off again.
 */

ngx_int_t
ngx_http_llm_budget_journal_probe(ngx_http_llm_budget_journal_t *journal)
{
    ngx_str_t                            text;
    ngx_http_llm_budget_journal_file_t  *own;

    own = &journal->own;

    if (ngx_http_llm_budget_journal_ready(journal) != NGX_OK) {
        return NGX_ERROR;
    }

    if (!journal->doubt) {
        return NGX_OK;
    }

    text.len = LLMB_RECORD_LEN;
    text.data = ngx_http_llm_budget_journal_feeds;

    ngx_memset(text.data, LF, text.len);

    if (ngx_http_llm_budget_journal_append(own->fd, own->size, 0, 0, &text)
        != 0
        || ftruncate(own->fd, own->size) == -1)
    {
        return NGX_ERROR;
    }

    journal->doubt = 0;

    return NGX_OK;
}


ngx_int_t
ngx_http_llm_budget_journal_read_line(ngx_http_llm_budget_journal_t *journal,
    ngx_http_llm_budget_journal_file_t *file)
{
    size_t      len;
    u_char     *lf;
    ngx_int_t   rc;
    ngx_uint_t  n;

    n = 0;

    for ( ;; ) {
        len = journal->last - journal->pos;
        lf = len ? memchr(journal->pos, LF, len) : NULL;

        if (lf) {
            len = lf - journal->pos;
        }

        if (len > NGX_HTTP_LLM_BUDGET_JOURNAL_PIECE) {
            len = NGX_HTTP_LLM_BUDGET_JOURNAL_PIECE;
            lf = NULL;
        }

        if (lf == NULL && len < NGX_HTTP_LLM_BUDGET_JOURNAL_PIECE) {

            if (file->next + (off_t) len < file->size) {
                rc = ngx_http_llm_budget_journal_fill(journal, file, len);

                if (rc != NGX_OK) {
                    return rc;
                }

                continue;
            }

            if (len == 0) {
                return NGX_DONE;
            }
        }

        journal->line.data = journal->pos;
        journal->line.len = len;
        journal->place = file->next;

        if (lf) {
            len++;
        }

        journal->pos += len;
        file->next += len;

        if (journal->line.len
            && journal->line.data[0] != NGX_HTTP_LLM_BUDGET_JOURNAL_TOLD)
        {
            return NGX_OK;
        }

        if (++n == NGX_HTTP_LLM_BUDGET_JOURNAL_BUF) {
            return NGX_AGAIN;
        }
    }
}


/* Reads on behind the len bytes that the buffer has. */

static ngx_int_t
ngx_http_llm_budget_journal_fill(ngx_http_llm_budget_journal_t *journal,
    ngx_http_llm_budget_journal_file_t *file, size_t len)
{
    off_t    offset, rest;
    size_t   size;
    ssize_t  n;

    ngx_memmove(journal->buf, journal->pos, len);
    journal->pos = journal->buf;
    journal->last = journal->buf + len;

    offset = file->next + (off_t) len;
    rest = file->size - offset;
    size = NGX_HTTP_LLM_BUDGET_JOURNAL_BUF - len;

    if (rest < (off_t) size) {
        size = (size_t) rest;
    }

    do {
        n = pread(file->fd, journal->last, size, offset);
    } while (n == -1 && ngx_errno == NGX_EINTR);

    if (n > 0) {
        journal->last += n;
        return NGX_OK;
    }

    if (ngx_http_llm_budget_journal_due(&journal->read_quiet,
                                        NGX_HTTP_LLM_BUDGET_JOURNAL_QUIET))
    {
        ngx_log_error(NGX_LOG_CRIT, journal->log, (n == -1) ? ngx_errno : 0,
                      "llm_budget: %s the journal \"%V/%s\"",
                      (n == -1) ? "pread() failed, reading"
                                : "someone has cut",
                      &journal->dir, file->name);
    }

    if (n == -1) {
        return NGX_ERROR;
    }

    /* n == 0: the file is shorter than it was */

    file->size = offset;

    if (file == &journal->own) {
        journal->cut = (offset > 0);
    }

    return NGX_OK;
}


u_char *
ngx_http_llm_budget_journal_path(ngx_http_llm_budget_journal_t *journal,
    const char *prefix, u_char *name)
{
    ngx_sprintf(journal->path, "%V/%s%s%Z", &journal->dir, prefix, name);

    return journal->path;
}


void
ngx_http_llm_budget_journal_close(ngx_http_llm_budget_journal_file_t *file)
{
    if (file->fd != NGX_INVALID_FILE) {
        (void) ngx_close_file(file->fd);
    }

    ngx_memzero(file, sizeof(ngx_http_llm_budget_journal_file_t));
    file->fd = NGX_INVALID_FILE;
}


ngx_uint_t
ngx_http_llm_budget_journal_due(ngx_msec_t *at, ngx_msec_t period)
{
    if ((ngx_msec_int_t) (ngx_current_msec - *at) < 0) {
        return 0;
    }

    *at = ngx_current_msec + period;

    return 1;
}
