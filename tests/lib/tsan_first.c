/* SPDX-License-Identifier: Apache-2.0
 *
 * What the ThreadSanitizer build has for DT_INIT: in a program that is not built with it nobody else starts
 * the runtime before the library's first instrumented function. Itself compiled without.
 */
void __tsan_init(void);
void mesh_init(void);
void mesh_tsan_init(void);

__attribute__((visibility("hidden"))) void mesh_tsan_init(void) {
    __tsan_init();
    mesh_init();
}
