
/*
 * Copyright (C) the ngx_http_llm_budget_module authors
 *
 * Budget periods, with their own calendar: the C library's would read the
 * environment and, in part, the time zone.
 */


#include "core/llmb_period.h"

#include <string.h>


#define LLMB_PERIOD_MINUTE_MS   INT64_C(60000)
#define LLMB_PERIOD_HOUR_MS     INT64_C(3600000)
#define LLMB_PERIOD_DAY_MS      INT64_C(86400000)

/* from 0000-01-01T00:00:00Z to 9999-12-31T23:59:59.999Z */
#define LLMB_PERIOD_MIN_MS      INT64_C(-62167219200000)
#define LLMB_PERIOD_MAX_MS      INT64_C(253402300799999)

/* a cycle of the calendar, and 0000-03-01, a cycle's first day */
#define LLMB_PERIOD_CYCLE_YEARS 400
#define LLMB_PERIOD_CYCLE_DAYS  146097
#define LLMB_PERIOD_FIRST_DAY   719468


typedef struct {
    int64_t                 year;
    int64_t                 month;      /* 1 - 12 */
    int64_t                 day;        /* 1 - 31 */
} llmb_period_date_t;


static void llmb_period_block(llmb_period_t *period, int64_t now_ms,
    int64_t length_ms, size_t id_len);
static void llmb_period_week(llmb_period_t *period, int64_t days);
static void llmb_period_id(llmb_period_t *period, int64_t now_ms,
    size_t id_len);
static int64_t llmb_period_days(int64_t year, int64_t month, int64_t day);
static void llmb_period_date(int64_t days, llmb_period_date_t *date);
static int64_t llmb_period_floor(int64_t n, int64_t d);
static void llmb_period_digits(unsigned char *buf, int64_t n, size_t width);


/* in the order of llmb_period_e */

static const char *const  llmb_period_names[] = {
    "minute",
    "hour",
    "day",
    "week",
    "month",
    "year",
    "lifetime"
};

#define LLMB_PERIOD_N                                                         \
    (sizeof(llmb_period_names) / sizeof(llmb_period_names[0]))


llmb_rc_e
llmb_period_parse(const llmb_str_t *text, llmb_period_e *kind)
{
    size_t  i;

    for (i = 0; i < LLMB_PERIOD_N; i++) {

        if (text->len == strlen(llmb_period_names[i])
            && memcmp(text->data, llmb_period_names[i], text->len) == 0)
        {
            *kind = (llmb_period_e) i;
            return LLMB_OK;
        }
    }

    return LLMB_INVALID;
}


const char *
llmb_period_name(llmb_period_e kind)
{
    if ((size_t) kind >= LLMB_PERIOD_N) {
        return "unknown";
    }

    return llmb_period_names[kind];
}


llmb_rc_e
llmb_period_at(llmb_period_e kind, int64_t now_ms, llmb_period_t *period)
{
    int64_t             days, next;
    llmb_period_date_t  date;

    if (now_ms < 0 || now_ms > LLMB_PERIOD_MAX_MS) {
        return LLMB_INVALID;
    }

    days = now_ms / LLMB_PERIOD_DAY_MS;
    llmb_period_date(days, &date);

    switch (kind) {

    case LLMB_PERIOD_MINUTE:
        llmb_period_block(period, now_ms, LLMB_PERIOD_MINUTE_MS,
                          sizeof("2026-11-20T16:25") - 1);
        return LLMB_OK;

    case LLMB_PERIOD_HOUR:
        llmb_period_block(period, now_ms, LLMB_PERIOD_HOUR_MS,
                          sizeof("2026-11-20T16") - 1);
        return LLMB_OK;

    case LLMB_PERIOD_DAY:
        llmb_period_block(period, now_ms, LLMB_PERIOD_DAY_MS,
                          sizeof("2026-11-20") - 1);
        return LLMB_OK;

    case LLMB_PERIOD_WEEK:
        llmb_period_week(period, days);
        return LLMB_OK;

    case LLMB_PERIOD_MONTH:
        days = llmb_period_days(date.year, date.month, 1);
        next = (date.month == 12)
               ? llmb_period_days(date.year + 1, 1, 1)
               : llmb_period_days(date.year, date.month + 1, 1);

        llmb_period_id(period, now_ms, sizeof("2026-11") - 1);
        period->start_ms = days * LLMB_PERIOD_DAY_MS;
        period->end_ms = next * LLMB_PERIOD_DAY_MS;
        return LLMB_OK;

    case LLMB_PERIOD_YEAR:
        days = llmb_period_days(date.year, 1, 1);
        next = llmb_period_days(date.year + 1, 1, 1);

        llmb_period_id(period, now_ms, sizeof("2026") - 1);
        period->start_ms = days * LLMB_PERIOD_DAY_MS;
        period->end_ms = next * LLMB_PERIOD_DAY_MS;
        return LLMB_OK;

    case LLMB_PERIOD_LIFETIME:
        period->id_len = sizeof("lifetime") - 1;
        memcpy(period->id, "lifetime", sizeof("lifetime") - 1);
        period->start_ms = 0;
        period->end_ms = INT64_MAX;
        return LLMB_OK;
    }

    return LLMB_INVALID;
}


/* A period of fixed length, aligned to the epoch: there are no leap seconds. */

static void
llmb_period_block(llmb_period_t *period, int64_t now_ms, int64_t length_ms,
    size_t id_len)
{
    llmb_period_id(period, now_ms, id_len);
    period->start_ms = now_ms - now_ms % length_ms;
    period->end_ms = period->start_ms + length_ms;
}


/*
 * A week belongs to the year that has its Thursday, and its number counts
 * that year's Thursdays.  The first one, 1970-W01, begins before the epoch.
 */

static void
llmb_period_week(llmb_period_t *period, int64_t days)
{
    int64_t             monday, thursday, week;
    llmb_period_date_t  date;

    /* day 0 was a Thursday */

    monday = days - (days + 3) % 7;
    thursday = monday + 3;

    llmb_period_date(thursday, &date);
    week = (thursday - llmb_period_days(date.year, 1, 1)) / 7 + 1;

    llmb_period_digits(period->id, date.year, 4);
    period->id[4] = '-';
    period->id[5] = 'W';
    llmb_period_digits(period->id + 6, week, 2);

    period->id_len = sizeof("2026-W47") - 1;
    period->start_ms = monday * LLMB_PERIOD_DAY_MS;
    period->end_ms = (monday + 7) * LLMB_PERIOD_DAY_MS;
}


/* Most ids are the beginning of the time's text. */

static void
llmb_period_id(llmb_period_t *period, int64_t now_ms, size_t id_len)
{
    unsigned char  text[LLMB_PERIOD_TIME_LEN];

    llmb_period_format(text, now_ms);
    memcpy(period->id, text, id_len);
    period->id_len = id_len;
}


size_t
llmb_period_format(unsigned char *buf, int64_t time_ms)
{
    int64_t             days, rest;
    llmb_period_date_t  date;

    /* the end of "lifetime", or of the year 9999, still takes 20 bytes */

    if (time_ms > LLMB_PERIOD_MAX_MS) {
        time_ms = LLMB_PERIOD_MAX_MS;

    } else if (time_ms < LLMB_PERIOD_MIN_MS) {
        time_ms = LLMB_PERIOD_MIN_MS;
    }

    days = llmb_period_floor(time_ms, LLMB_PERIOD_DAY_MS);
    rest = time_ms - days * LLMB_PERIOD_DAY_MS;

    llmb_period_date(days, &date);

    memcpy(buf, "0000-00-00T00:00:00Z", LLMB_PERIOD_TIME_LEN);

    llmb_period_digits(buf, date.year, 4);
    llmb_period_digits(buf + 5, date.month, 2);
    llmb_period_digits(buf + 8, date.day, 2);
    llmb_period_digits(buf + 11, rest / LLMB_PERIOD_HOUR_MS, 2);
    llmb_period_digits(buf + 14, rest / LLMB_PERIOD_MINUTE_MS % 60, 2);
    llmb_period_digits(buf + 17, rest / 1000 % 60, 2);

    return LLMB_PERIOD_TIME_LEN;
}


/*
 * Days since the epoch of a date, and back.  Years are counted from March, so
 * that the leap day is the last one; months from March then begin on day
 * (153 * month + 2) / 5.
 */

static int64_t
llmb_period_days(int64_t year, int64_t month, int64_t day)
{
    int64_t  cycle, year_day;

    if (month <= 2) {
        year--;
        month += 12;
    }

    cycle = llmb_period_floor(year, LLMB_PERIOD_CYCLE_YEARS);
    year -= cycle * LLMB_PERIOD_CYCLE_YEARS;
    year_day = (153 * (month - 3) + 2) / 5 + day - 1;

    return cycle * LLMB_PERIOD_CYCLE_DAYS
           + year * 365 + year / 4 - year / 100 + year_day
           - LLMB_PERIOD_FIRST_DAY;
}


static void
llmb_period_date(int64_t days, llmb_period_date_t *date)
{
    int64_t  cycle, year, month;

    days += LLMB_PERIOD_FIRST_DAY;
    cycle = llmb_period_floor(days, LLMB_PERIOD_CYCLE_DAYS);
    days -= cycle * LLMB_PERIOD_CYCLE_DAYS;

    /* take out the leap days of 4, 100 and 400 years */

    year = (days - days / 1460 + days / 36524 - days / 146096) / 365;
    days -= year * 365 + year / 4 - year / 100;
    month = (5 * days + 2) / 153;

    date->day = days - (153 * month + 2) / 5 + 1;
    date->month = (month < 10) ? month + 3 : month - 9;
    date->year = year + cycle * LLMB_PERIOD_CYCLE_YEARS + (month >= 10);
}


/* Division downward; d is positive. */

static int64_t
llmb_period_floor(int64_t n, int64_t d)
{
    return n / d - (n % d < 0);
}


static void
llmb_period_digits(unsigned char *buf, int64_t n, size_t width)
{
    while (width != 0) {
        width--;
        buf[width] = (unsigned char) ('0' + n % 10);
        n /= 10;
    }
}
