#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# pki.sh DIR: a mesh's certificates for tests, made with openssl alone.
#   ca.pem            root of the trust domain `shop`; ca2.pem a second root; bundle.pem both; foreign-ca.pem another domain's root
#   NAME.pem NAME.key a leaf with a SPIFFE ID (P-256 unless the name says rsa), NAME as listed at the end
#   NAME-chain.pem    leaf and intermediate where there is one (else a copy of NAME.pem)
# Lists every identity in DIR/ids, one `NAME SPIFFE-ID` a line. Nothing is made twice: an existing DIR/ids ends it.
set -eu
[ $# = 1 ] || { echo "usage: pki.sh DIR" >&2; exit 2; }
mkdir -p "$1"; cd "$1"
[ -s ids ] && exit 0
umask 077
export OPENSSL_CONF="$PWD/openssl.cnf"
cat >openssl.cnf <<'C'
[req]
distinguished_name = dn
prompt = no
[dn]
O = shop
[ca]
default_ca = day
[day]
dir = .
database = $dir/index.txt
new_certs_dir = $dir/issued
rand_serial = yes
default_md = sha256
default_days = 3650
policy = any
unique_subject = no
copy_extensions = none
[any]
organizationName = optional
commonName = optional
C
: >index.txt; mkdir -p issued

key() { # key NAME KIND
  case $2 in
  rsa) openssl genpkey -quiet -algorithm RSA -pkeyopt rsa_keygen_bits:2048 -out "$1.key" 2>/dev/null ||
         openssl genrsa -out "$1.key" 2048 2>/dev/null ;;
  *) openssl ecparam -name prime256v1 -genkey -noout -out "$1.key" ;;
  esac
}

root() { # root NAME ORGANISATION TRUST-DOMAIN
  key "$1" ec
  openssl req -x509 -new -key "$1.key" -sha256 -days 3650 -subj "/O=$2/CN=$1" -out "$1.pem" \
    -addext "basicConstraints=critical,CA:TRUE" -addext "keyUsage=critical,keyCertSign,cRLSign" \
    -addext "subjectAltName=URI:spiffe://$3"
}

sign() { # sign NAME ISSUER EXTENSION-LINES [openssl ca options]
  local name=$1 issuer=$2 ext=$3; shift 3
  printf '%b\n' "$ext" >"$name.ext"
  openssl req -new -key "$name.key" -subj "/O=shop/CN=$name" -out "$name.csr"
  openssl ca -batch -notext -cert "$issuer.pem" -keyfile "$issuer.key" -in "$name.csr" -extfile "$name.ext" \
    -out "$name.pem" "$@" 2>ca.log || { cat ca.log >&2; exit 1; }
  rm -f "$name.csr" "$name.ext"
}

leaf() { # leaf NAME ISSUER SAN KIND [openssl ca options]
  local name=$1 issuer=$2 san=$3 kind=$4; shift 4
  key "$name" "$kind"
  sign "$name" "$issuer" "basicConstraints=critical,CA:FALSE\nkeyUsage=critical,digitalSignature\nextendedKeyUsage=serverAuth,clientAuth\nsubjectAltName=$san" "$@"
  cp "$name.pem" "$name-chain.pem"
  case $san in *URI:*) echo "$name ${san##*URI:}" >>ids.new ;; esac
}

shop() { # shop NAME [KIND]
  leaf "$1" ca "URI:spiffe://shop/ns/prod/sa/$1" "${2:-ec}"
}

root ca shop shop
root ca2 shop shop
root foreign-ca elsewhere elsewhere
cat ca.pem ca2.pem >bundle.pem

key sub ec
sign sub ca "basicConstraints=critical,CA:TRUE,pathlen:0\nkeyUsage=critical,keyCertSign,cRLSign\nsubjectAltName=URI:spiffe://shop"

for name in reviews web ratings details stranger; do shop "$name"; done
leaf reviews-rsa ca "URI:spiffe://shop/ns/prod/sa/reviews" rsa
leaf reviews-new ca2 "URI:spiffe://shop/ns/prod/sa/reviews" ec
leaf web-new ca2 "URI:spiffe://shop/ns/prod/sa/web" ec
leaf reviews-sub sub "URI:spiffe://shop/ns/prod/sa/reviews" ec
cat reviews-sub.pem sub.pem >reviews-sub-chain.pem
leaf web-sub sub "URI:spiffe://shop/ns/prod/sa/web" ec
cat web-sub.pem sub.pem >web-sub-chain.pem
leaf foreign foreign-ca "URI:spiffe://elsewhere/ns/prod/sa/web" ec
# Signed by our root but naming another trust domain, and the reverse: neither may pass.
leaf smuggled ca "URI:spiffe://elsewhere/ns/prod/sa/reviews" ec
leaf impostor foreign-ca "URI:spiffe://shop/ns/prod/sa/reviews" ec
leaf expired ca "URI:spiffe://shop/ns/prod/sa/reviews" ec -startdate 20200101000000Z -enddate 20200201000000Z
leaf not-yet ca "URI:spiffe://shop/ns/prod/sa/reviews" ec -startdate 20400101000000Z -enddate 20410101000000Z
leaf two-ids ca "URI:spiffe://shop/ns/prod/sa/web,URI:spiffe://shop/ns/prod/sa/reviews" ec
leaf no-id ca "DNS:reviews.shop.mesh" ec
# For peers that check a host name as well as, or instead of, a SPIFFE ID.
leaf reviews-dns ca "DNS:reviews.shop.mesh,DNS:localhost,IP:127.0.0.1,URI:spiffe://shop/ns/prod/sa/reviews" ec
key self ec
openssl req -x509 -new -key self.key -sha256 -days 3650 -subj "/O=shop/CN=self" -out self.pem \
  -addext "subjectAltName=URI:spiffe://shop/ns/prod/sa/reviews"
rm -rf ca.log index.txt* issued openssl.cnf
mv ids.new ids
