/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>
#include <string.h>
#include <yaml.h>

#include "proto/inner.h"
#include "proto/proto.h"

/* What a hostile or broken file may ask of us. */
enum {
    TEXT_MAX = 16 << 20,  /* bytes of text */
    DEPTH_MAX = 64,       /* lists and maps inside each other */
    HEAP_MAX = 256 << 20, /* nodes and their text: "[1,1,1," makes 25 bytes of node from one of text */
    CHUNK = 64 << 10,
    CORE_TAG = 18, /* strlen of the prefix of YAML's own tags */
};
static const char core_tag[] = "tag:yaml.org,2002:";

struct chunk {
    struct chunk *next;
    size_t used, size;
    _Alignas(8) char bytes[];
};

struct mesh_doc {
    struct chunk *chunks;
    size_t heap;
    const struct mesh_node *root;
};

/* The list or map that is being filled. Its entries wait on one common stack until their number is known. */
struct level {
    struct mesh_node *node;
    size_t first; /* of its entries on the stack */
};

struct builder {
    struct mesh_doc *doc;
    const char *file;
    struct mesh_why *why;
    struct level levels[DEPTH_MAX];
    int depth;
    const struct mesh_node **stack;
    size_t n, cap;
};

static void *arena_take(struct mesh_doc *d, size_t n) {
    n = (n + 7) & ~(size_t)7;
    if (!d->chunks || d->chunks->size - d->chunks->used < n) {
        size_t size = n > CHUNK ? n : CHUNK;
        if (size > HEAP_MAX - d->heap)
            return NULL;
        struct chunk *c = malloc(sizeof(*c) + size);
        if (!c)
            return NULL;
        *c = (struct chunk){d->chunks, 0, size};
        d->chunks = c;
        d->heap += size;
    }
    void *p = d->chunks->bytes + d->chunks->used;
    d->chunks->used += n;
    return p;
}

static int no_room(const struct builder *b) {
    if (b->doc->heap > HEAP_MAX / 2)
        return mesh_why(b->why, MESH_E_LIMIT, "%s: over %d MiB when parsed", b->file, HEAP_MAX >> 20);
    return mesh_why(b->why, MESH_E_NOMEM, "%s: out of memory", b->file);
}

static int fail_at(const struct builder *b, int err, yaml_mark_t at, const char *what) {
    return mesh_why(b->why, err, "%s:%zu:%zu: %s", b->file, at.line + 1, at.column + 1, what);
}

static bool one_of(const char *text, const char *const *words) {
    for (; *words; words++)
        if (!strcmp(text, *words))
            return true;
    return false;
}

/* YAML 1.2 core schema: integers (decimal, 0o, 0x), decimals with exponent, infinities, not-a-number. */
static bool is_number(const char *s) {
    static const char *const words[] = {".inf", ".Inf", ".INF", ".nan", ".NaN", ".NAN", NULL};
    static const char decimal[] = "0123456789";
    if (s[0] == '0' && (s[1] == 'o' || s[1] == 'x') && s[2])
        return s[2 + strspn(s + 2, s[1] == 'o' ? "01234567" : "0123456789abcdefABCDEF")] == '\0';
    if (one_of(s, words))
        return true;
    if (*s == '-' || *s == '+')
        s++;
    if (one_of(s, words))
        return s[1] != 'n' && s[1] != 'N';
    size_t whole = strspn(s, decimal), part = 0;
    s += whole;
    if (*s == '.') {
        part = strspn(s + 1, decimal);
        s += 1 + part;
    }
    if (!whole && !part)
        return false;
    if (*s != 'e' && *s != 'E')
        return *s == '\0';
    s++;
    if (*s == '-' || *s == '+')
        s++;
    size_t power = strspn(s, decimal);
    return power && s[power] == '\0';
}

static enum mesh_node_kind plain_kind(const char *text) {
    static const char *const nulls[] = {"", "~", "null", "Null", "NULL", NULL};
    static const char *const bools[] = {"true", "True", "TRUE", "false", "False", "FALSE", NULL};
    if (one_of(text, nulls))
        return MESH_NODE_NULL;
    if (one_of(text, bools))
        return MESH_NODE_BOOL;
    return is_number(text) ? MESH_NODE_NUMBER : MESH_NODE_STRING;
}

/* Tags of YAML's core may be written; a scalar must then be what its tag says. */
static int tagged_kind(const char *tag, const char *text, bool plain, enum mesh_node_kind *kind) {
    static const struct {
        const char *name;
        enum mesh_node_kind kind;
    } tags[] = {{"str", MESH_NODE_STRING},
                {"null", MESH_NODE_NULL},
                {"bool", MESH_NODE_BOOL},
                {"int", MESH_NODE_NUMBER},
                {"float", MESH_NODE_NUMBER}};
    *kind = plain ? plain_kind(text) : MESH_NODE_STRING;
    if (!tag)
        return 0;
    if (strncmp(tag, core_tag, CORE_TAG))
        return MESH_E_UNSUPPORTED;
    for (size_t i = 0; i < sizeof(tags) / sizeof(tags[0]); i++) {
        if (strcmp(tag + CORE_TAG, tags[i].name))
            continue;
        if (tags[i].kind != MESH_NODE_STRING && plain_kind(text) != tags[i].kind)
            return MESH_E_INVALID;
        *kind = tags[i].kind;
        return 0;
    }
    return MESH_E_UNSUPPORTED;
}

static int push(struct builder *b, const struct mesh_node *node) {
    if (b->n == b->cap) {
        size_t cap = b->cap ? b->cap * 2 : 256;
        const struct mesh_node **more = realloc(b->stack, cap * sizeof(*more));
        if (!more)
            return no_room(b);
        b->stack = more;
        b->cap = cap;
    }
    b->stack[b->n++] = node;
    return 0;
}

static bool wants_key(const struct builder *b) {
    const struct level *l = b->depth ? &b->levels[b->depth - 1] : NULL;
    return l && l->node->kind == MESH_NODE_MAP && (b->n - l->first) % 2 == 0;
}

static int add(struct builder *b, const struct mesh_node *node) {
    if (b->depth)
        return push(b, node);
    b->doc->root = node;
    return 0;
}

static struct mesh_node *node_new(struct builder *b, enum mesh_node_kind kind, yaml_mark_t at) {
    struct mesh_node *node = arena_take(b->doc, sizeof(*node));
    if (node)
        *node = (struct mesh_node){
            .kind = kind, .line = (uint32_t)at.line + 1, .column = (uint32_t)at.column + 1, .text = ""};
    return node;
}

static int on_scalar(struct builder *b, const yaml_event_t *e) {
    const char *text = (const char *)e->data.scalar.value;
    size_t len = e->data.scalar.length;
    bool plain = e->data.scalar.style == YAML_PLAIN_SCALAR_STYLE;
    enum mesh_node_kind kind;
    if (e->data.scalar.anchor)
        return fail_at(b, MESH_E_UNSUPPORTED, e->start_mark, "anchors are not supported");
    if (memchr(text, '\0', len))
        return fail_at(b, MESH_E_SYNTAX, e->start_mark, "NUL inside a text");
    int err = tagged_kind((const char *)e->data.scalar.tag, text, plain, &kind);
    if (err)
        return fail_at(b, err, e->start_mark,
                       err == MESH_E_INVALID ? "the value is not what its tag says"
                                             : "this tag is not supported");
    struct mesh_node *node = node_new(b, kind, e->start_mark);
    char *copy = arena_take(b->doc, len + 1);
    if (!node || !copy)
        return no_room(b);
    memcpy(copy, text, len);
    copy[len] = '\0';
    node->text = copy;
    node->len = (uint32_t)len;
    return add(b, node);
}

static int on_open(struct builder *b, enum mesh_node_kind kind, const yaml_event_t *e,
                   const yaml_char_t *anchor, const yaml_char_t *tag) {
    static const char *const lists = "tag:yaml.org,2002:seq", *const maps = "tag:yaml.org,2002:map";
    if (anchor)
        return fail_at(b, MESH_E_UNSUPPORTED, e->start_mark, "anchors are not supported");
    if (tag && strcmp((const char *)tag, kind == MESH_NODE_LIST ? lists : maps))
        return fail_at(b, MESH_E_UNSUPPORTED, e->start_mark, "this tag is not supported");
    if (wants_key(b))
        return fail_at(b, MESH_E_SYNTAX, e->start_mark, "a key must be a text");
    if (b->depth == DEPTH_MAX)
        return fail_at(b, MESH_E_LIMIT, e->start_mark, "nested deeper than 64");
    struct mesh_node *node = node_new(b, kind, e->start_mark);
    if (!node)
        return no_room(b);
    int err = add(b, node);
    if (!err)
        b->levels[b->depth++] = (struct level){node, b->n};
    return err;
}

static int by_text(const void *a, const void *b) {
    const struct mesh_node *x = *(const struct mesh_node *const *)a, *y = *(const struct mesh_node *const *)b;
    int order = strcmp(x->text, y->text);
    if (order)
        return order;
    return x->line != y->line ? (x->line < y->line ? -1 : 1)
                              : (x->column < y->column ? -1 : x->column > y->column);
}

/* Sorts the keys (their nodes, the later of two equals behind) in scratch memory and looks at neighbours. */
static int refuse_duplicates(struct builder *b, const struct mesh_node *map) {
    const struct mesh_node *few[32], **keys = few;
    if (map->n > 32 && !(keys = malloc(map->n * sizeof(*keys))))
        return no_room(b);
    for (uint32_t i = 0; i < map->n; i++)
        keys[i] = map->items[2 * i];
    qsort(keys, map->n, sizeof(*keys), by_text);
    int err = 0;
    for (uint32_t i = 1; i < map->n && !err; i++)
        if (!strcmp(keys[i - 1]->text, keys[i]->text))
            err = mesh_why(b->why, MESH_E_INVALID, "%s:%u:%u: \"%.60s\" was given in line %u already",
                           b->file, keys[i]->line, keys[i]->column, keys[i]->text, keys[i - 1]->line);
    if (keys != few)
        free(keys);
    return err;
}

static int on_close(struct builder *b) {
    struct level l = b->levels[--b->depth];
    size_t n = b->n - l.first;
    if (n) {
        l.node->items = arena_take(b->doc, n * sizeof(*l.node->items));
        if (!l.node->items)
            return no_room(b);
        memcpy(l.node->items, b->stack + l.first, n * sizeof(*l.node->items));
    }
    b->n = l.first;
    l.node->n = (uint32_t)(l.node->kind == MESH_NODE_MAP ? n / 2 : n);
    return l.node->kind == MESH_NODE_MAP && n ? refuse_duplicates(b, l.node) : 0;
}

static int on_event(struct builder *b, const yaml_event_t *e) {
    switch (e->type) {
    case YAML_SCALAR_EVENT:
        return on_scalar(b, e);
    case YAML_SEQUENCE_START_EVENT:
        return on_open(b, MESH_NODE_LIST, e, e->data.sequence_start.anchor, e->data.sequence_start.tag);
    case YAML_MAPPING_START_EVENT:
        return on_open(b, MESH_NODE_MAP, e, e->data.mapping_start.anchor, e->data.mapping_start.tag);
    case YAML_SEQUENCE_END_EVENT:
    case YAML_MAPPING_END_EVENT:
        return on_close(b);
    case YAML_ALIAS_EVENT:
        return fail_at(b, MESH_E_UNSUPPORTED, e->start_mark, "aliases are not supported");
    case YAML_DOCUMENT_START_EVENT:
        return b->doc->root ? fail_at(b, MESH_E_UNSUPPORTED, e->start_mark, "more than one document") : 0;
    default:
        return 0;
    }
}

/* The reader of bytes knows only an offset. */
static yaml_mark_t mark_of_offset(const char *text, size_t len, size_t offset) {
    yaml_mark_t at = {0, 0, 0};
    for (size_t i = 0; i < len && i < offset; i++) {
        if (text[i] == '\n') {
            at.line++;
            at.column = 0;
        } else if (((unsigned char)text[i] & 0xc0) != 0x80) {
            at.column++;
        }
    }
    return at;
}

static int parser_failed(const struct builder *b, const yaml_parser_t *p, const char *text, size_t len) {
    if (p->error == YAML_MEMORY_ERROR)
        return no_room(b);
    yaml_mark_t at =
        p->error == YAML_READER_ERROR ? mark_of_offset(text, len, p->problem_offset) : p->problem_mark;
    return fail_at(b, MESH_E_SYNTAX, at, p->problem ? p->problem : "not YAML");
}

static int parse_events(struct builder *b, yaml_parser_t *p, const char *text, size_t len) {
    yaml_event_type_t type = YAML_NO_EVENT;
    while (type != YAML_STREAM_END_EVENT) {
        yaml_event_t e;
        if (!yaml_parser_parse(p, &e))
            return parser_failed(b, p, text, len);
        type = e.type;
        int err = on_event(b, &e);
        yaml_event_delete(&e);
        if (err)
            return err;
    }
    if (b->doc->root)
        return 0;
    b->doc->root = node_new(b, MESH_NODE_NULL, (yaml_mark_t){0, 0, 0}); /* an empty text */
    return b->doc->root ? 0 : no_room(b);
}

static int parse_text(struct mesh_doc *doc, const char *text, size_t len, const char *file,
                      struct mesh_why *why) {
    struct builder b = {.doc = doc, .file = file, .why = why};
    yaml_parser_t p;
    if (!yaml_parser_initialize(&p))
        return no_room(&b);
    yaml_parser_set_encoding(&p, YAML_UTF8_ENCODING);
    yaml_parser_set_input_string(&p, (const unsigned char *)(len ? text : ""),
                                 len); /* it asserts that there is a text */
    int err = parse_events(&b, &p, text, len);
    yaml_parser_delete(&p);
    free(b.stack);
    return err;
}

int mesh_doc_parse(const char *text, size_t len, const char *file, struct mesh_doc **ret_doc,
                   struct mesh_why *why) {
    if (len > TEXT_MAX)
        return mesh_why(why, MESH_E_LIMIT, "%s: over %d MiB", file, TEXT_MAX >> 20);
    struct mesh_doc *doc = calloc(1, sizeof(*doc));
    if (!doc)
        return mesh_why(why, MESH_E_NOMEM, "%s: out of memory", file);
    char *joined = NULL;
    int err = mesh_json_join_surrogates(text, &len, &joined);
    if (!err)
        err = parse_text(doc, joined ? joined : text, len, file, why);
    else
        err = mesh_why(why, err, "%s: out of memory", file);
    free(joined);
    if (err) {
        mesh_doc_free(doc);
        return err;
    }
    *ret_doc = doc;
    return 0;
}

const struct mesh_node *mesh_doc_root(const struct mesh_doc *d) {
    return d->root;
}

void mesh_doc_free(struct mesh_doc *d) {
    while (d && d->chunks) {
        struct chunk *c = d->chunks;
        d->chunks = c->next;
        free(c);
    }
    free(d);
}

const struct mesh_node *mesh_node_get(const struct mesh_node *map, const char *key) {
    if (!map || map->kind != MESH_NODE_MAP)
        return NULL;
    for (uint32_t i = 0; i < map->n; i++)
        if (!strcmp(map->items[2 * i]->text, key))
            return map->items[2 * i + 1];
    return NULL;
}
