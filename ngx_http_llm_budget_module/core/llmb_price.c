
/*
 * Copyright (C) the ngx_http_llm_budget_module authors
 *
 * The price table: lookup of a model, and the names of service tiers.
 */


#include "core/llmb_price.h"

#include <string.h>


/* the name, behind its prefix, behind the provider's; each with date and cut */
#define LLMB_PRICE_FORMS        6


typedef struct {
    unsigned                n;
    llmb_str_t              form[LLMB_PRICE_FORMS];
    unsigned char           added[LLMB_NAME_LEN + 1 + LLMB_MODEL_LEN];
} llmb_price_forms_t;


typedef struct {
    const char             *name;
    llmb_tier_e             tier;
} llmb_price_tier_name_t;


static void llmb_price_forms(llmb_price_forms_t *forms,
    const llmb_str_t *model, const llmb_str_t *provider);
static size_t llmb_price_date(const llmb_str_t *name);
static unsigned llmb_price_is_date(const unsigned char *p);
static const llmb_price_t *llmb_price_lookup(const llmb_price_table_t *table,
    const llmb_price_forms_t *forms);
static const llmb_price_t *llmb_price_exact(const llmb_price_table_t *table,
    const llmb_str_t *name);
static uint32_t llmb_price_hash(const llmb_str_t *name);
static unsigned llmb_price_equal(const llmb_str_t *a, const llmb_str_t *b);


/* an unknown name costs as the dearest tier: none is guessed (T17) */

static const llmb_price_tier_name_t  llmb_price_tiers[] = {
    { "default", LLMB_TIER_DEFAULT },
    { "standard", LLMB_TIER_DEFAULT },
    { "standard_only", LLMB_TIER_DEFAULT },
    { "auto", LLMB_TIER_DEFAULT },
    { "on_demand", LLMB_TIER_DEFAULT },
    { "flex", LLMB_TIER_FLEX },
    { "priority", LLMB_TIER_PRIORITY },
    { "fast", LLMB_TIER_PRIORITY },
    { "batch", LLMB_TIER_BATCH },
    { "batches", LLMB_TIER_BATCH }
};


void
llmb_price_index(llmb_price_table_t *table)
{
    uint32_t  slot;
    unsigned  i;

    for (i = 0; i < table->n; i++) {
        slot = llmb_price_hash(&table->prices[i].name) & table->mask;

        while (table->slots[slot] != 0) {
            slot = (slot + 1) & table->mask;
        }

        table->slots[slot] = i + 1;
    }
}


const llmb_price_t *
llmb_price_find(const llmb_price_table_t *table, const llmb_str_t *model,
    const llmb_str_t *provider)
{
    unsigned             i, k;
    llmb_price_forms_t   forms;
    const llmb_price_t  *price;

    llmb_price_forms(&forms, model, provider);

    price = llmb_price_lookup(table, &forms);

    if (price != NULL) {
        return price;
    }

    for (i = 0; i < forms.n; i++) {

        for (k = 0; k < table->n_aliases; k++) {

            if (!llmb_price_equal(&forms.form[i], &table->aliases[2 * k])) {
                continue;
            }

            /* the target of an alias is a model, not another alias */

            llmb_price_forms(&forms, &table->aliases[2 * k + 1], provider);

            return llmb_price_lookup(table, &forms);
        }
    }

    return NULL;
}


/* Every name that may stand for the model, the most exact first (T19). */

static void
llmb_price_forms(llmb_price_forms_t *forms, const llmb_str_t *model,
    const llmb_str_t *provider)
{
    size_t          len;
    unsigned        i, n;
    llmb_str_t     *form;
    unsigned char  *p;

    form = forms->form;
    form[0] = *model;
    n = 1;

    p = model->len ? memchr(model->data, '/', model->len) : NULL;

    if (p != NULL) {
        len = (size_t) (p + 1 - model->data);
        form[n].data = p + 1;
        form[n].len = model->len - len;
        n++;
    }

    if (provider != NULL && provider->len > 0
        && provider->len <= LLMB_NAME_LEN && model->len > 0
        && model->len <= LLMB_MODEL_LEN)
    {
        memcpy(forms->added, provider->data, provider->len);
        forms->added[provider->len] = '/';
        memcpy(forms->added + provider->len + 1, model->data, model->len);

        form[n].data = forms->added;
        form[n].len = provider->len + 1 + model->len;
        n++;
    }

    forms->n = n;

    for (i = 0; i < n; i++) {
        len = llmb_price_date(&form[i]);

        if (len > 0) {
            form[forms->n].data = form[i].data;
            form[forms->n].len = form[i].len - len;
            forms->n++;
        }
    }
}


/* The length of the date, or "-latest", that ends a name; 0: none. */

static size_t
llmb_price_date(const llmb_str_t *name)
{
    size_t                len;
    unsigned char         buf[8];
    const unsigned char  *p;

    len = sizeof("-latest") - 1;

    if (name->len > len
        && memcmp(name->data + name->len - len, "-latest", len) == 0)
    {
        return len;
    }

    len = sizeof("-20260709") - 1;

    if (name->len > len) {
        p = name->data + name->len - len;

        if ((p[0] == '-' || p[0] == '@') && llmb_price_is_date(p + 1)) {
            return len;
        }
    }

    len = sizeof("-2026-07-09") - 1;

    if (name->len > len) {
        p = name->data + name->len - len;

        if (p[0] == '-' && p[5] == '-' && p[8] == '-') {
            memcpy(buf, p + 1, 4);
            memcpy(buf + 4, p + 6, 2);
            memcpy(buf + 6, p + 9, 2);

            return llmb_price_is_date(buf) ? len : 0;
        }
    }

    return 0;
}


/* Eight digits: a year of this century, a month and a day. */

static unsigned
llmb_price_is_date(const unsigned char *p)
{
    int       month, day;
    unsigned  i;

    for (i = 0; i < 8; i++) {

        if (p[i] < '0' || p[i] > '9') {
            return 0;
        }
    }

    month = (p[4] - '0') * 10 + (p[5] - '0');
    day = (p[6] - '0') * 10 + (p[7] - '0');

    return p[0] == '2' && p[1] == '0' && month >= 1 && month <= 12
           && day >= 1 && day <= 31;
}


static const llmb_price_t *
llmb_price_lookup(const llmb_price_table_t *table,
    const llmb_price_forms_t *forms)
{
    unsigned             i;
    const llmb_price_t  *price;

    for (i = 0; i < forms->n; i++) {
        price = llmb_price_exact(table, &forms->form[i]);

        if (price != NULL) {
            return price;
        }
    }

    return NULL;
}


static const llmb_price_t *
llmb_price_exact(const llmb_price_table_t *table, const llmb_str_t *name)
{
    uint32_t             i, slot;
    const llmb_price_t  *price;

    if (table->n == 0 || name->len == 0) {
        return NULL;
    }

    slot = llmb_price_hash(name) & table->mask;

    /* there are more slots than prices */

    for (i = table->slots[slot]; i != 0; i = table->slots[slot]) {
        price = &table->prices[i - 1];

        if (llmb_price_equal(&price->name, name)) {
            return price;
        }

        slot = (slot + 1) & table->mask;
    }

    return NULL;
}


static uint32_t
llmb_price_hash(const llmb_str_t *name)
{
    return llmb_request_hash(name->data, name->len);
}


static unsigned
llmb_price_equal(const llmb_str_t *a, const llmb_str_t *b)
{
    return a->len == b->len
           && (a->len == 0 || memcmp(a->data, b->data, a->len) == 0);
}


llmb_rc_e
llmb_price_tier(const llmb_str_t *text, llmb_tier_e *tier)
{
    size_t       i;
    const char  *name;

    for (i = 0; i < sizeof(llmb_price_tiers) / sizeof(llmb_price_tiers[0]);
         i++)
    {
        name = llmb_price_tiers[i].name;

        if (text->len == strlen(name)
            && memcmp(text->data, name, text->len) == 0)
        {
            *tier = llmb_price_tiers[i].tier;
            return LLMB_OK;
        }
    }

    return LLMB_DECLINED;
}
