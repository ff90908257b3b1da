/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/proto/reading.h"

static void fails(const char *text, size_t len, int err, const char *says) {
    struct mesh_doc *doc = (void *)1;
    struct mesh_why why = {""};
    int got = mesh_doc_parse(text, len, "f", &doc, &why);
    cr_expect_eq(got, err, "%.60s: %s, %s", text, mesh_err_text(got), why.text);
    cr_expect_eq(doc, (void *)1);
    cr_expect(!strncmp(why.text, says, strlen(says)), "%.60s: %s", text, why.text);
}

static void is(const struct mesh_node *n, enum mesh_node_kind kind, const char *text, uint32_t line,
               uint32_t column) {
    cr_assert(n);
    cr_expect_eq(n->kind, kind, "%s is %d", n->text, (int)n->kind);
    cr_expect_str_eq(n->text, text);
    cr_expect_eq(n->len, strlen(text));
    cr_expect(n->line == line && n->column == column, "%s at %u:%u", n->text, n->line, n->column);
}

Test(doc, nodes_keep_kind_text_and_place) {
    struct mesh_doc *doc = parse("a: 1\nb:\n  - x y\n  - {c: true, d: }\n");
    const struct mesh_node *root = mesh_doc_root(doc), *list = mesh_node_get(root, "b");
    cr_assert_eq(root->kind, MESH_NODE_MAP);
    cr_assert_eq(root->n, 2);
    is(root->items[0], MESH_NODE_STRING, "a", 1, 1);
    is(mesh_node_get(root, "a"), MESH_NODE_NUMBER, "1", 1, 4);
    cr_assert_eq(list->kind, MESH_NODE_LIST);
    cr_assert_eq(list->n, 2);
    is(list->items[0], MESH_NODE_STRING, "x y", 3, 5);
    is(mesh_node_get(list->items[1], "c"), MESH_NODE_BOOL, "true", 4, 9);
    is(mesh_node_get(list->items[1], "d"), MESH_NODE_NULL, "", 4, 18);
    cr_expect_null(mesh_node_get(list->items[1], "e"));
    cr_expect_null(mesh_node_get(list, "c"));
    cr_expect_null(mesh_node_get(NULL, "c"));
    mesh_doc_free(doc);
}

Test(doc, plain_scalars_have_the_kinds_of_yaml_1_2) {
    static const struct {
        const char *text;
        enum mesh_node_kind kind;
    } cases[] = {
        {"null", MESH_NODE_NULL},        {"~", MESH_NODE_NULL},
        {"Null", MESH_NODE_NULL},        {"nULL", MESH_NODE_STRING},
        {"true", MESH_NODE_BOOL},        {"FALSE", MESH_NODE_BOOL},
        {"off", MESH_NODE_STRING},       {"no", MESH_NODE_STRING},
        {"Yes", MESH_NODE_STRING},       {"y", MESH_NODE_STRING},
        {"0", MESH_NODE_NUMBER},         {"-17", MESH_NODE_NUMBER},
        {"+1", MESH_NODE_NUMBER},        {"010", MESH_NODE_NUMBER},
        {"0x1F", MESH_NODE_NUMBER},      {"0o17", MESH_NODE_NUMBER},
        {"0xg", MESH_NODE_STRING},       {"1.5", MESH_NODE_NUMBER},
        {".5", MESH_NODE_NUMBER},        {"5.", MESH_NODE_NUMBER},
        {"1e3", MESH_NODE_NUMBER},       {"1.e-3", MESH_NODE_NUMBER},
        {"1e", MESH_NODE_STRING},        {".", MESH_NODE_STRING},
        {"-", MESH_NODE_LIST},           {".inf", MESH_NODE_NUMBER},
        {"-.INF", MESH_NODE_NUMBER},     {"+.nan", MESH_NODE_STRING},
        {".nan", MESH_NODE_NUMBER},      {"1_000", MESH_NODE_STRING},
        {"1:30", MESH_NODE_STRING},      {"10.0.0.1", MESH_NODE_STRING},
        {"0x", MESH_NODE_STRING},        {"2026-01-31", MESH_NODE_STRING},
        {"'1'", MESH_NODE_STRING},       {"\"true\"", MESH_NODE_STRING},
        {"!!str 1", MESH_NODE_STRING},   {"!!int 1", MESH_NODE_NUMBER},
        {"!!null null", MESH_NODE_NULL},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct mesh_doc *doc = parse(cases[i].text);
        cr_expect_eq(mesh_doc_root(doc)->kind, cases[i].kind, "%s is %d", cases[i].text,
                     (int)mesh_doc_root(doc)->kind);
        mesh_doc_free(doc);
    }
}

Test(doc, json_is_read_with_its_escapes) {
    struct mesh_doc *doc =
        parse("{\n\t\"a\\/b\" : \"\\u00e9\\n\\ud83d\\ude00\",\"c\":[1,2 ],\n\t\"d\":null}");
    const struct mesh_node *root = mesh_doc_root(doc);
    is(mesh_node_get(root, "a/b"), MESH_NODE_STRING, "\xc3\xa9\n\xf0\x9f\x98\x80", 2, 11);
    cr_expect_eq(mesh_node_get(root, "c")->n, 2);
    cr_expect_eq(mesh_node_get(root, "d")->kind, MESH_NODE_NULL);
    mesh_doc_free(doc);
}

Test(doc, empty_text_is_null) {
    static const char *const texts[] = {"", "\n", "# nothing\n", "---\n"};
    for (size_t i = 0; i < 4; i++) {
        struct mesh_doc *doc = parse(texts[i]);
        cr_expect_eq(mesh_doc_root(doc)->kind, MESH_NODE_NULL);
        cr_expect(mesh_doc_root(doc)->line >= 1 && mesh_doc_root(doc)->column >= 1);
        mesh_doc_free(doc);
    }
    struct mesh_doc *doc = NULL;
    cr_assert_eq(mesh_doc_parse(NULL, 0, "f", &doc, NULL), 0);
    mesh_doc_free(doc);
}

Test(doc, duplicate_key_is_refused_where_it_stands_again) {
    fails("a: 1\nb: 2\n'a': 3\n", 17, MESH_E_INVALID, "f:3:1: \"a\" was given in line 1 already");
    char text[4096] = "";
    for (int i = 0; i < 100; i++)
        sprintf(text + strlen(text), "k%d: 1\n", i);
    strcat(text, "k50: 1\n");
    fails(text, strlen(text), MESH_E_INVALID, "f:101:1: \"k50\" was given in line 51 already");
}

Test(doc, what_yaml_has_beyond_json_is_refused) {
    fails("a: &x 1", 7, MESH_E_UNSUPPORTED, "f:1:4: anchors are not supported");
    fails("a: &x {}", 8, MESH_E_UNSUPPORTED, "f:1:4: anchors are not supported");
    fails("a: *x", 5, MESH_E_UNSUPPORTED, "f:1:4: aliases are not supported");
    fails("a: !foo 1", 9, MESH_E_UNSUPPORTED, "f:1:4: this tag is not supported");
    fails("a: !!set {}", 11, MESH_E_UNSUPPORTED, "f:1:4: this tag is not supported");
    fails("a: !!int x", 10, MESH_E_INVALID, "f:1:4: the value is not what its tag says");
    fails("a: 1\n---\nb: 2\n", 14, MESH_E_UNSUPPORTED, "f:2:1: more than one document");
    fails("? [a]\n: 1\n", 10, MESH_E_SYNTAX, "f:1:3: a key must be a text");
}

Test(doc, broken_text_is_named_with_its_place) {
    fails("a: [1,\nb: }", 11, MESH_E_SYNTAX, "f:2:4: ");
    fails("a: 1\n b: 2\n", 11, MESH_E_SYNTAX, "f:2:3: ");
    fails("a: x\0y\n", 7, MESH_E_SYNTAX, "f:1:5: ");
    fails("a: \"x\\0y\"\n", 10, MESH_E_SYNTAX, "f:1:4: NUL inside a text");
    fails("a: 1\nb: \xff\n", 10, MESH_E_SYNTAX, "f:2:4: ");
    fails("a: 1\nb: \xed\xa0\x80\n", 12, MESH_E_SYNTAX, "f:2:4: ");
    fails("{\"a\":\"\\ud83d\"}", 14, MESH_E_SYNTAX, "f:1:");
}

Test(doc, limits_hold) {
    char deep[200];
    memset(deep, '[', 65);
    memset(deep + 65, ']', 65);
    fails(deep, 130, MESH_E_LIMIT, "f:1:65: nested deeper than 64");
    struct mesh_doc *doc = NULL;
    cr_assert_eq(mesh_doc_parse(deep + 1, 128, "f", &doc, NULL), 0);
    mesh_doc_free(doc);

    size_t big = (16 << 20) + 1;
    char *text = malloc(big);
    memset(text, ' ', big);
    fails(text, big, MESH_E_LIMIT, "f: over 16 MiB");
    cr_assert_eq(mesh_doc_parse(text, big - 1, "f", &doc, NULL), 0);
    mesh_doc_free(doc);
    free(text);
}

Test(doc, heap_of_many_small_nodes_is_bounded) {
    size_t n = 12 << 20;
    char *text = malloc(n);
    for (size_t i = 0; i < n; i++)
        text[i] = i % 2 ? ',' : '1';
    text[0] = '[';
    text[n - 2] = ']';
    text[n - 1] = '\n';
    text[1] = ' ';
    fails(text, n, MESH_E_LIMIT, "f: over 256 MiB when parsed");
    free(text);
}
