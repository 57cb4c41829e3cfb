#!/usr/bin/env bash
# Makes a secret per service, one for the vault of auth and the address of the database in a folder, and prints the sums
# that the others know the services by, ready to be pasted into `[identity.accepted]`. What is there already stays.
#
#   deploy/secrets.sh FOLDER
set -euo pipefail
folder=${1:?which folder}
mkdir -p "$folder" && chmod 700 "$folder"
echo '[identity.accepted]'
for name in conversation messaging scheduling gateway postgres vault; do
  file=$folder/$name
  [ -s "$file" ] || (umask 077; head -c 32 /dev/urandom | od -An -tx1 | tr -d ' \n' >"$file")
  [ "$name" = postgres ] || [ "$name" = vault ] || printf '%s = "%s"\n' "$name" "$(sha256sum <"$file" | cut -d' ' -f1)"
done
url=$folder/database-url
[ -s "$url" ] || (umask 077; printf 'postgres://parlor:%s@postgres/parlor\n' "$(cat "$folder/postgres")" >"$url")
