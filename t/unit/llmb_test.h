
/*
 * Copyright (C) the ngx_http_llm_budget_module authors
 *
 * TAP for the unit tests of the core.  A test program includes this once,
 * runs its checks in main() and ends with "return test_done();".
 */


#ifndef _NGX_HTTP_LLM_BUDGET_LLMB_TEST_H_INCLUDED_
#define _NGX_HTTP_LLM_BUDGET_LLMB_TEST_H_INCLUDED_


#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>


static int  test_count;
static int  test_failed;


/* One test point; the title is a printf format. */
#if defined(__GNUC__)
__attribute__((format(printf, 2, 3)))
#endif
static int
ok(int pass, const char *fmt, ...)
{
    va_list  args;

    test_count++;

    if (!pass) {
        test_failed++;
    }

    printf("%sok %d - ", pass ? "" : "not ", test_count);

    va_start(args, fmt);
    vprintf(fmt, args);
    va_end(args);

    printf("\n");
    fflush(stdout);

    return pass;
}


/* Two integers are equal; says both when not. */
static int
is_int(int64_t got, int64_t want, const char *title)
{
    int  pass;

    pass = ok(got == want, "%s", title);

    if (!pass) {
        printf("#      got: %lld\n# expected: %lld\n", (long long) got,
               (long long) want);
    }

    return pass;
}


/* Bytes equal a zero-terminated text. */
static int
is_str(const void *got, size_t len, const char *want, const char *title)
{
    int  pass;

    pass = ok(len == strlen(want) && memcmp(got, want, len) == 0, "%s", title);

    if (!pass) {
        printf("#      got: \"%.*s\"\n# expected: \"%s\"\n", (int) len,
               (const char *) got, want);
    }

    return pass;
}


static int
test_done(void)
{
    (void) is_int;
    (void) is_str;

    printf("1..%d\n", test_count);

    return test_failed ? 1 : 0;
}


#endif /* _NGX_HTTP_LLM_BUDGET_LLMB_TEST_H_INCLUDED_ */
