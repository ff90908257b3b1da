/* SPDX-License-Identifier: Apache-2.0
 *
 * attach PAIRS PROGRAM LIBRARY...: what preloading costs an exec. Runs PROGRAM without and with each LIBRARY in turn,
 * PAIRS times, so that load on the machine meets both sides alike, and prints for each side the median and the first
 * decile of the time from spawn to wait, the ratio of both to the bare side, and the page faults.
 */
#include <errno.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>

enum { SIDES_MAX = 16 };

struct side {
    char preload[4096];
    double *us;
    long faults;
};

static double now_us(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e6 + (double)t.tv_nsec / 1e3;
}

static double run(const char *program, char *preload, long *ret_faults) {
    char *argv[] = {(char *)program, NULL}, *envp[] = {"PATH=/usr/bin:/bin", *preload ? preload : NULL, NULL};
    pid_t pid;
    int status;
    struct rusage used;
    double start = now_us();
    int err = posix_spawn(&pid, program, NULL, NULL, argv, envp);
    if (err || wait4(pid, &status, 0, &used) < 0 || status != 0) {
        fprintf(stderr, "%s: %s\n", program, err ? strerror(err) : "failed");
        exit(2);
    }
    *ret_faults = used.ru_minflt;
    return now_us() - start;
}

static int by_value(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

int main(int argc, char **argv) {
    if (argc < 4 || argc - 2 > SIDES_MAX) {
        fprintf(stderr, "usage: attach PAIRS PROGRAM LIBRARY...\n");
        return 2;
    }
    int pairs = atoi(argv[1]), sides = argc - 2;
    static struct side side[SIDES_MAX];
    for (int s = 0; s < sides; s++) {
        if (s)
            snprintf(side[s].preload, sizeof side[s].preload, "LD_PRELOAD=%s", argv[s + 2]);
        side[s].us = calloc((size_t)pairs, sizeof(double));
        if (!side[s].us)
            return 2;
    }
    for (int i = 0; i < pairs; i++)
        for (int s = 0; s < sides; s++)
            side[s].us[i] = run(argv[2], side[s].preload, &side[s].faults);
    for (int s = 0; s < sides; s++)
        qsort(side[s].us, (size_t)pairs, sizeof(double), by_value);
    const double *bare = side[0].us;
    for (int s = 0; s < sides; s++) {
        double median = side[s].us[pairs / 2], decile = side[s].us[pairs / 10];
        printf("median %6.1f us  decile %6.1f us  ratio %.3f %.3f  faults %ld  %s\n", median, decile, median / bare[pairs / 2],
               decile / bare[pairs / 10], side[s].faults, s ? argv[s + 2] : "(bare)");
    }
    return 0;
}
