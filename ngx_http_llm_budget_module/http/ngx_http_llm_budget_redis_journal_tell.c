
/*
 * Copyright (C) the ngx_http_llm_budget_module authors
 *
 * The journal: what is told again of this worker's file, and of one that is
 * adopted.
 */


#include "http/ngx_http_llm_budget_redis_journal.h"
#include "http/ngx_http_llm_budget_redis_journal_file.h"


static ngx_http_llm_budget_journal_file_t *ngx_http_llm_budget_journal_choose(
    ngx_http_llm_budget_journal_t *journal);
static void ngx_http_llm_budget_journal_answered(
    ngx_http_llm_budget_journal_t *journal);
static void ngx_http_llm_budget_journal_finish(
    ngx_http_llm_budget_journal_t *journal,
    ngx_http_llm_budget_journal_file_t *file);


ngx_int_t
ngx_http_llm_budget_journal_next(ngx_http_llm_budget_journal_t *journal,
    ngx_str_t *line, ngx_uint_t *sent, off_t *place)
{
    ngx_int_t                            rc;
    ngx_uint_t                           i;
    ngx_http_llm_budget_journal_file_t  *file;

    ngx_str_null(&journal->line);

    if (!journal->live) {
        return NGX_DONE;
    }

    /* own, adopted, and one that is adopted now */

    for (i = 0; i < 3; i++) {
        file = ngx_http_llm_budget_journal_choose(journal);

        if (file == NULL) {
            return NGX_DONE;
        }

        rc = ngx_http_llm_budget_journal_read_line(journal, file);

        if (rc == NGX_OK) {
            file->given++;

            /* without its state, where it has one */

            *line = journal->line;
            *sent = (line->data[0] == NGX_HTTP_LLM_BUDGET_JOURNAL_SENT);
            *place = journal->place;

            if (*sent || line->data[0] == NGX_HTTP_LLM_BUDGET_JOURNAL_NEW) {
                line->data++;
                line->len--;
            }

            return NGX_OK;
        }

        if (rc == NGX_ERROR) {
            return NGX_ERROR;
        }

        if (rc == NGX_AGAIN || file->given != file->told) {
            return NGX_DONE;
        }

        /* rc == NGX_DONE, and no line is under way */

        ngx_http_llm_budget_journal_finish(journal, file);
    }

    return NGX_DONE;
}


/*
 * Lines under way are always of one file, so that those told can be counted.
 * Where own has lines, an adopted one is left as soon as none is under way.
 */

static ngx_http_llm_budget_journal_file_t *
ngx_http_llm_budget_journal_choose(ngx_http_llm_budget_journal_t *journal)
{
    ngx_http_llm_budget_journal_file_t  *file;

    file = journal->current;

    if (file->given != file->told) {

        if (file == &journal->adopted
            && journal->own.next < journal->own.size)
        {
            return NULL;
        }

        return file;
    }

    file = &journal->own;

    if (file->next == file->size) {
        file = &journal->adopted;

        if (file->fd == NGX_INVALID_FILE
            && ngx_http_llm_budget_journal_due(&journal->adopt_at,
                                          NGX_HTTP_LLM_BUDGET_JOURNAL_SCAN))
        {
            ngx_http_llm_budget_journal_scan(journal, 1);
        }

        if (file->fd == NGX_INVALID_FILE) {
            return NULL;
        }
    }

    if (file != journal->current) {
        journal->current = file;
        journal->last = journal->pos;
    }

    return file;
}


void
ngx_http_llm_budget_journal_told(ngx_http_llm_budget_journal_t *journal,
    off_t place)
{
    ngx_http_llm_budget_journal_mark(journal, place,
                                     NGX_HTTP_LLM_BUDGET_JOURNAL_TOLD);
    ngx_http_llm_budget_journal_answered(journal);
}


void
ngx_http_llm_budget_journal_leave(ngx_http_llm_budget_journal_t *journal,
    off_t place, ngx_uint_t sent, u_char *line, size_t len)
{
    if (journal->current == &journal->adopted
        && ngx_http_llm_budget_journal_write(journal, line, len) == NGX_OK)
    {
        ngx_http_llm_budget_journal_told(journal, place);
        return;
    }

    if (sent) {
        ngx_http_llm_budget_journal_mark(journal, place,
                                         NGX_HTTP_LLM_BUDGET_JOURNAL_SENT);
    }

    journal->current->left++;

    ngx_http_llm_budget_journal_answered(journal);
}


/* one line less is under way */

static void
ngx_http_llm_budget_journal_answered(ngx_http_llm_budget_journal_t *journal)
{
    ngx_http_llm_budget_journal_file_t  *file;

    file = journal->current;

    if (file->told == file->given) {
        ngx_log_error(NGX_LOG_ALERT, journal->log, 0,
                      "llm_budget: a line of a journal was told twice");
        return;
    }

    file->told++;

    if (file->told == file->given && file->next == file->size) {
        ngx_http_llm_budget_journal_finish(journal, file);
    }
}


ngx_uint_t
ngx_http_llm_budget_journal_left(ngx_http_llm_budget_journal_t *journal)
{
    return journal->own.left + journal->adopted.left;
}


/* All lines of the file were told. */

static void
ngx_http_llm_budget_journal_finish(ngx_http_llm_budget_journal_t *journal,
    ngx_http_llm_budget_journal_file_t *file)
{
    u_char      *path;
    ngx_err_t    err;
    const char  *what;

    err = 0;

    if (file->left) {

        /* until a rewind */

        return;
    }

    if (file == &journal->own) {
        what = "ftruncate()";

        if (ftruncate(file->fd, 0) == -1) {
            err = ngx_errno;
        }

    } else {
        what = ngx_delete_file_n;
        path = ngx_http_llm_budget_journal_path(journal, "", file->name);

        if (ngx_delete_file(path) == NGX_FILE_ERROR
            && ngx_errno != NGX_ENOENT)
        {
            err = ngx_errno;

            /* at least nobody tells it all again */

            (void) !ftruncate(file->fd, 0);
        }
    }

    if (err == 0) {
        ngx_log_error(NGX_LOG_NOTICE, journal->log, 0,
                      "llm_budget: all %ui lines of the journal \"%V/%s\" "
                      "were told", file->told, &journal->dir, file->name);

    } else if (ngx_http_llm_budget_journal_due(&journal->read_quiet,
                                         NGX_HTTP_LLM_BUDGET_JOURNAL_QUIET))
    {
        ngx_log_error(NGX_LOG_CRIT, journal->log, err,
                      "llm_budget: %s \"%V/%s\" failed, all of which was told",
                      what, &journal->dir, file->name);
    }

    journal->last = journal->pos;

    if (file == &journal->adopted) {
        journal->others -= ngx_min(journal->others, file->size);
        journal->current = &journal->own;
        ngx_http_llm_budget_journal_close(file);

        if (err == 0) {
            journal->adopt_at = ngx_current_msec;
        }

        return;
    }

    file->given = 0;
    file->told = 0;

    if (err == 0) {
        file->size = 0;
        file->next = 0;
        journal->cut = 0;
    }
}


void
ngx_http_llm_budget_journal_bad(ngx_http_llm_budget_journal_t *journal)
{
    ngx_err_t                            err;
    ngx_http_llm_budget_journal_file_t  *file;

    if (journal->line.len == 0) {
        return;
    }

    file = journal->current;

    err = ngx_http_llm_budget_journal_keep(journal, file->name,
                                           &journal->line);
    if (ngx_http_llm_budget_journal_due(&journal->read_quiet,
                                        NGX_HTTP_LLM_BUDGET_JOURNAL_QUIET))
    {
        ngx_log_error(NGX_LOG_CRIT, journal->log, err,
                      "llm_budget: a line of the journal \"%V/%s\" is damaged, "
                      "and %s \"bad.%s\"", &journal->dir, file->name,
                      err ? "could not be kept in" : "is kept in", file->name);
    }

    ngx_str_null(&journal->line);
    ngx_http_llm_budget_journal_told(journal, journal->place);
}


ngx_int_t
ngx_http_llm_budget_journal_refused(ngx_http_llm_budget_journal_t *journal,
    u_char *line, size_t len)
{
    u_char     name[NGX_HTTP_LLM_BUDGET_JOURNAL_NAME];
    ngx_err_t  err;
    ngx_str_t  text;

    if (!journal->live) {
        return NGX_ERROR;
    }

    text.len = len;
    text.data = line;

    ngx_sprintf(name, "journal.%s.%P.0%Z", journal->store, ngx_pid);

    err = ngx_http_llm_budget_journal_keep(journal, name, &text);

    if (ngx_http_llm_budget_journal_due(&journal->refused_quiet,
                                        NGX_HTTP_LLM_BUDGET_JOURNAL_QUIET))
    {
        ngx_log_error(NGX_LOG_CRIT, journal->log, err,
                      "llm_budget: a charge that redis refuses for ever %s "
                      "\"%V/bad.%s\"",
                      err ? "could not be kept in" : "is kept in",
                      &journal->dir, name);
    }

    return err ? NGX_ERROR : NGX_OK;
}


void
ngx_http_llm_budget_journal_rewind(ngx_http_llm_budget_journal_t *journal)
{
    journal->own.next = 0;
    journal->own.given = 0;
    journal->own.told = 0;
    journal->own.left = 0;

    journal->adopted.next = 0;
    journal->adopted.given = 0;
    journal->adopted.told = 0;
    journal->adopted.left = 0;

    journal->last = journal->pos;
    ngx_str_null(&journal->line);
}
