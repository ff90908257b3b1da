/* SPDX-License-Identifier: Apache-2.0
 *
 * Every libc header that shim/symbols.def takes types from, and the prototypes of exported names that no public header
 * declares. Included by the files that expand the table, so that a line that does not fit libc does not compile.
 * Fortify is off there: its inline wrappers would define the names a second time.
 */
#ifndef MESH_SHIM_LIBC_H
#define MESH_SHIM_LIBC_H

#undef _FORTIFY_SOURCE
#include <aio.h>
#include <dlfcn.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <poll.h>
#include <resolv.h>
#include <sched.h>
#include <signal.h>
#include <spawn.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/select.h>
#include <sys/sendfile.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

int __dprintf_chk(int fd, int level, const char *format, ...) __attribute__((format(printf, 3, 4)));
int __open(const char *path, int flags, ...);
int __open64(const char *path, int flags, ...);
int __fcntl(int fd, int cmd, ...);
int __clone(int (*run)(void *), void *stack, int flags, void *arg, ...);

#endif
