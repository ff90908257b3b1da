/* SPDX-License-Identifier: Apache-2.0
 *
 * What a certificate says: times, names, its digest.
 */
#include <arpa/inet.h>
#include <openssl/err.h>
#include <string.h>
#include "tls/internal.h"

int64_t mesh_tls_time_seconds(const ASN1_TIME *t) {
    struct tm tm;
    if (!t || ASN1_TIME_to_tm(t, &tm) != 1)
        return INT64_MIN;
    /* Days from 1970 by the calendar's 400-year cycle (years that begin in March), so that no time zone is
     * asked. */
    int64_t y = tm.tm_year + 1900 - (tm.tm_mon < 2), era = (y >= 0 ? y : y - 399) / 400, year = y - era * 400;
    int64_t day = (153 * ((tm.tm_mon + 10) % 12) + 2) / 5 + tm.tm_mday - 1;
    int64_t days = era * 146097 + year * 365 + year / 4 - year / 100 + day - 719468;
    return ((days * 24 + tm.tm_hour) * 60 + tm.tm_min) * 60 + tm.tm_sec;
}

int mesh_tls_cert_names(X509 *cert, GENERAL_NAMES **ret_names) {
    int critical;
    GENERAL_NAMES *names = X509_get_ext_d2i(cert, NID_subject_alt_name, &critical, NULL);
    if (!names && critical != -1) /* there are names, or two lists of them, that could not be read */
        return MESH_E_INVALID;
    *ret_names = names;
    return 0;
}

static bool text_get(const ASN1_STRING *s, enum mesh_san_type type, struct mesh_tls_san *ret) {
    int n = ASN1_STRING_length(s);
    const char *text = (const char *)ASN1_STRING_get0_data(s);
    if (n <= 0 || memchr(text, 0, (size_t)n))
        return false;
    ret->type = type;
    ret->text = text;
    ret->len = (size_t)n;
    return true;
}

static bool ip_get(const ASN1_STRING *s, struct mesh_tls_san *ret) {
    int n = ASN1_STRING_length(s);
    if ((n != 4 && n != 16) ||
        !inet_ntop(n == 4 ? AF_INET : AF_INET6, ASN1_STRING_get0_data(s), ret->ip, sizeof ret->ip))
        return false;
    ret->type = MESH_SAN_IP;
    ret->text = ret->ip;
    ret->len = strlen(ret->ip);
    return true;
}

bool mesh_tls_san_get(const GENERAL_NAMES *names, int i, struct mesh_tls_san *ret_san) {
    const GENERAL_NAME *name = sk_GENERAL_NAME_value(names, i);
    switch (name->type) {
    case GEN_URI:
        return text_get(name->d.uniformResourceIdentifier, MESH_SAN_URI, ret_san);
    case GEN_DNS:
        return text_get(name->d.dNSName, MESH_SAN_DNS, ret_san);
    case GEN_EMAIL:
        return text_get(name->d.rfc822Name, MESH_SAN_EMAIL, ret_san);
    case GEN_IPADD:
        return ip_get(name->d.iPAddress, ret_san);
    default:
        return false;
    }
}

static bool is_spiffe_scheme(const struct mesh_tls_san *san) {
    return san->len >= 7 && strncasecmp(san->text, "spiffe:", 7) == 0;
}

int mesh_tls_names_spiffe(const GENERAL_NAMES *names, struct mesh_tls_san *ret_id, struct mesh_why *why) {
    int uris = 0, found = 0;
    struct mesh_tls_san san;
    for (int i = 0; i < sk_GENERAL_NAME_num(names); i++) {
        if (sk_GENERAL_NAME_value(names, i)->type == GEN_URI)
            uris++;
        if (!mesh_tls_san_get(names, i, &san) || san.type != MESH_SAN_URI || !is_spiffe_scheme(&san))
            continue;
        if (!found++)
            *ret_id = san;
    }
    if (found == 0)
        return 0;
    if (uris > 1)
        return mesh_why(why, MESH_E_INVALID,
                        "certificate has %d URI names, SPIFFE allows exactly one (first: %.*s)", uris,
                        (int)(ret_id->len > 120 ? 120 : ret_id->len), ret_id->text);
    if (!mesh_spiffe_valid(ret_id->text, ret_id->len, NULL))
        return mesh_why(why, MESH_E_INVALID, "certificate's URI %.*s is not a valid SPIFFE ID",
                        (int)(ret_id->len > 120 ? 120 : ret_id->len), ret_id->text);
    return 1;
}

int mesh_tls_cert_digest(const X509 *cert, uint8_t ret_digest[MESH_TLS_DIGEST]) {
    return X509_digest(cert, mesh_tls_hash_get(MESH_TLS_DIGEST), ret_digest, NULL) == 1 ? 0 : MESH_E_NOMEM;
}
