#!/bin/sh
# Runs once, in the empty PostgreSQL: one role and one database a service, and nobody in another's.
set -eu
for name in orders inventory billing shipping timeline keys world registry; do
    psql --username "$POSTGRES_USER" --set=ON_ERROR_STOP=1 --set=name="$name" --set=password="$PAVANE_PASSWORD" <<'SQL'
CREATE ROLE :"name" LOGIN PASSWORD :'password';
CREATE DATABASE :"name" OWNER :"name";
REVOKE ALL ON DATABASE :"name" FROM PUBLIC;
SQL
done
