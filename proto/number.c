/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE 1
#include <errno.h>
#include <locale.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proto/inner.h"

/* The host program may have chosen a locale that writes 1,5. For the C locale newlocale gives a static
 * object: it neither allocates nor fails. */
static locale_t c_locale(void) {
    return newlocale(LC_ALL_MASK, "C", (locale_t)0);
}

bool mesh_text_to_double(const char *text, double *ret) {
    static const struct {
        const char *text;
        double value;
    } words[] = {{"NaN", NAN},        {".nan", NAN},          {".NaN", NAN},
                 {".NAN", NAN},       {"Infinity", INFINITY}, {"-Infinity", -INFINITY},
                 {".inf", INFINITY},  {".Inf", INFINITY},     {".INF", INFINITY},
                 {"+.inf", INFINITY}, {"-.inf", -INFINITY},   {"-.Inf", -INFINITY},
                 {"-.INF", -INFINITY}};
    for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++) {
        if (!strcmp(text, words[i].text)) {
            *ret = words[i].value;
            return true;
        }
    }
    char *end;
    if (!*text || text[strspn(text, "0123456789+-.eE")])
        return false;
    *ret = strtod_l(text, &end, c_locale());
    return *end == '\0' && isfinite(*ret);
}

void mesh_double_to_text(double v, bool single, char ret[32]) {
    if (isnan(v) || isinf(v)) {
        snprintf(ret, 32, "%s", isnan(v) ? "NaN" : v < 0 ? "-Infinity" : "Infinity");
        return;
    }
    locale_t before = uselocale(c_locale());
    for (int digits = single ? 6 : 15; digits <= 17; digits++) {
        snprintf(ret, 32, "%.*g", digits, v);
        double back = strtod_l(ret, NULL, c_locale());
        if (single ? (float)back == (float)v : back == v)
            break;
    }
    uselocale(before);
}
