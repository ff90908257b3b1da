/* SPDX-License-Identifier: Apache-2.0 */
#include <criterion/criterion.h>
#include <locale.h>
#include <string.h>
#include "tls/tls.h"

static bool match(uint8_t kind, const char *text, const char *value, bool ignore_case) {
    struct mesh_match m = {
        .kind = kind, .ignore_case = ignore_case, .len = (uint16_t)strlen(text), .text = text};
    return mesh_match_text(&m, value, strlen(value));
}

static bool spiffe(const char *pattern, const char *id) {
    return match(MESH_MATCH_SPIFFE, pattern, id, false);
}

Test(match, exact_prefix_suffix_contains) {
    cr_assert(match(MESH_MATCH_EXACT, "abc", "abc", false));
    cr_assert(!match(MESH_MATCH_EXACT, "abc", "abcd", false));
    cr_assert(!match(MESH_MATCH_EXACT, "abc", "ABC", false));
    cr_assert(match(MESH_MATCH_EXACT, "abc", "ABC", true));
    cr_assert(match(MESH_MATCH_PREFIX, "ab", "abc", false));
    cr_assert(match(MESH_MATCH_PREFIX, "", "abc", false));
    cr_assert(!match(MESH_MATCH_PREFIX, "abcd", "abc", false));
    cr_assert(match(MESH_MATCH_SUFFIX, "bc", "abc", false));
    cr_assert(!match(MESH_MATCH_SUFFIX, "ab", "abc", false));
    cr_assert(match(MESH_MATCH_CONTAINS, "b", "abc", false));
    cr_assert(match(MESH_MATCH_CONTAINS, "C", "abc", true));
    cr_assert(!match(MESH_MATCH_CONTAINS, "x", "abc", false));
    cr_assert(!match(99, "", "abc", false));
}

Test(match, a_value_with_nul_never_matches) {
    struct mesh_match m = {.kind = MESH_MATCH_PREFIX, .len = 1, .text = "a"};
    cr_assert(!mesh_match_text(&m, "a\0b", 3));
}

Test(match, a_star_is_one_segment_or_the_rest) {
    cr_assert(spiffe("spiffe://shop/ns/*/sa/web", "spiffe://shop/ns/prod/sa/web"));
    cr_assert(!spiffe("spiffe://shop/ns/*/sa/web", "spiffe://shop/ns/a/b/sa/web"));
    cr_assert(!spiffe("spiffe://shop/ns/*/sa/web", "spiffe://shop/ns//sa/web"));
    cr_assert(!spiffe("spiffe://shop/ns/*/sa/web", "spiffe://shop/ns/prod/sa/web2"));
    cr_assert(spiffe("spiffe://shop/ns/*", "spiffe://shop/ns/prod/sa/web"));
    cr_assert(spiffe("spiffe://shop/*", "spiffe://shop/x"));
    cr_assert(!spiffe("spiffe://shop/*", "spiffe://shopping/x"));
    cr_assert(spiffe("spiffe://shop/ns/prod/sa/web-*", "spiffe://shop/ns/prod/sa/web-1"));
    cr_assert(!spiffe("spiffe://shop/ns/prod/sa/web-*", "spiffe://shop/ns/prod/sa/web"));
    cr_assert(spiffe("spiffe://shop/*/*/*/web", "spiffe://shop/ns/prod/sa/web"));
    cr_assert(spiffe("spiffe://shop/a", "spiffe://shop/a"));
    cr_assert(!spiffe("spiffe://shop/a", "spiffe://shop/a/b"));
    cr_assert(!spiffe("spiffe://shop/a/b", "spiffe://shop/a"));
}

Test(match, a_bare_trust_domain_is_every_workload_in_it) {
    cr_assert(spiffe("spiffe://shop", "spiffe://shop/ns/prod"));
    cr_assert(!spiffe("spiffe://shop", "spiffe://shop"));
    cr_assert(!spiffe("spiffe://shop", "spiffe://shop.evil/ns/prod"));
    cr_assert(!spiffe("spiffe://shop", "spiffe://shopping/x"));
}

Test(match, a_pattern_never_matches_what_is_no_spiffe_id) {
    cr_assert(!spiffe("spiffe://shop/*", "spiffe://shop/../x"));
    cr_assert(!spiffe("spiffe://shop/*", "spiffe://shop/a b"));
    cr_assert(!spiffe("spiffe://shop/*", "spiffe://shop/"));
    cr_assert(!spiffe("", ""));
}

Test(match, patterns_are_parsed_in_place) {
    static const char text[] = "spiffe://shop/ns/*/sa/web, spiffe://other ,spiffe://x/*";
    struct mesh_match list[3];
    struct mesh_why why = {""};
    cr_assert_eq(mesh_match_parse_patterns(text, list, 3, &why), 3);
    cr_assert(list[0].text == text && list[0].len == 25 && list[0].kind == MESH_MATCH_SPIFFE &&
              list[0].san_type == MESH_SAN_URI);
    cr_assert(list[1].text == text + 27 && list[1].len == 14);
    cr_assert(list[2].len == 12);
    cr_assert_eq(mesh_match_parse_patterns(text, list, 2, &why), MESH_E_LIMIT);
    cr_assert(strstr(why.text, "spiffe://x/*"), "%s", why.text);
}

Test(match, bad_patterns_are_named) {
    static const char *const bad[] = {"",
                                      ",",
                                      "spiffe://a/b,",
                                      "none",
                                      "spiffe://",
                                      "spiffe://*",
                                      "spiffe://*/x",
                                      "spiffe://sh*p/x",
                                      "spiffe://shop*",
                                      "spiffe://shop/a*/b",
                                      "spiffe://shop/*a",
                                      "spiffe://shop/**",
                                      "spiffe://shop/",
                                      "spiffe://Shop/x",
                                      "https://shop/*",
                                      "spiffe://shop/a b",
                                      "spiffe://shop/*/"};
    struct mesh_match list[4];
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        struct mesh_why why = {""};
        cr_assert_eq(mesh_match_parse_patterns(bad[i], list, 4, &why), MESH_E_INVALID, "%s", bad[i]);
        cr_assert(why.text[0]);
    }
}

static bool regex(const char *pattern, const char *value) {
    return match(MESH_MATCH_REGEX, pattern, value, false);
}

Test(match, regexes_match_whole_strings) {
    cr_assert(regex(".*/ns/shop/.*", "spiffe://td/ns/shop/sa/web"));
    cr_assert(!regex("/ns/shop/", "spiffe://td/ns/shop/sa/web"));
    cr_assert(regex("a|bc", "bc"));
    cr_assert(!regex("a|bc", "ac"));
    cr_assert(!regex("a|b", "ab"));
    cr_assert(regex("spiffe://td/ns/[a-z0-9-]+/sa/(web|api)", "spiffe://td/ns/prod-1/sa/api"));
    cr_assert(regex("", ""));
    cr_assert(!regex("", "a"));
    cr_assert(match(MESH_MATCH_REGEX, "ABC", "abc", true));
}

Test(match, re2_forms_with_a_twin_mean_the_same) {
    cr_assert(regex("\\d+\\.\\d+", "10.25"));
    cr_assert(!regex("\\d+", "d"));
    cr_assert(regex("\\w+\\s\\w+", "a_b c9"));
    cr_assert(regex("(?:ab)+c", "ababc"));
    cr_assert(!regex("(?:ab)+c", "?:abc"));
    cr_assert(regex("a.*?b", "axxb"));
    cr_assert(regex("a{2,3}b", "aaab"));
    cr_assert(!regex("a{2,3}b", "ab"));
    cr_assert(regex("spiffe:\\/\\/td\\/x\\-y", "spiffe://td/x-y"));
    cr_assert(regex("[\\w.]+@[\\d]+", "a.b@99"));
    cr_assert(regex("[^/]+", "abc"));
    cr_assert(!regex("[^/]+", "a/c"));
    cr_assert(regex("[[:alpha:]]+", "abc"));
    cr_assert(regex("[]a]+", "]a"));
}

Test(match, forms_without_a_twin_match_nobody) {
    static const char *const bad[] = {"(?i)abc", "(?P<x>a)",
                                      "(?=a)a",  "\\babc",
                                      "a\\",     "(a)\\1",
                                      "\\pL",    "[\\]]",
                                      "[a",      "(a",
                                      "a)",      "*a",
                                      "a**",     "a++",
                                      "{2}",     "a{1000}{1000}",
                                      "a{3,2}",  "((((((((((((((((((a))))))))))))))))))",
                                      "\\x41",   "\\Qa\\E",
                                      "\\z",     "[[]",
                                      "a{,3}",   "|*"};
    static const char *const values[] = {"abc", "a", "aa", "", "]", "*a", "A", "ABC", "2", "{2}", "aaa"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        for (size_t j = 0; j < sizeof values / sizeof values[0]; j++)
            cr_assert(!regex(bad[i], values[j]), "%s ~ %s", bad[i], values[j]);
}

Test(match, control_characters_match_no_regex) {
    cr_assert(!regex(".*", "a\nb"));
    cr_assert(!regex(".*", "a\x7f"));
}

Test(match, long_regexes_match_nobody) {
    static char pattern[2000];
    memset(pattern, 'a', 1025);
    cr_assert(!regex(pattern, pattern));
    pattern[1024] = 0;
    cr_assert(regex(pattern, pattern));
}

Test(match, the_programs_locale_stays_and_does_not_matter) {
    setlocale(LC_ALL, "C.UTF-8");
    locale_t before = uselocale((locale_t)0);
    cr_assert(!regex(".", "\303\266")); /* two bytes */
    cr_assert(regex("..", "\303\266"));
    cr_assert_eq(uselocale((locale_t)0), before);
}
