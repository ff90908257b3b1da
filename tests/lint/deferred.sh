#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Deferred relocation (shim/heavy.h) on a small object with pointers of every pattern: they are not relocated at load;
# afterwards all are, whoever did it, several threads at once or a fork child; constant data is read-only again; the
# rest keeps what the program wrote. The rooms' pointers are a group of their own.
set -eu
build=${BUILD:-build} cc=${CC:-gcc}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir "$work/proto"
flags="-std=gnu11 -D_GNU_SOURCE -O2 -fPIC -fvisibility=hidden -I."

# 3,000 pointers with gaps of 0 to 199 words between them, half of them constant, 3,000 to those without gaps, and
# one that only the loader can fill.
awk 'BEGIN {
    print "#include <stdlib.h>\nstatic const char text[4096];"
    for (k = 0; k < 2; k++) {
        name = k ? "open" : "fixed"
        for (i = 0; i < 1500; i++)
            printf "%sstruct { const void *p; long gap[%d]; } %s%d = {.p = text + %d};\n",
                k ? "" : "const ", i % 7 ? i % 3 : i % 200, name, i, (i * 37 + k) % 4096
        printf "const void *const *const %ss[1500] = {", name
        for (i = 0; i < 1500; i++)
            printf "&%s%d.p,", name, i
        print "};"
    }
    print "void *const outside = (void *)free;\nconst char *base(void) { return text; }"
}' >"$work/proto/data.c"
cat >"$work/use.c" <<'END'
#include <signal.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
#include "shim/heavy.h"
extern const void *const *const fixeds[1500], *const *const opens[1500];
extern void *const outside;
extern const char *base(void);
static int wrong(void) {
    int n = outside != (void *)free;
    for (int i = 0; i < 1500; i++) {
        if (!fixeds[i] || (unsigned long)fixeds[i] < 1UL << 32)
            return 9999; /* the table of addresses itself is not relocated */
        n += *fixeds[i] != base() + i * 37 % 4096;
        n += *opens[i] != base() + (i * 37 + 1) % 4096;
    }
    return n;
}
static void *load(void *arg) {
    mesh_heavy_load();
    return (void *)(long)wrong();
}
static int in_child(int (*run)(void)) {
    fflush(stdout);
    pid_t pid = fork();
    if (!pid)
        _exit(run());
    int status;
    waitpid(pid, &status, 0);
    return WIFSIGNALED(status) ? -WTERMSIG(status) : WEXITSTATUS(status);
}
static int loaded_right(void) {
    mesh_heavy_load();
    return wrong() != 0;
}
static int write_constant(void) {
    *(volatile long *)(long)fixeds[700] = 1;
    return 0;
}
static int expect(const char *what, int got, int want) {
    if (got != want)
        fprintf(stderr, "%s: %d, not %d\n", what, got, want);
    return got != want;
}
static const char *const volatile room[] = {"a", "b", "c"};
static int room_right(void) {
    return (unsigned long)room[2] > 1UL << 32 && strcmp(room[2], "c") == 0;
}
__attribute__((visibility("default"))) int check(int deferred) {
    int bad = expect("before", wrong() != 0, deferred);
    bad += expect("the room before", !room_right(), deferred);
    mesh_rooms_load();
    bad += expect("the room", room_right(), 1);
    bad += expect("the heavy part before", wrong() != 0, deferred);
    bad += expect("in a fork child", in_child(loaded_right), 0);
    pthread_t t[4];
    for (int i = 0; i < 4; i++)
        pthread_create(&t[i], NULL, load, NULL);
    for (int i = 0; i < 4; i++) {
        void *r;
        pthread_join(t[i], &r);
        bad += expect("in a thread", (int)(long)r, 0);
    }
    if (deferred)
        bad += expect("a write to a constant", in_child(write_constant), -SIGSEGV);
    *(const void **)(long)opens[3] = "mine";
    mesh_heavy_load();
    bad += expect("what the program wrote is kept", strcmp(*opens[3], "mine"), 0);
    return bad;
}
END
cat >"$work/main.c" <<'END'
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
int main(int argc, char **argv) {
    void *d = dlopen(argv[1], RTLD_NOW);
    int (*check)(int) = (int (*)(int))(d ? dlsym(d, "check") : NULL);
    if (!check)
        fprintf(stderr, "%s\n", dlerror());
    return check ? check(atoi(argv[2])) : 2;
}
END
$cc $flags -c "$work/proto/data.c" -o "$work/proto/data.o"
$cc $flags -c "$work/use.c" -o "$work/use.o"
$cc $flags -c shim/heavy.c -o "$work/heavy.o"
$cc $flags -c shim/base/sys.c -o "$work/sys.o"
$cc -shared -Wl,-Bsymbolic -Wl,-z,norelro -Wl,-T,shim/link/layout.ld -o "$work/x.so" "$work/use.o" "$work/heavy.o" "$work/sys.o" "$work/proto/data.o"
$cc -o "$work/main" "$work/main.c"
cp "$work/x.so" "$work/plain.so"
"$build/defer" "$work/x.so" >"$work/said"
grep -q '^6000 of .*heavy' "$work/said" && grep -q '^[3-9] of .*rooms' "$work/said" ||
    { echo "not what was to be deferred: $(cat "$work/said")" >&2; exit 1; }
"$work/main" "$work/plain.so" 0
"$work/main" "$work/x.so" 1
"$build/defer" "$work/x.so" >/dev/null 2>&1 && { echo 'a second run was not refused' >&2; exit 1; }
exit 0
