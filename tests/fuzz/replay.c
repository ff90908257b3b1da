/* SPDX-License-Identifier: Apache-2.0
 *
 * Runs a fuzz target over files and folders, without a fuzzer: replay FILE|FOLDER... The ordinary test run's
 * way through the corpus.
 */
#include <dirent.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { INPUT_MAX = 16 << 20 };

static int run_file(const char *path) {
    FILE *f = fopen(path, "rb");
    uint8_t *data = malloc(INPUT_MAX);
    if (!f || !data) {
        perror(path);
        exit(2);
    }
    size_t size = fread(data, 1, INPUT_MAX, f);
    fclose(f);
    uint8_t *exact = malloc(size ? size : 1); /* of its very size, so that a sanitizer sees the end */
    for (size_t i = 0; exact && i < size; i++)
        exact[i] = data[i];
    free(data);
    if (exact)
        LLVMFuzzerTestOneInput(exact, size);
    free(exact);
    return 1;
}

static int run(const char *path) {
    struct stat st;
    DIR *d = stat(path, &st) == 0 && S_ISDIR(st.st_mode) ? opendir(path) : NULL;
    if (!d)
        return run_file(path);
    int n = 0;
    char inner[4096];
    for (struct dirent *e; (e = readdir(d));) {
        if (e->d_name[0] == '.')
            continue;
        snprintf(inner, sizeof inner, "%s/%s", path, e->d_name);
        n += run(inner);
    }
    closedir(d);
    return n;
}

__attribute__((weak)) int LLVMFuzzerInitialize(int *argc, char ***argv);

int main(int argc, char **argv) {
    int n = 0;
    if (LLVMFuzzerInitialize)
        LLVMFuzzerInitialize(&argc, &argv);
    for (int i = 1; i < argc; i++)
        n += run(argv[i]);
    printf("  ok     %s: %d inputs\n", argc > 1 ? argv[1] : "", n);
    return n ? 0 : 1;
}
