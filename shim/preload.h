/* SPDX-License-Identifier: Apache-2.0
 *
 * What a program that was given a cleaned environment gets back (DESIGN D11): LD_PRELOAD with our library and the variables
 * that configure it, as this process had them at its start. Only where all of them are gone: MESH_ variables without
 * LD_PRELOAD, or another LD_PRELOAD, mean that it is on purpose.
 */
#ifndef MESH_SHIM_PRELOAD_H
#define MESH_SHIM_PRELOAD_H

#include <stdbool.h>
#include <stddef.h>

/* Copies what must be known later; once, at start-up: programs write over their own environment. */
void mesh_preload_remember(char *const *envp);
/* Where our library was loaded from, as the loader found it; "" unless that is an absolute path. */
const char *mesh_preload_path(void);
/* Is everything gone from envp that said the program is to have the shim? */
bool mesh_preload_cleaned(char *const *envp);
/* What is put back, each NAME=VALUE. Threads: any, signal-safe, usable in a vfork child; so are the two above. */
char *const *mesh_preload_variables(size_t *ret_n);

#endif
