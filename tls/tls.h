/* SPDX-License-Identifier: Apache-2.0
 *
 * Who we are, who they are, and the bytes between. Bytes in, bytes out: nothing here knows a descriptor, waits,
 * or reads the clock (time is an argument). Four parts:
 *
 *   identity    an immutable certificate chain, key and trust bundle (SPIFFE X.509-SVID), reference counted
 *   peer rules  who may be at the other end (SPIFFE ID patterns, SAN matchers)
 *   handshake   TLS 1.3, and 1.2 with AEAD suites, by a private OpenSSL; one object a connection in progress
 *   record      what follows: keys and sequence numbers in a fixed-size struct without pointers, which lives in
 *               shared memory and is used by every process that holds the descriptor (DESIGN D2)
 *
 * OpenSSL is private: no configuration file, no OPENSSL_ variable, no atexit handler; the calling thread's
 * error queue is left as it was found. Errors are negative enum mesh_err (shim/base/err.h).
 */
#ifndef MESH_TLS_TLS_H
#define MESH_TLS_TLS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "shim/base/err.h"

/* ---- start ------------------------------------------------------------------------------------------------
 * Must be called once before anything else here, on an ordinary thread (never in a signal handler or vfork
 * child). Idempotent. MESH_E_NOMEM or MESH_E_INTERNAL. Threads: any, the caller serialises the first call. */
int mesh_tls_start(void) MESH_MUST_CHECK;

/* ---- peer rules -------------------------------------------------------------------------------------------
 * One condition on one subject alternative name. A list of them is any-of; an empty list passes nobody unless
 * stated otherwise where it is used. Text is length-counted and may not contain NUL. */
enum mesh_match_kind {
    MESH_MATCH_EXACT,
    MESH_MATCH_PREFIX,
    MESH_MATCH_SUFFIX,
    MESH_MATCH_CONTAINS,
    MESH_MATCH_REGEX,  /* RE2 subset by POSIX ERE, whole string (Envoy safe_regex); what has no twin matches nobody */
    MESH_MATCH_SPIFFE, /* MESH_PEERS form: `*` is one path segment; as the last character it is any rest; a bare
                          trust domain stands for every workload in it. Matches valid SPIFFE IDs only */
};
enum mesh_san_type { MESH_SAN_ANY, MESH_SAN_DNS, MESH_SAN_URI, MESH_SAN_EMAIL, MESH_SAN_IP };

struct mesh_match {
    uint8_t kind;     /* enum mesh_match_kind */
    uint8_t san_type; /* enum mesh_san_type; MESH_MATCH_SPIFFE implies URI */
    uint8_t ignore_case;
    uint16_t len;
    const char *text; /* borrowed: lives as long as the structure that holds the list */
};

/* Does one value match? Threads: any. No heap except MESH_MATCH_REGEX (which takes some 20 KiB of stack). */
bool mesh_match_text(const struct mesh_match *m, const char *value, size_t len);

/* Has this RE2 pattern a twin that MESH_MATCH_REGEX understands? One that has none matches nobody: fail-closed where a match
 * lets somebody in, and to be refused where a match keeps somebody out. Threads: any. */
bool mesh_match_regex_valid(const char *text, size_t len);

/* Parses a comma-separated MESH_PEERS / MESH_CALLERS value into at most `max` matches of kind MESH_MATCH_SPIFFE
 * that point into `text`. An entry must be `spiffe://TRUST_DOMAIN[/PATH]` with `*` allowed as described.
 * Returns the count, or MESH_E_INVALID / MESH_E_LIMIT with `why` naming the entry. Threads: any. */
int mesh_match_parse_patterns(const char *text, struct mesh_match *ret_list, size_t max, struct mesh_why *why)
    MESH_MUST_CHECK;

/* Is `id` a valid SPIFFE ID (spiffe.io/standards SPIFFE-ID: scheme, trust domain charset, no empty or dot
 * segments, at most 2048 bytes)? `ret_td_len` (may be NULL) gets the length of the trust domain that starts at
 * id+9. Threads: any, signal-safe. */
bool mesh_spiffe_valid(const char *id, size_t len, size_t *ret_td_len);

/* ---- identity ---------------------------------------------------------------------------------------------
 * Immutable once made; holds the OpenSSL contexts of both sides, built once. */
struct mesh_identity;

struct mesh_pem { /* bytes of the three PEM files; the key is zeroed by the caller */
    const void *cert, *key, *ca;
    size_t cert_len, key_len, ca_len;
};

/* Builds an identity. Checks: the chain parses, the key belongs to the leaf, the leaf is within its validity at
 * `wall` (seconds), the bundle has at least one root. A leaf with exactly one spiffe:// URI SAN gives the SPIFFE
 * ID; one without is allowed (ID ""), one with several is refused.
 * Errors: MESH_E_SYNTAX, MESH_E_INVALID, MESH_E_NOMEM, each with `why` saying which file and what.
 * The caller owns *ret_id (one reference). Threads: any. */
int mesh_identity_new(const struct mesh_pem *pem, int64_t wall, struct mesh_identity **ret_id, struct mesh_why *why)
    MESH_MUST_CHECK;
/* Variant: a trust bundle only (a cluster whose validation_context brings its own roots but keeps our
 * certificate): a new identity with the chain and key of `base` and the roots of `ca`. */
int mesh_identity_with_ca(const struct mesh_identity *base, const void *ca, size_t ca_len, struct mesh_identity **ret_id,
                          struct mesh_why *why) MESH_MUST_CHECK;
struct mesh_identity *mesh_identity_ref(struct mesh_identity *id);
void mesh_identity_unref(struct mesh_identity *id); /* NULL is fine; the key is zeroed with the last one */
const char *mesh_identity_spiffe(const struct mesh_identity *id);       /* "" when none */
const char *mesh_identity_trust_domain(const struct mesh_identity *id); /* "" when none */
int64_t mesh_identity_not_after(const struct mesh_identity *id);        /* leaf, seconds, UTC */
int64_t mesh_identity_not_before(const struct mesh_identity *id);
/* SHA-256 over leaf, key id and bundle: what tickets and caches are keyed by. */
const uint8_t *mesh_identity_digest(const struct mesh_identity *id);

/* The three files, re-read when replaced. A source keeps the last good identity: a file that is unreadable,
 * torn, expired or does not fit leaves the old one and says why (once per change of the files; it is tried again
 * every few seconds, so that a clock or a permission may come right). Reads are by path each time; a change is noticed
 * by (st_dev, st_ino, st_size, st_mtim, st_ctim), and files changed within two seconds are read once more. */
struct mesh_identity_source;
int mesh_identity_source_new(const char *cert, const char *key, const char *ca, struct mesh_identity_source **ret_src)
    MESH_MUST_CHECK;
void mesh_identity_source_free(struct mesh_identity_source *src);
/* Looks at the files (three stat calls; reads all three when one changed, so that they are of one moment). Returns 1 when a new identity was loaded, 0 when
 * nothing changed, negative when the files are bad now (why says; the old identity, if any, stays in force).
 * Threads: one at a time per source. */
int mesh_identity_source_poll(struct mesh_identity_source *src, int64_t wall, struct mesh_why *why) MESH_MUST_CHECK;
/* Takes PEM bytes that somebody else read (a process of the tree that still may): same checks, same result as
 * poll. */
int mesh_identity_source_feed(struct mesh_identity_source *src, const struct mesh_pem *pem, int64_t wall,
                              struct mesh_why *why) MESH_MUST_CHECK;
/* The identity in force with a reference for the caller, or NULL when there never was one. Threads: any (the
 * pointer is swapped atomically and the old one is kept for a grace of one swap). */
struct mesh_identity *mesh_identity_source_get(struct mesh_identity_source *src);
/* The PEM bytes in force, for handing to processes that cannot read the files; valid until the next poll/feed. */
bool mesh_identity_source_pem(const struct mesh_identity_source *src, struct mesh_pem *ret_pem);

/* ---- tickets ----------------------------------------------------------------------------------------------
 * Sessions that our clients keep, in memory of `size` bytes that processes may share: taken once, bounded, sealed
 * under a key of the identity, and whole or nothing whatever happens to the bytes. mesh_tls_start gives a mapping
 * that children inherit. The memory's salt also goes into the keys of the tickets that our servers make, so servers
 * on the same memory with the same identity take each other's TLS 1.3 tickets. */
size_t mesh_tickets_size(void);
int mesh_tickets_format(void *mem) MESH_MUST_CHECK; /* zeroed memory; MESH_E_INTERNAL: no random bytes */
bool mesh_tickets_whole(const void *mem);           /* is it what format makes? Slots look after themselves */
/* From here on; before the first identity is made, and `mem` stays for good. Threads: one, at start. */
void mesh_tickets_use(void *mem);

/* ---- record layer -----------------------------------------------------------------------------------------
 * RFC 8446 section 5, RFC 5246 section 6.2 with RFC 5288/7905 (AEAD). Plain data: no pointers, valid in shared
 * memory. The caller holds the lock of the direction for every call on a struct mesh_record. */
enum mesh_cipher { MESH_AES128_GCM = 1, MESH_AES256_GCM, MESH_CHACHA20_POLY1305 };

enum {
    MESH_REC_HEADER = 5,
    MESH_REC_PLAIN_MAX = 16384,
    MESH_REC_OVERHEAD_MAX = 5 + 8 + 16 + 1,      /* most that sealing adds to one record, header included */
    MESH_REC_WIRE_MAX = 5 + 16384 + 256,         /* largest record that we accept (1.3); 1.2: 5 + 16384 + 2048 is refused above this */
    MESH_REC_ALERT = 21, MESH_REC_HANDSHAKE = 22, MESH_REC_DATA = 23,
};

struct mesh_record { /* one direction of one connection */
    uint64_t seq;        /* of the next record; stored as used before a record is sealed */
    uint64_t sealed;     /* 16-byte blocks under the present key, against the AEAD limit (RFC 8446 5.5: 2^24.5 full
                            records are 2^34.5 blocks) */
    uint16_t version;    /* 0x0304 or 0x0303 */
    uint8_t cipher;      /* enum mesh_cipher */
    uint8_t hash_len;    /* 32 or 48: of the suite's hash, for KeyUpdate */
    uint32_t generation; /* counts key changes; with (slot, slot generation) it names a cached AEAD context */
    uint8_t key[32];
    uint8_t iv[12];      /* 1.2 GCM: the 4 implicit bytes */
    uint8_t secret[48];  /* application traffic secret (1.3) */
};

/* A cached AEAD context: process-private, one a (connection slot, direction). `tag` names what it is keyed for;
 * a seal or open whose record has another tag re-keys it. init once; done frees and zeroes. */
struct mesh_aead {
    void *ctx;
    uint64_t tag;
    uint32_t generation;
    uint8_t keyed;
};
void mesh_aead_done(struct mesh_aead *a);

/* Bytes that sealing adds to a record of this direction, header included (22 in 1.3, 29 or 21 in 1.2). */
size_t mesh_record_overhead(const struct mesh_record *r);

/* Seals one record: type and n <= 16384 bytes of `in` become header and ciphertext at `out` (cap >= n +
 * overhead). `in` may not overlap `out`. The sequence number is stored as used first. Returns the bytes written,
 * MESH_E_KEYLIMIT when the key may seal no more data (1.3: the caller seals a KeyUpdate, which is still let through, calls
 * mesh_record_next_key and goes on; 1.2: an alert is still let through, the connection ends), MESH_E_NOMEM, MESH_E_LIMIT. `tag` identifies the connection for the AEAD cache. */
int mesh_record_seal(struct mesh_record *r, struct mesh_aead *a, uint64_t tag, uint8_t type, const void *in, size_t n,
                     void *out, size_t cap) MESH_MUST_CHECK;
/* The same, gathering the plaintext from `cnt` iovecs starting `skip` bytes into them. */
struct iovec;
int mesh_record_sealv(struct mesh_record *r, struct mesh_aead *a, uint64_t tag, uint8_t type, const struct iovec *iov,
                      int cnt, size_t skip, size_t n, void *out, size_t cap) MESH_MUST_CHECK;

/* Reads a record header (5 bytes): returns the length of the body, or MESH_E_PROTOCOL when type, version or
 * length cannot be a record of this direction (1.3: type 23, or 20 with body 01 never after the handshake). */
int mesh_record_body_len(const struct mesh_record *r, const uint8_t header[5]) MESH_MUST_CHECK;

/* Opens one whole record of header and body (wire_len = 5 + body length) into `out`, which may be `wire` + 5
 * exactly (in place) or not overlap at all; cap must be >= body length. Sets the inner type (padding removed)
 * and returns the plaintext length (0 is legal for data). Errors: MESH_E_RECORD (does not authenticate),
 * MESH_E_PROTOCOL (no inner type, over-long, bad type), MESH_E_KEYLIMIT, MESH_E_NOMEM. After an error the
 * direction is dead. */
int mesh_record_open(struct mesh_record *r, struct mesh_aead *a, uint64_t tag, const uint8_t *wire, size_t wire_len,
                     void *out, size_t cap, uint8_t *ret_type) MESH_MUST_CHECK;

/* KeyUpdate (RFC 8446 4.6.3, 7.2): moves the direction to its next traffic key; seq and sealed become 0,
 * generation grows. MESH_E_UNSUPPORTED for 1.2. */
int mesh_record_next_key(struct mesh_record *r) MESH_MUST_CHECK;

/* What a decrypted non-data record asks for. Post-handshake messages may be fragmented or coalesced: `acc` keeps
 * up to 16 bytes between records (a KeyUpdate) and skips the bodies of others; it is plain data in shared memory. */
struct mesh_post {
    uint8_t have;     /* bytes of the message header kept */
    uint8_t head[5];
    uint32_t skip;    /* body bytes still to be skipped */
};
enum mesh_post_action {
    MESH_POST_NONE = 0,
    MESH_POST_KEY_UPDATE = 1,         /* peer's sending key changed: call mesh_record_next_key on the reading side */
    MESH_POST_KEY_UPDATE_REPLY = 2,   /* and we must send a KeyUpdate(update_not_requested) before our next data */
    MESH_POST_TICKET = 4,             /* a NewSessionTicket went by */
};
/* Feeds the plaintext of one handshake-type record. Returns a set of enum mesh_post_action bits, or
 * MESH_E_PROTOCOL (unexpected message, bad KeyUpdate, a KeyUpdate that is not the end of its record). 1.2: a
 * HelloRequest is ignored, a ClientHello is MESH_E_PROTOCOL (no renegotiation). `server` = we are the server. */
int mesh_post_feed(struct mesh_post *acc, const struct mesh_record *r, bool server, const uint8_t *p, size_t n)
    MESH_MUST_CHECK;
/* The 5-byte KeyUpdate message body to seal as a MESH_REC_HANDSHAKE record. */
void mesh_key_update_message(bool request, uint8_t ret_msg[5]);
/* An alert record's plaintext: MESH_E_CLOSED for close_notify, 0 for a warning to be ignored (user_canceled, 1.2
 * no_renegotiation), MESH_E_ALERT for a fatal one (`ret_alert`: its number), MESH_E_PROTOCOL if malformed. */
int mesh_alert_read(const struct mesh_record *r, const uint8_t *p, size_t n, uint8_t *ret_alert) MESH_MUST_CHECK;
const char *mesh_alert_name(uint8_t alert); /* "bad_certificate", or "alert 200" style for unknown; never NULL */

/* ---- handshake -------------------------------------------------------------------------------------------- */
struct mesh_handshake;

struct mesh_handshake_config {
    bool server;
    struct mesh_identity *identity;   /* a reference is taken */
    const struct mesh_match *peers;   /* any-of; npeers 0: any SPIFFE ID of our own trust domain. Copied, texts too */
    size_t npeers;
    bool peers_none;                  /* nobody passes (MESH_PEERS=none and nothing in the view) */
    bool any_peer_san;                /* the view asked for chain validation only: no name check (A29 empty list) */
    bool no_client_cert;              /* server: do not require a client certificate (a DownstreamTlsContext that says
                                         so); one that is shown must still pass */
    const char *sni;                  /* client; NULL: none. Copied */
    const uint8_t *alpn;              /* wire form (length-prefixed list); NULL: MESH_ALPN; length 0: none. Copied */
    size_t alpn_len;
    uint16_t min_version, max_version; /* 0: 1.2 and 1.3 */
    const char *ticket_key;           /* client: name under which tickets are kept and looked up (peer service and
                                         accepted peers); NULL: no resumption. Copied */
    int64_t wall;                     /* seconds now */
};

struct mesh_peer { /* what was learned about the other end; plain data for the slab */
    char spiffe[256];   /* its SPIFFE ID, else its first SAN, cut; "" if no certificate */
    char alpn[32];
    uint16_t version;   /* 0x0304, 0x0303 */
    uint8_t cipher;     /* enum mesh_cipher */
    uint8_t resumed;
    int64_t not_after;  /* of the peer's leaf; 0 if none */
};

/* Limits: peers <= 256, sni <= 255, alpn <= 255. Errors: MESH_E_NOMEM, MESH_E_INVALID, MESH_E_LIMIT. */
int mesh_handshake_new(const struct mesh_handshake_config *cfg, struct mesh_handshake **ret_hs) MESH_MUST_CHECK;
void mesh_handshake_free(struct mesh_handshake *hs);

/* Advances. `in` holds `n` bytes: nothing (a client's first step; never a server's) or exactly one whole TLS
 * record. What must be sent is appended to an internal buffer, see mesh_handshake_out.
 * Returns 0 when the handshake is done (the peer is authenticated; still send what is in out), MESH_E_AGAIN when
 * another record is needed, or a final error: MESH_E_PEER (certificate or name; `why` says which, with the ID that
 * was shown and what would have been accepted), MESH_E_ALERT (peer's alert), MESH_E_PROTOCOL, MESH_E_NOMEM.
 * On errors out holds the alert to send. Threads: one at a time per object. Uses up to 16 KiB of stack, 24 with
 * MESH_MATCH_REGEX among the peers. */
int mesh_handshake_step(struct mesh_handshake *hs, const void *in, size_t n, struct mesh_why *why) MESH_MUST_CHECK;

/* Bytes to be sent now, owned by the handshake, valid until the next step; sent(n) drops the first n. */
size_t mesh_handshake_out(const struct mesh_handshake *hs, const uint8_t **ret_bytes);
void mesh_handshake_sent(struct mesh_handshake *hs, size_t n);

/* Server, after done: sealed tickets that are to travel in one segment with our first data (they used sequence
 * numbers: tx.seq already counts them; they must be sent before any record sealed later). 0 if none. The caller
 * copies them; they are no part of mesh_handshake_out. */
size_t mesh_handshake_tickets(const struct mesh_handshake *hs, const uint8_t **ret_bytes);

/* After done: the keys of both directions and what was learned. */
int mesh_handshake_finish(struct mesh_handshake *hs, struct mesh_record *ret_rx, struct mesh_record *ret_tx,
                          struct mesh_peer *ret_peer) MESH_MUST_CHECK;

/* Client, after finish: a record of handshake type that our record layer met before any data record, in its
 * sealed form, so that OpenSSL can take the ticket out of it. Ignored when it is too late. */
void mesh_handshake_ticket(struct mesh_handshake *hs, const void *wire, size_t n);

/* What a ClientHello says before anything is decided (RFC 8446 4.1.2, RFC 6066 3, RFC 7301). */
struct mesh_hello {
    const uint8_t *sni;  /* inside the record, NULL: none */
    size_t sni_len;
    const uint8_t *alpn; /* the list in wire form, NULL: none */
    size_t alpn_len;
};
/* Reads it out of the first record, of which n bytes are there. False: it is not whole (it goes on in a further record, or was
 * cut) or broken: then nothing is known of it. Threads: any, signal-safe. */
bool mesh_hello_read(const uint8_t *p, size_t n, struct mesh_hello *ret);

/* First bytes of an inbound connection (permissive ports): is it a TLS ClientHello that could be a mesh
 * client's? Needs up to 5 bytes to say no, a whole ClientHello record to say yes. */
enum mesh_first { MESH_FIRST_MORE, MESH_FIRST_PLAIN, MESH_FIRST_TLS_MESH, MESH_FIRST_TLS_OTHER };
/* A mesh client's ClientHello offers ALPN `istio` (or istio-*), or MESH_ALPN. Every client of ours offers MESH_ALPN
 * or what its cluster says. `other` is the program's own TLS, served as it is. Bounded, never reads past n. Threads:
 * any, signal-safe. */
#define MESH_ALPN "istio"
enum mesh_first mesh_first_bytes(const uint8_t *p, size_t n);

#endif
