#!/usr/bin/env bash
# Makes a role of PostgreSQL for each service, which owns the schema of its service and reaches no other. The image of
# PostgreSQL runs this once, when it makes the database. Where the database is there already, run it by hand:
#
#   docker compose -f deploy/compose.yaml exec postgres /docker-entrypoint-initdb.d/roles.sh
#
# Running it again changes nothing but the passwords, which it sets to those in the folder ROLES. Tables that another role
# owns, as one role for all services did, become those of their service.
set -euo pipefail
roles=${ROLES:-/tmp/roles}

run() { psql -X -q -v ON_ERROR_STOP=1 --username "$POSTGRES_USER" --dbname "$POSTGRES_DB" "$@"; }

run -v database="$POSTGRES_DB" <<'SQL'
REVOKE ALL ON DATABASE :"database" FROM PUBLIC;
REVOKE ALL ON SCHEMA public FROM PUBLIC;
SQL

for service in auth conversation messaging scheduling; do
  # The role and the schema have one name.
  run -v database="$POSTGRES_DB" -v role="parlor_$service" -v password="$(cat "$roles/$service")" <<'SQL'
SELECT format('CREATE ROLE %I', :'role') WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = :'role') \gexec
ALTER ROLE :"role" LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS PASSWORD :'password';
GRANT CONNECT ON DATABASE :"database" TO :"role";
CREATE SCHEMA IF NOT EXISTS :"role";
ALTER SCHEMA :"role" OWNER TO :"role";
SELECT format('ALTER TABLE %I.%I OWNER TO %I', schemaname, tablename, :'role')
  FROM pg_tables WHERE schemaname = :'role' AND tableowner <> :'role' \gexec
SQL
done
