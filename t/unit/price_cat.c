
/*
 * Copyright (C) the ngx_http_llm_budget_module authors
 *
 * Loads a price map and shows what was made of it:
 *
 *     price_cat <file> [model] ...
 *
 * The first lines are the counts and the warning, if any.  For each model,
 * its entry and rows, pico-USD per token, or "unknown":
 *
 *     model <asked> is <entry> provider <p> max <input> <output>
 *         search <price> free <0|1> rows <n>
 *     row <tier> above <n> in <> read <> 5m <> 1h <> out <> ain <> aout <>
 */


#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/llmb_price_file.h"


#define ROOM_MAX  1024
#define ROOM      (1024 * 1024)


static unsigned char  *rooms[ROOM_MAX];
static unsigned        n_rooms;
static size_t          room_used;


static const char  *const tiers[] = { "default", "flex", "priority", "batch" };


static void *
room_alloc(void *data, size_t size)
{
    size_t          len;
    unsigned char  *p;

    size = (size + 15) & ~(size_t) 15;

    if (n_rooms == 0 || ROOM - room_used < size) {

        if (n_rooms == ROOM_MAX) {
            return NULL;
        }

        len = (size > ROOM) ? size : ROOM;
        p = calloc(1, len);

        if (p == NULL) {
            return NULL;
        }

        rooms[n_rooms++] = p;
        room_used = (size > ROOM) ? ROOM : size;

        return p;
    }

    p = rooms[n_rooms - 1] + room_used;
    room_used += size;

    return p;
}


static int
file_read(const char *name, llmb_str_t *text)
{
    long   size;
    FILE  *f;

    f = fopen(name, "rb");

    if (f == NULL) {
        return 0;
    }

    if (fseek(f, 0, SEEK_END) != 0 || (size = ftell(f)) < 0
        || fseek(f, 0, SEEK_SET) != 0)
    {
        fclose(f);
        return 0;
    }

    text->data = malloc((size_t) size + 1);
    text->len = text->data ? fread(text->data, 1, (size_t) size, f) : 0;

    fclose(f);

    return text->data != NULL && text->len == (size_t) size;
}


static void
price_show(const char *asked, const llmb_price_t *price)
{
    unsigned                 i, k;
    const llmb_price_row_t  *row;

    static const char  *const names[LLMB_RATES] = {
        "in", "read", "5m", "1h", "out", "ain", "aout"
    };

    if (price == NULL) {
        printf("model %s unknown\n", asked);
        return;
    }

    printf("model %s is %.*s provider %.*s max %lld %lld search %lld"
           " free %u rows %u\n", asked, (int) price->name.len,
           (char *) price->name.data, (int) price->provider.len,
           (char *) price->provider.data, (long long) price->max_input,
           (long long) price->max_output, (long long) price->search,
           price->free, price->n_rows);

    for (i = 0; i < price->n_rows; i++) {
        row = &price->row[i];

        printf("row %s above %lld", tiers[row->tier], (long long) row->above);

        for (k = 0; k < LLMB_RATES; k++) {

            if (row->rate[k] == LLMB_PRICE_NONE) {
                printf(" %s -", names[k]);

            } else {
                printf(" %s %lld", names[k], (long long) row->rate[k]);
            }
        }

        printf("\n");
    }
}


int
main(int argc, char **argv)
{
    int                 i;
    llmb_rc_e           rc;
    llmb_str_t          text, model;
    llmb_price_error_t  error;
    llmb_price_table_t  table;

    if (argc < 2) {
        fprintf(stderr, "usage: price_cat file [model] ...\n");
        return 2;
    }

    if (!file_read(argv[1], &text)) {
        fprintf(stderr, "price_cat: cannot read \"%s\"\n", argv[1]);
        return 2;
    }

    memset(&table, 0, sizeof(llmb_price_table_t));

    rc = llmb_price_file_read(&table, &text, room_alloc, NULL, &error);

    if (rc != LLMB_OK) {
        printf("error %d line %d: %s\n", (int) rc, error.line, error.text);

    } else {
        printf("priced %u\nnot metered %u\n", table.n, table.not_metered);
    }

    if (rc == LLMB_OK && error.text[0] != '\0') {
        printf("warning: %s\n", error.text);
    }

    for (i = 2; rc == LLMB_OK && i < argc; i++) {
        model.data = (unsigned char *) argv[i];
        model.len = strlen(argv[i]);

        price_show(argv[i], llmb_price_find(&table, &model, NULL));
    }

    free(text.data);

    while (n_rooms > 0) {
        free(rooms[--n_rooms]);
    }

    return (rc == LLMB_OK) ? 0 : 1;
}
