#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Another interposer that is preloaded after ours is what our entries go on to, whichever hash table it has, whether
# its names have versions or not, and of several versions the default one; one that is preloaded before ours goes on to us.
set -eu
lib=$(realpath -e "${BUILD:-build}/libmeshshim.so")
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
cc=${CC:-gcc}

cat >other.c <<'END'
#define _GNU_SOURCE
#include <dlfcn.h>
#include <sys/types.h>
ssize_t send(int fd, const void *p, size_t n, int flags) {
    ssize_t (*next)(int, const void *, size_t, int) = (ssize_t(*)(int, const void *, size_t, int))dlsym(RTLD_NEXT, "send");
    return next(fd, p, n, flags) + 100;
}
END
cat >main.c <<'END'
#include <stdio.h>
#include <sys/socket.h>
int main(void) {
    int fds[2];
    if (socketpair(AF_UNIX, SOCK_STREAM, 0, fds) < 0)
        return 2;
    printf("%zd\n", send(fds[0], "abc", 3, 0));
    return 0;
}
END
cat >old.c <<'END'
#include <sys/types.h>
#define OLD(n) ssize_t old##n(int fd, const void *p, size_t len, int flags) { return -n; } __asm__(".symver old" #n ",send@OLD_" #n);
OLD(1) OLD(2) OLD(3) OLD(4)
ssize_t newest(int fd, const void *p, size_t len, int flags) { return 900; }
__asm__(".symver newest,send@@NEW");
OLD(5) OLD(6) OLD(7) OLD(8)
END
{
    for n in 1 2 3 4 5 6 7 8; do echo "OLD_$n { global: send; };"; done
    echo 'NEW { global: send; local: *; };'
} >versions.old
echo 'OTHER_1 { global: send; local: *; };' >versions
$cc -o main main.c
$cc -shared -fPIC -Wl,--hash-style=gnu -o gnu.so other.c
$cc -shared -fPIC -Wl,--hash-style=sysv -o sysv.so other.c
$cc -shared -fPIC -Wl,--version-script=versions -o versioned.so other.c

for style in gnu sysv; do
    $cc -shared -fPIC -Wl,--hash-style=$style -Wl,--version-script=versions.old -o old-$style.so old.c
done

status=0
expect() { # expect PRELOAD RESULT
    got=$(LD_PRELOAD=$1 timeout 10 ./main || true)
    [ "$got" = "$2" ] || { echo "LD_PRELOAD='$1': send answered $got, not $2" >&2; status=1; }
}
expect "$lib" 3
for other in gnu sysv versioned; do
    expect "$lib $work/$other.so" 103
done
expect "$lib $work/old-gnu.so" 900
expect "$lib $work/old-sysv.so" 900
expect "$work/gnu.so $lib" 103
expect "$work/gnu.so $lib $work/sysv.so" 203
exit $status
