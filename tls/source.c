/* SPDX-License-Identifier: Apache-2.0
 *
 * The three files, watched by asking. Each look takes three stats; when something changed all three are read,
 * and they count only if the stats are still the same afterwards, so that certificate, key and bundle are of
 * one moment.
 */
#include <openssl/crypto.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include "shim/base/sys.h"
#include "tls/internal.h"

enum {
    FILES = 3, /* certificate, key, bundle */
    FILE_MAX = 1 << 20,
    RETRY_SECONDS = 5,  /* bad files are looked at again: a clock may come right, a right be given */
    SETTLE_SECONDS = 2, /* a file written this recently may change once more with the same time stamp */
};

struct file_stamp {
    int err; /* 0, or the negative errno of stat */
    dev_t dev;
    ino_t ino;
    off_t size;
    struct timespec modified, changed;
};

struct triple {
    void *bytes[FILES];
    size_t len[FILES];
};

struct mesh_identity_source {
    char *path[FILES];
    struct file_stamp seen[FILES]; /* of the last look that was judged */
    bool looked, bad;
    int64_t retry;     /* wall seconds: when the same files are judged again; INT64_MAX: never */
    struct triple pem; /* in force */
    struct mesh_identity *_Atomic now;
    struct mesh_identity
        *previous; /* one swap of grace for whoever holds the pointer without a reference yet */
};

static void triple_done(struct triple *t) {
    for (int i = 0; i < FILES; i++) {
        if (t->bytes[i])
            OPENSSL_cleanse(t->bytes[i], t->len[i]);
        free(t->bytes[i]);
    }
    memset(t, 0, sizeof *t);
}

static struct mesh_pem triple_pem(const struct triple *t) {
    return (struct mesh_pem){.cert = t->bytes[0],
                             .key = t->bytes[1],
                             .ca = t->bytes[2],
                             .cert_len = t->len[0],
                             .key_len = t->len[1],
                             .ca_len = t->len[2]};
}

static bool triple_same(const struct triple *a, const struct triple *b) {
    for (int i = 0; i < FILES; i++)
        if (!a->bytes[i] || a->len[i] != b->len[i] || memcmp(a->bytes[i], b->bytes[i], a->len[i]) != 0)
            return false;
    return true;
}

static int triple_copy(const struct mesh_pem *pem, struct triple *ret) {
    const void *from[FILES] = {pem->cert, pem->key, pem->ca};
    const size_t len[FILES] = {pem->cert_len, pem->key_len, pem->ca_len};
    struct triple t = {{0}, {0}};
    for (int i = 0; i < FILES; i++) {
        t.bytes[i] = malloc(len[i] + 1);
        if (!t.bytes[i]) {
            triple_done(&t);
            return MESH_E_NOMEM;
        }
        if (len[i])
            memcpy(t.bytes[i], from[i], len[i]);
        t.len[i] = len[i];
    }
    *ret = t;
    return 0;
}

int mesh_identity_source_new(const char *cert, const char *key, const char *ca,
                             struct mesh_identity_source **ret_src) {
    const char *path[FILES] = {cert, key, ca};
    struct mesh_identity_source *src = calloc(1, sizeof *src);
    if (!src)
        return MESH_E_NOMEM;
    atomic_init(&src->now, NULL);
    for (int i = 0; i < FILES; i++) {
        if (!(src->path[i] = strdup(path[i] ? path[i] : ""))) {
            mesh_identity_source_free(src);
            return MESH_E_NOMEM;
        }
    }
    *ret_src = src;
    return 0;
}

void mesh_identity_source_free(struct mesh_identity_source *src) {
    if (!src)
        return;
    for (int i = 0; i < FILES; i++)
        free(src->path[i]);
    triple_done(&src->pem);
    mesh_identity_unref(atomic_load(&src->now));
    mesh_identity_unref(src->previous);
    free(src);
}

static void look(const struct mesh_identity_source *src, struct file_stamp ret[FILES]) {
    memset(ret, 0, FILES * sizeof *ret); /* compared whole, padding too */
    for (int i = 0; i < FILES; i++) {
        struct stat st;
        ret[i].err = mesh_sys_stat(src->path[i], &st);
        if (ret[i].err)
            continue;
        ret[i].dev = st.st_dev;
        ret[i].ino = st.st_ino;
        ret[i].size = st.st_size;
        ret[i].modified = st.st_mtim;
        ret[i].changed = st.st_ctim;
    }
}

static bool recent(const struct file_stamp stamps[FILES], int64_t wall) {
    for (int i = 0; i < FILES; i++)
        if (!stamps[i].err && stamps[i].changed.tv_sec + SETTLE_SECONDS > wall)
            return true;
    return false;
}

static int read_all(int fd, const char *path, void **ret_bytes, size_t *ret_len, struct mesh_why *why) {
    struct stat st;
    int err = mesh_sys_fstat(fd, &st);
    if (err)
        return mesh_why(why, MESH_E_IO, "%.180s: %s", path, strerrordesc_np(-err));
    if (!S_ISREG(st.st_mode))
        return mesh_why(why, MESH_E_INVALID, "%.180s is not a regular file", path);
    if (st.st_size > FILE_MAX)
        return mesh_why(why, MESH_E_INVALID, "%.180s is larger than 1 MiB", path);
    size_t cap = (size_t)st.st_size, n = 0;
    uint8_t *p = malloc(cap + 1);
    if (!p)
        return mesh_why(why, MESH_E_NOMEM, "out of memory");
    while (n < cap) {
        ssize_t got = mesh_sys_read(fd, p + n, cap - n);
        if (got == -EINTR)
            continue;
        if (got <= 0)
            break; /* shorter than it was: the stats will tell */
        n += (size_t)got;
    }
    *ret_bytes = p;
    *ret_len = n;
    return 0;
}

static int file_read(const char *path, void **ret_bytes, size_t *ret_len, struct mesh_why *why) {
    if (!*path)
        return mesh_why(why, MESH_E_INVALID, "one of certificate, key and trust bundle is not named");
    /* Not blocking: somebody may have put a pipe there. */
    int fd = mesh_sys_open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY, 0);
    if (fd < 0)
        return mesh_why(why, MESH_E_IO, "%.180s: %s", path, strerrordesc_np(-fd));
    int err = read_all(fd, path, ret_bytes, ret_len, why);
    mesh_sys_close(fd);
    return err;
}

/* 0 with all three as they were at one moment, MESH_E_AGAIN when they changed meanwhile. */
static int triple_read(const struct mesh_identity_source *src, struct triple *ret,
                       struct file_stamp ret_stamps[FILES], struct mesh_why *why) {
    struct file_stamp after[FILES];
    struct triple t = {{0}, {0}};
    int err = 0;
    look(src, ret_stamps);
    for (int i = 0; !err && i < FILES; i++)
        err = file_read(src->path[i], &t.bytes[i], &t.len[i], why);
    look(src, after);
    if (memcmp(after, ret_stamps, sizeof after) != 0)
        err = mesh_why(why, MESH_E_AGAIN, "certificate files are being replaced");
    if (err)
        triple_done(&t);
    else
        *ret = t;
    return err;
}

static void put_in_force(struct mesh_identity_source *src, struct mesh_identity *fresh, struct triple *t) {
    triple_done(&src->pem);
    src->pem = *t;
    memset(t, 0, sizeof *t);
    mesh_identity_unref(src->previous);
    src->previous = atomic_exchange(&src->now, fresh);
}

/* 1: new and in force; 0: what is in force already. Takes over what `t` holds. */
static int triple_judge(struct mesh_identity_source *src, struct triple *t, int64_t wall,
                        struct mesh_why *why) {
    struct mesh_identity *fresh;
    int err = 0;
    if (!triple_same(t, &src->pem)) {
        struct mesh_pem pem = triple_pem(t);
        err = mesh_identity_new(&pem, wall, &fresh, why);
        if (!err) {
            put_in_force(src, fresh, t);
            err = 1;
        }
    }
    triple_done(t);
    return err;
}

int mesh_identity_source_poll(struct mesh_identity_source *src, int64_t wall, struct mesh_why *why) {
    struct file_stamp stamps[FILES];
    struct triple t;
    look(src, stamps);
    bool same = src->looked && memcmp(stamps, src->seen, sizeof stamps) == 0;
    if (same && wall < src->retry)
        return 0;
    int err = triple_read(src, &t, stamps, why);
    if (!err)
        err = triple_judge(src, &t, wall, why);
    bool said = same && src->bad;
    memcpy(src->seen, stamps, sizeof stamps);
    src->looked = err != MESH_E_AGAIN;
    src->bad = err < 0;
    /* Neither no memory nor no descriptor says anything of the files. */
    bool soon = err == MESH_E_NOMEM || err == MESH_E_IO || (err >= 0 && recent(stamps, wall));
    src->retry = soon ? wall + 1 : err < 0 ? wall + RETRY_SECONDS : INT64_MAX;
    if (err < 0 && said)
        return 0;
    return err;
}

int mesh_identity_source_feed(struct mesh_identity_source *src, const struct mesh_pem *pem, int64_t wall,
                              struct mesh_why *why) {
    struct triple t;
    if (triple_copy(pem, &t) != 0)
        return mesh_why(why, MESH_E_NOMEM, "out of memory");
    return triple_judge(src, &t, wall, why);
}

struct mesh_identity *mesh_identity_source_get(struct mesh_identity_source *src) {
    return mesh_identity_ref(atomic_load(&src->now));
}

bool mesh_identity_source_pem(const struct mesh_identity_source *src, struct mesh_pem *ret_pem) {
    if (!src->pem.bytes[0])
        return false;
    *ret_pem = triple_pem(&src->pem);
    return true;
}
