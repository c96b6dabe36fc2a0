
/*
 * Copyright (C) the ngx_http_llm_budget_module authors
 *
 * Says what jansson makes of files, for the differential test of our own
 * scanner: "jansson_cat file ...", a line for each file.
 *
 *     accept -            no top-level string member "model"
 *     accept <hex>        its text
 *     refuse <reason>
 */


#include <stdio.h>
#include <string.h>

#include <jansson.h>


static void cat_model(const json_t *root);


int
main(int argc, char *argv[])
{
    int           i;
    json_t       *root;
    json_error_t  error;

    for (i = 1; i < argc; i++) {
        root = json_load_file(argv[i], JSON_DECODE_ANY|JSON_ALLOW_NUL,
                              &error);

        if (root == NULL) {
            error.text[strcspn(error.text, "\r\n")] = '\0';
            printf("refuse %s\n", error.text);
            continue;
        }

        cat_model(root);
        json_decref(root);
    }

    return 0;
}


static void
cat_model(const json_t *root)
{
    size_t         i;
    const char    *text;
    const json_t  *model;

    model = json_object_get(root, "model");

    if (!json_is_string(model)) {
        printf("accept -\n");
        return;
    }

    text = json_string_value(model);

    printf("accept ");

    for (i = 0; i < json_string_length(model); i++) {
        printf("%02x", (unsigned char) text[i]);
    }

    printf("\n");
}
