#!/usr/bin/env bash
# Makes what the processes prove themselves with, in a folder that only its owner can read:
#
#   conversation, messaging, scheduling, gateway   the secrets by which the services know each other
#   vault                                          the secret of auth's vault
#   pepper                                         the secret in the hashes of passwords
#   postgres                                       the password of the owner of the database
#   postgres-roles/, database-urls/                the password and the address of the database, per service
#   nats/                                          the passwords of the services on the bus, and what nats-server includes
#   notice-keys/                                   the keys by which notices on the bus are authenticated
#   tls/                                           an authority, and certificates for NATS, PostgreSQL and the services
#
# and prints the sums that the services know each other by, ready to be pasted into `[identity.accepted]`. What is there
# already stays; certificates that end within 30 days are made anew. It needs openssl.
#
#   deploy/secrets.sh FOLDER
set -euo pipefail
umask 077
folder=${1:?which folder}
folders=("$folder" "$folder"/{nats,notice-keys,tls,postgres-roles,database-urls})
mkdir -p "${folders[@]}"
chmod 700 "${folders[@]}"

secret() { # the file of a secret, made when it is missing
  [ -s "$1" ] || head -c 32 /dev/urandom | od -An -tx1 | tr -d ' \n' >"$1"
}

echo '[identity.accepted]'
for name in conversation messaging scheduling gateway; do
  secret "$folder/$name"
  printf '%s = "%s"\n' "$name" "$(sha256sum <"$folder/$name" | cut -d' ' -f1)"
done
secret "$folder/vault"
secret "$folder/pepper"
secret "$folder/postgres"

# Each publishing service has keys of its own; the services that hear it have them too.
for name in auth conversation messaging scheduling; do
  secret "$folder/notice-keys/$name"
done

passwords=$folder/nats/nats-passwords.conf
: >"$passwords"
for name in auth conversation messaging scheduling gateway; do
  secret "$folder/nats/$name"
  printf 'nats_password_%s: "%s"\n' "$name" "$(cat "$folder/nats/$name")" >>"$passwords"
done

tls=$folder/tls
key() { openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out "$1" 2>/dev/null; }
lasts() { [ -s "$1" ] && openssl x509 -in "$1" -noout -checkend 2592000 >/dev/null; }
if ! lasts "$tls/authority.pem"; then
  key "$tls/authority.key"
  openssl req -x509 -new -key "$tls/authority.key" -subj '/CN=Parlor' -days 3650 -out "$tls/authority.pem" \
    -addext 'keyUsage=critical,keyCertSign,cRLSign'
  rm -f "$tls"/{nats,postgres,auth,conversation,messaging,scheduling,gateway}.pem
fi
# A service shows its certificate to those that it calls, too: what it proves by its secret holds with its own only.
for name in nats postgres auth conversation messaging scheduling gateway; do
  lasts "$tls/$name.pem" && continue
  key "$tls/$name.key"
  openssl req -new -key "$tls/$name.key" -subj "/CN=$name" -out "$tls/$name.csr"
  printf '%s\n' "subjectAltName=DNS:$name,DNS:localhost,IP:127.0.0.1" 'basicConstraints=critical,CA:FALSE' \
    'keyUsage=critical,digitalSignature' 'extendedKeyUsage=serverAuth,clientAuth' >"$tls/$name.ext"
  openssl x509 -req -in "$tls/$name.csr" -CA "$tls/authority.pem" -CAkey "$tls/authority.key" -CAcreateserial \
    -days 365 -extfile "$tls/$name.ext" -out "$tls/$name.pem" 2>/dev/null
  rm -f "$tls/$name.csr" "$tls/$name.ext" "$tls/authority.srl"
done

# deploy/postgres-roles.sh makes the roles.
for name in auth conversation messaging scheduling; do
  secret "$folder/postgres-roles/$name"
  printf 'postgres://parlor_%s:%s@postgres/parlor?sslmode=verify-full&sslrootcert=/run/parlor/authority.pem\n' \
    "$name" "$(cat "$folder/postgres-roles/$name")" >"$folder/database-urls/$name"
done
