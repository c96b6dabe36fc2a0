
/*
 * Copyright (C) the ngx_http_llm_budget_module authors
 *
 * Budget periods, compared with the calendar of the C library.
 */


#define _POSIX_C_SOURCE 200809L

#include "llmb_test.h"

#include <time.h>

#include "core/llmb_period.h"


#define MAX_MS      INT64_C(253402300799999)
#define RANDOM_RUNS 20000


static uint64_t  random_state = UINT64_C(0x9e3779b97f4a7c15);


static uint64_t
random_next(void)
{
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;

    return random_state;
}


/* Milliseconds of "2026-11-20T16:25:07Z", by the C library's own reading. */

static int64_t
ms(const char *text)
{
    int        year, month, day, hour, minute, second;
    int64_t    low, high, middle;
    time_t     t;
    struct tm  tm;
    char       buf[32];

    if (sscanf(text, "%d-%d-%dT%d:%d:%dZ", &year, &month, &day, &hour, &minute,
               &second)
        != 6)
    {
        abort();
    }

    /* a search, as C has no inverse of gmtime() */

    low = 0;
    high = MAX_MS / 1000;

    while (low < high) {
        middle = (low + high) / 2;
        t = (time_t) middle;
        gmtime_r(&t, &tm);
        strftime(buf, sizeof(buf), "%Y-%m-%dT%H:%M:%SZ", &tm);

        if (strcmp(buf, text) < 0) {
            low = middle + 1;

        } else {
            high = middle;
        }
    }

    return low * 1000;
}


/* The id and the text of a time agree with strftime(). */

static int
same_as_libc(int64_t now_ms)
{
    int            i, same;
    char           want[32];
    size_t         len;
    time_t         t;
    struct tm      tm;
    llmb_period_t  period;
    unsigned char  buf[LLMB_PERIOD_TIME_LEN];

    static const char *const  formats[] = {
        "%Y-%m-%dT%H:%M", "%Y-%m-%dT%H", "%Y-%m-%d", "%G-W%V", "%Y-%m", "%Y",
        "lifetime"
    };

    t = (time_t) (now_ms / 1000);
    gmtime_r(&t, &tm);
    same = 1;

    for (i = LLMB_PERIOD_MINUTE; i <= LLMB_PERIOD_LIFETIME; i++) {
        len = strftime(want, sizeof(want), formats[i], &tm);

        if (llmb_period_at((llmb_period_e) i, now_ms, &period) != LLMB_OK
            || period.id_len != len
            || memcmp(period.id, want, len) != 0)
        {
            printf("# %lld ms is \"%.*s\", not \"%s\"\n", (long long) now_ms,
                   (int) period.id_len, (const char *) period.id, want);
            same = 0;
        }
    }

    strftime(want, sizeof(want), "%Y-%m-%dT%H:%M:%SZ", &tm);

    if (llmb_period_format(buf, now_ms) != LLMB_PERIOD_TIME_LEN
        || memcmp(buf, want, LLMB_PERIOD_TIME_LEN) != 0)
    {
        printf("# %lld ms is \"%.20s\", not \"%s\"\n", (long long) now_ms,
               (const char *) buf, want);
        same = 0;
    }

    return same;
}


static int
same_id(const llmb_period_t *a, const llmb_period_t *b)
{
    return a->id_len == b->id_len && memcmp(a->id, b->id, a->id_len) == 0;
}


/*
 * The edges of the period: the first and the last moment inside have its id
 * and edges, the next one begins a period with another id.
 */

static int
edges_hold(llmb_period_e kind, int64_t now_ms)
{
    llmb_period_t  p, q;

    if (llmb_period_at(kind, now_ms, &p) != LLMB_OK
        || p.start_ms > now_ms
        || p.end_ms <= now_ms)
    {
        return 0;
    }

    if (p.start_ms >= 0
        && (llmb_period_at(kind, p.start_ms, &q) != LLMB_OK
            || !same_id(&p, &q)
            || q.start_ms != p.start_ms
            || q.end_ms != p.end_ms))
    {
        return 0;
    }

    if (p.start_ms > 0
        && (llmb_period_at(kind, p.start_ms - 1, &q) != LLMB_OK
            || same_id(&p, &q)
            || q.end_ms != p.start_ms))
    {
        return 0;
    }

    if (p.end_ms - 1 <= MAX_MS
        && (llmb_period_at(kind, p.end_ms - 1, &q) != LLMB_OK
            || !same_id(&p, &q)
            || q.start_ms != p.start_ms
            || q.end_ms != p.end_ms))
    {
        return 0;
    }

    if (p.end_ms <= MAX_MS
        && (llmb_period_at(kind, p.end_ms, &q) != LLMB_OK
            || same_id(&p, &q)
            || q.start_ms != p.end_ms))
    {
        return 0;
    }

    return 1;
}


static int
all_edges_hold(int64_t now_ms)
{
    int  i, held;

    held = 1;

    for (i = LLMB_PERIOD_MINUTE; i < LLMB_PERIOD_LIFETIME; i++) {

        if (!edges_hold((llmb_period_e) i, now_ms)) {
            printf("# %lld ms, kind %d\n", (long long) now_ms, i);
            held = 0;
        }
    }

    return held;
}


static void
test_names(void)
{
    int            i, bad;
    llmb_str_t     s;
    llmb_period_e  kind;
    unsigned char  buf[16];

    static const char *const  names[] = {
        "minute", "hour", "day", "week", "month", "year", "lifetime"
    };

    static const char *const  others[] = {
        "", "Day", "days", "da", "day ", "daily", "30d", "quarter", "unknown"
    };

    bad = 0;

    for (i = 0; i < 7; i++) {
        s.len = strlen(names[i]);
        s.data = buf;
        memcpy(buf, names[i], s.len);

        bad += (llmb_period_parse(&s, &kind) != LLMB_OK
                || (int) kind != i
                || strcmp(llmb_period_name(kind), names[i]) != 0);
    }

    is_int(bad, 0, "every period is read by its name");

    kind = LLMB_PERIOD_WEEK;

    for (i = 0; i < (int) (sizeof(others) / sizeof(others[0])); i++) {
        s.len = strlen(others[i]);
        s.data = buf;
        memcpy(buf, others[i], s.len);

        bad += (llmb_period_parse(&s, &kind) != LLMB_INVALID
                || kind != LLMB_PERIOD_WEEK);
    }

    is_int(bad, 0, "other words are no periods");
    ok(strcmp(llmb_period_name((llmb_period_e) 7), "unknown") == 0,
       "a kind out of range has a name still");
}


static void
test_ids(void)
{
    size_t         i;
    llmb_period_t  p;

    static const struct {
        llmb_period_e  kind;
        const char    *now;
        const char    *id;
        const char    *start;
        const char    *end;
    } cases[] = {
        { LLMB_PERIOD_MINUTE, "2026-11-20T16:25:07Z", "2026-11-20T16:25",
          "2026-11-20T16:25:00Z", "2026-11-20T16:26:00Z" },
        { LLMB_PERIOD_HOUR, "2026-11-20T16:25:07Z", "2026-11-20T16",
          "2026-11-20T16:00:00Z", "2026-11-20T17:00:00Z" },
        { LLMB_PERIOD_DAY, "2026-11-20T16:25:07Z", "2026-11-20",
          "2026-11-20T00:00:00Z", "2026-11-21T00:00:00Z" },
        { LLMB_PERIOD_WEEK, "2026-11-20T16:25:07Z", "2026-W47",
          "2026-11-16T00:00:00Z", "2026-11-23T00:00:00Z" },
        { LLMB_PERIOD_MONTH, "2026-11-20T16:25:07Z", "2026-11",
          "2026-11-01T00:00:00Z", "2026-12-01T00:00:00Z" },
        { LLMB_PERIOD_YEAR, "2026-11-20T16:25:07Z", "2026",
          "2026-01-01T00:00:00Z", "2027-01-01T00:00:00Z" },

        /* a month is a month, not thirty days */

        { LLMB_PERIOD_MONTH, "2026-10-30T23:59:59Z", "2026-10",
          "2026-10-01T00:00:00Z", "2026-11-01T00:00:00Z" },
        { LLMB_PERIOD_MONTH, "2026-10-31T23:59:59Z", "2026-10",
          "2026-10-01T00:00:00Z", "2026-11-01T00:00:00Z" },
        { LLMB_PERIOD_MONTH, "2028-02-29T12:00:00Z", "2028-02",
          "2028-02-01T00:00:00Z", "2028-03-01T00:00:00Z" },
        { LLMB_PERIOD_MONTH, "2027-02-28T23:59:59Z", "2027-02",
          "2027-02-01T00:00:00Z", "2027-03-01T00:00:00Z" },
        { LLMB_PERIOD_MONTH, "2026-12-31T23:59:59Z", "2026-12",
          "2026-12-01T00:00:00Z", "2027-01-01T00:00:00Z" },
        { LLMB_PERIOD_YEAR, "2028-12-31T23:59:59Z", "2028",
          "2028-01-01T00:00:00Z", "2029-01-01T00:00:00Z" },

        /* a leap year by 400, none by 100 */

        { LLMB_PERIOD_DAY, "2000-02-29T00:00:00Z", "2000-02-29",
          "2000-02-29T00:00:00Z", "2000-03-01T00:00:00Z" },
        { LLMB_PERIOD_DAY, "2100-02-28T23:59:59Z", "2100-02-28",
          "2100-02-28T00:00:00Z", "2100-03-01T00:00:00Z" },

        /* a week is of the year that has its Thursday */

        { LLMB_PERIOD_WEEK, "2027-01-01T00:00:00Z", "2026-W53",
          "2026-12-28T00:00:00Z", "2027-01-04T00:00:00Z" },
        { LLMB_PERIOD_WEEK, "2024-12-30T00:00:00Z", "2025-W01",
          "2024-12-30T00:00:00Z", "2025-01-06T00:00:00Z" },
        { LLMB_PERIOD_WEEK, "2023-01-01T23:59:59Z", "2022-W52",
          "2022-12-26T00:00:00Z", "2023-01-02T00:00:00Z" }
    };

    for (i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        ok(llmb_period_at(cases[i].kind, ms(cases[i].now), &p) == LLMB_OK
           && p.id_len == strlen(cases[i].id)
           && memcmp(p.id, cases[i].id, p.id_len) == 0
           && p.start_ms == ms(cases[i].start)
           && p.end_ms == ms(cases[i].end),
           "the %s of %s is %s (got %.*s)", llmb_period_name(cases[i].kind),
           cases[i].now, cases[i].id, (int) p.id_len, (const char *) p.id);
    }

    is_int(llmb_period_at(LLMB_PERIOD_LIFETIME, 0, &p), LLMB_OK,
           "a lifetime has no reset");
    is_str(p.id, p.id_len, "lifetime", "a lifetime has an id");
    ok(p.start_ms == 0 && p.end_ms == INT64_MAX, "a lifetime has no end");

    is_int(llmb_period_at(LLMB_PERIOD_WEEK, 0, &p), LLMB_OK,
           "the epoch lies in a week");
    is_str(p.id, p.id_len, "1970-W01", "the epoch lies in the first week");
    ok(p.start_ms == INT64_C(-259200000) && p.end_ms == INT64_C(345600000),
       "the first week begins before the epoch");
}


static void
test_range(void)
{
    int            i, bad;
    llmb_period_t  p;
    unsigned char  buf[LLMB_PERIOD_TIME_LEN + 1];

    bad = 0;

    for (i = LLMB_PERIOD_MINUTE; i <= LLMB_PERIOD_LIFETIME; i++) {
        bad += (llmb_period_at((llmb_period_e) i, -1, &p) != LLMB_INVALID);
        bad += (llmb_period_at((llmb_period_e) i, INT64_MIN, &p)
                != LLMB_INVALID);
        bad += (llmb_period_at((llmb_period_e) i, MAX_MS + 1, &p)
                != LLMB_INVALID);
        bad += (llmb_period_at((llmb_period_e) i, INT64_MAX, &p)
                != LLMB_INVALID);
        bad += (llmb_period_at((llmb_period_e) i, 0, &p) != LLMB_OK);
        bad += (llmb_period_at((llmb_period_e) i, MAX_MS, &p) != LLMB_OK);
    }

    is_int(bad, 0, "times are from the epoch to the end of 9999");
    is_int(llmb_period_at((llmb_period_e) 7, 0, &p), LLMB_INVALID,
           "a kind out of range is refused");

    memset(buf, '#', sizeof(buf));

    llmb_period_format(buf, MAX_MS);
    is_str(buf, 20, "9999-12-31T23:59:59Z", "the last second has a text");
    llmb_period_format(buf, MAX_MS + 1);
    is_str(buf, 20, "9999-12-31T23:59:59Z", "the year 10000 is cut");
    llmb_period_format(buf, INT64_MAX);
    is_str(buf, 20, "9999-12-31T23:59:59Z", "the end of all is cut");
    llmb_period_format(buf, INT64_MIN);
    is_str(buf, 20, "0000-01-01T00:00:00Z", "the beginning of all is cut");
    llmb_period_format(buf, INT64_C(-259200000));
    is_str(buf, 20, "1969-12-29T00:00:00Z", "the first week's start");
    llmb_period_format(buf, -1);
    is_str(buf, 20, "1969-12-31T23:59:59Z", "a part of a second goes down");
    llmb_period_format(buf, INT64_C(-11676096000000));
    is_str(buf, 20, "1600-01-01T00:00:00Z", "a cycle before 2000");
    llmb_period_format(buf, INT64_C(-62162035200001));
    is_str(buf, 20, "0000-02-29T23:59:59Z", "the year 0 has a leap day");

    ok(buf[20] == '#', "a text takes 20 bytes");
}


static void
test_every_day(void)
{
    int      bad_id, bad_edge;
    int64_t  day, days, now_ms;

    bad_id = 0;
    bad_edge = 0;

    /* 1970 - 2199 day by day: each first and last millisecond */

    days = ms("2200-01-01T00:00:00Z") / 86400000;

    for (day = 0; day < days; day++) {
        now_ms = day * 86400000;
        bad_id += !same_as_libc(now_ms);
        bad_id += !same_as_libc(now_ms + 86399999);
        bad_edge += !all_edges_hold(now_ms);
    }

    is_int(bad_id, 0, "every day until 2200 has the ids of strftime()");
    is_int(bad_edge, 0, "every day until 2200 has edges that meet");
}


static void
test_edges(void)
{
    int      bad_id, bad_edge, year, i;
    char     text[40];
    int64_t  now_ms;

    static const char *const  days[] = {
        "01-01", "01-03", "01-04", "02-28", "03-01", "12-28", "12-31"
    };

    bad_id = 0;
    bad_edge = 0;

    for (year = 1970; year <= 9999; year += (year < 9990) ? 10 : 1) {

        for (i = 0; i < 7; i++) {
            snprintf(text, sizeof(text), "%04d-%sT00:00:00Z", year, days[i]);
            now_ms = ms(text);

            bad_id += !same_as_libc(now_ms);
            bad_edge += !all_edges_hold(now_ms);

            if (now_ms > 0) {
                bad_id += !same_as_libc(now_ms - 1);
                bad_edge += !all_edges_hold(now_ms - 1);
            }
        }
    }

    bad_id += !same_as_libc(MAX_MS);
    bad_edge += !all_edges_hold(MAX_MS);

    is_int(bad_id, 0, "edges of years until 9999 have the ids of strftime()");
    is_int(bad_edge, 0, "edges of years until 9999 meet");
}


static void
test_random(void)
{
    int      i, bad_id, bad_edge;
    int64_t  now_ms;

    bad_id = 0;
    bad_edge = 0;

    for (i = 0; i < RANDOM_RUNS; i++) {
        now_ms = (int64_t) (random_next() % (uint64_t) (MAX_MS + 1));

        bad_id += !same_as_libc(now_ms);
        bad_edge += !all_edges_hold(now_ms);
    }

    is_int(bad_id, 0, "random times have the ids of strftime()");
    is_int(bad_edge, 0, "random times have edges that meet");
}


/* Walking from end to end meets every period once, in order. */

static void
test_walk(void)
{
    int            n, bad;
    int64_t        now_ms, end_ms;
    llmb_period_t  p, last;

    bad = 0;
    now_ms = ms("2024-01-01T00:00:00Z");
    end_ms = ms("2424-01-01T00:00:00Z");

    last.id_len = 0;

    for (n = 0; now_ms < end_ms; n++) {

        if (llmb_period_at(LLMB_PERIOD_MONTH, now_ms, &p) != LLMB_OK
            || p.start_ms != now_ms
            || (n > 0 && memcmp(last.id, p.id, p.id_len) >= 0))
        {
            bad++;
            break;
        }

        last = p;
        now_ms = p.end_ms;
    }

    ok(bad == 0 && n == 4800, "four hundred years have 4800 months");
}


int
main(void)
{
    test_names();
    test_ids();
    test_range();
    test_every_day();
    test_edges();
    test_random();
    test_walk();

    return test_done();
}
