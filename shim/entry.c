/* SPDX-License-Identifier: Apache-2.0
 *
 * What the program calls: one exported entry for each line of shim/symbols.def. The gate of its family
 * decides in a few instructions between a jump into libc and our body.
 */
#include "shim/base/mem.h"
#include "shim/bodies.h"
#include "shim/door.h"
#include "shim/fd.h"
#include "shim/load.h"
#include "shim/real.h"
#include "shim/watch.h"
#include "shim/start.h"

#define EXPORT __attribute__((visibility("default")))
#define COLD __attribute__((noinline, cold))

/* Compared in place: gcc loads it first, and one instruction more is one in ten. */
static inline bool armed(void) {
#ifdef __x86_64__
    __asm__ goto("cmpl $0, %0\n\tjne %l1" : : "m"(mesh_armed) : "cc" : yes);
    return false;
yes:
    return true;
#else
    return atomic_load_explicit(&mesh_armed, memory_order_relaxed);
#endif
}

#define GATE_FD mesh_fd_get(fd)
#define GATE_WAIT armed()
#define GATE_EPOLL GATE_WAIT
#define GATE_ANY atomic_load_explicit(&mesh_on, memory_order_relaxed)
#define GATE_ON (atomic_load_explicit(&mesh_on, memory_order_relaxed) > 0)
#define GATE_TO (mesh_fd_get(fd) || (mesh_unlikely(addr) && GATE_ON))
#define GATE_PROC GATE_ANY

/* Before a body of the family: may it be entered after all? mesh_on is negative until start-up has read the
 * environment; other libraries' constructors run before ours and may connect already. */
#define OF_PROGRAM (mesh_depth < MESH_DEPTH_APART)
#define ENTER_FD (OF_PROGRAM && mesh_fd_shown(&fd))
#define ENTER_TO (OF_PROGRAM && mesh_fd_shown(&fd))
#define ENTER_WAIT OF_PROGRAM
#define ENTER_EPOLL OF_PROGRAM
#define ENTER_ON OF_PROGRAM
#define ENTER_ANY (OF_PROGRAM && mesh_started_on())
#define ENTER_PROC (OF_PROGRAM && mesh_started_on())

/* exec, fork and exit may never come back, or come back twice: they are entered without depth. */
#define DEPTH_FD(n) (mesh_depth += (n))
#define DEPTH_TO(n) (mesh_depth += (n))
#define DEPTH_WAIT(n) (mesh_depth += (n))
#define DEPTH_EPOLL(n) (mesh_depth += (n))
#define DEPTH_ON(n) (mesh_depth += (n))
#define DEPTH_ANY(n) (mesh_depth += (n))
#define DEPTH_PROC(n) ((void)0)

/* ---- bodies that no file defines ---- */
#define CALL(family, lacks, ret, name, params, args)                                                         \
    __attribute__((weak)) ret shim_##name params {                                                           \
        return real.name args;                                                                               \
    }
#define VOID(family, name, params, args)                                                                     \
    __attribute__((weak)) void shim_##name params {                                                          \
        real.name args;                                                                                      \
    }
#define NORETURN(family, name, params, args)                                                                 \
    __attribute__((weak)) void shim_##name params {                                                          \
        real.name args;                                                                                      \
        __builtin_unreachable();                                                                             \
    }
#define FIXED(family, lacks, ret, name, type, params, args) CALL(family, lacks, ret, name, params, args)
#include "shim/symbols.def"

/* ---- the way into a body ---- */
#define CALL(family, lacks, ret, name, params, args)                                                         \
    static COLD ret enter_##name params {                                                                    \
        if (!(ENTER_##family))                                                                               \
            return real.name args;                                                                           \
        DEPTH_##family(1);                                                                                   \
        ret result = shim_##name args;                                                                       \
        DEPTH_##family(-1);                                                                                  \
        return result;                                                                                       \
    }
#define VOID(family, name, params, args)                                                                     \
    static COLD void enter_##name params {                                                                   \
        if (!(ENTER_##family)) {                                                                             \
            real.name args;                                                                                  \
            return;                                                                                          \
        }                                                                                                    \
        DEPTH_##family(1);                                                                                   \
        shim_##name args;                                                                                    \
        DEPTH_##family(-1);                                                                                  \
    }
#define FIXED(family, lacks, ret, name, type, params, args) CALL(family, lacks, ret, name, params, args)
#include "shim/symbols.def"

/* After libc's own call. While a thread slept there another one may have made the first mesh connection. */
#define AFTER_FD(call) return call
#define AFTER_TO AFTER_FD
#define AFTER_WAIT AFTER_FD
#define AFTER_ON AFTER_FD
#define AFTER_ANY AFTER_FD
#define AFTER_PROC AFTER_FD
#define AFTER_EPOLL(call)                                                                                    \
    struct epoll_event *volatile told =                                                                      \
        events; /* on the stack: cheaper than a register that must be kept */                                \
    int n = call;                                                                                            \
    return mesh_unlikely(GATE_EPOLL) ? mesh_epoll_woken(told, n) : n

/* ---- the exported entries ---- */
#define CALL(family, lacks, ret, name, params, args)                                                         \
    EXPORT ret name params {                                                                                 \
        if (mesh_unlikely(GATE_##family))                                                                    \
            return enter_##name args;                                                                        \
        AFTER_##family(real.name args);                                                                      \
    }
#define VOID(family, name, params, args)                                                                     \
    EXPORT void name params {                                                                                \
        if (mesh_unlikely(GATE_##family))                                                                    \
            enter_##name args;                                                                               \
        else                                                                                                 \
            real.name args;                                                                                  \
    }
#define NORETURN(family, name, params, args)                                                                 \
    EXPORT void name params {                                                                                \
        if (mesh_unlikely(GATE_##family) && ENTER_##family)                                                  \
            shim_##name args;                                                                                \
        real.name args;                                                                                      \
        __builtin_unreachable();                                                                             \
    }
#define ALIAS(family, ret, alias, name, params, args)                                                        \
    EXPORT ret alias params {                                                                                \
        return mesh_unlikely(GATE_##family) ? enter_##name args : real.name args;                            \
    }
/* Defined beside libc's variadic prototype, under its assembler name: the words that the caller passed are
 * where a fixed list has them, and the jump into libc stays a jump. */
#define FIXED_NAME(family, ret, export, name, type, params, args)                                            \
    _Static_assert(__builtin_types_compatible_p(__typeof__(export), type), #export);                         \
    ret entry_##export params __asm__(#export);                                                              \
    EXPORT ret entry_##export params {                                                                       \
        return mesh_unlikely(GATE_##family) ? enter_##name args : real.name args;                            \
    }
#define FIXED(family, lacks, ret, name, type, params, args)                                                  \
    FIXED_NAME(family, ret, name, name, type, params, args)
#define FIXED_ALIAS(family, ret, alias, name, type, params, args)                                            \
    FIXED_NAME(family, ret, alias, name, type, params, args)
#define CHECKED(family, ret, name, params, args, overrun, call, call_args)                                   \
    EXPORT ret name params {                                                                                 \
        if (mesh_unlikely(GATE_##family) && !(overrun))                                                      \
            return enter_##call call_args;                                                                   \
        return real.name args;                                                                               \
    }
#include "shim/symbols.def"

/* ---- entries that no form fits ---- */
EXPORT int dprintf(int fd, const char *format, ...) {
    va_list ap;
    va_start(ap, format);
    int n = vdprintf(fd, format, ap);
    va_end(ap);
    return n;
}

EXPORT int __dprintf_chk(int fd, int level, const char *format, ...) {
    va_list ap;
    va_start(ap, format);
    int n = mesh_fd_get(fd) ? enter_vdprintf(fd, format, ap) : real.__vdprintf_chk(fd, level, format, ap);
    va_end(ap);
    return n;
}

/* The arguments of an execl as a vector on the stack: a vfork child may call it, so there is no heap. libc
 * declares the first one non-null, and some programs pass NULL all the same: the asm hides it from the
 * optimiser. */
#define EXEC_VECTOR(argv, first, ap)                                                                         \
    char *head = (char *)(uintptr_t)(first);                                                                 \
    __asm__("" : "+r"(head));                                                                                \
    size_t n = 0;                                                                                            \
    va_start(ap, first);                                                                                     \
    for (char *arg = head; arg; n++)                                                                         \
        arg = va_arg(ap, char *);                                                                            \
    va_end(ap);                                                                                              \
    char *argv[n + 1];                                                                                       \
    argv[0] = head;                                                                                          \
    va_start(ap, first);                                                                                     \
    for (size_t i = 1; i <= n; i++)                                                                          \
    argv[i] = va_arg(ap, char *)

EXPORT int execl(const char *path, const char *first, ...) {
    va_list ap;
    EXEC_VECTOR(argv, first, ap);
    va_end(ap);
    return execv(path, argv);
}

EXPORT int execlp(const char *file, const char *first, ...) {
    va_list ap;
    EXEC_VECTOR(argv, first, ap);
    va_end(ap);
    return execvp(file, argv);
}

EXPORT int execle(const char *path, const char *first, ...) {
    va_list ap;
    EXEC_VECTOR(argv, first, ap);
    char *const *envp = va_arg(ap, char *const *);
    va_end(ap);
    return execve(path, argv, envp);
}

/* Libraries look for their plug-ins relative to the caller, which libc finds by the return address: the calls
 * into libc have to stay jumps. */
EXPORT void *dlopen(const char *file, int mode) {
    if (mesh_unlikely(GATE_ON))
        file = mesh_load_instead(&mode, file, __builtin_return_address(0));
    return real.dlopen(file, mode);
}

EXPORT void *dlvsym(void *handle, const char *name, const char *version) {
    void *ours =
        GATE_ON && handle != RTLD_NEXT ? mesh_load_ours(name, version, __builtin_return_address(0)) : NULL;
    return ours ? ours : real.dlvsym(handle, name, version);
}
