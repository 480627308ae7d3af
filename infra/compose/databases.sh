#!/bin/sh
# Runs once, in the empty PostgreSQL: one role and one database a service, each with a password of its own, and nobody in
# another's.
set -eu
for name in orders inventory billing shipping timeline keys world registry; do
    variable="PAVANE_$(echo "$name" | tr a-z A-Z)_PASSWORD"
    psql --username "$POSTGRES_USER" --set=ON_ERROR_STOP=1 --set=name="$name" --set=variable="$variable" <<'SQL'
\getenv password :variable
CREATE ROLE :"name" LOGIN PASSWORD :'password';
CREATE DATABASE :"name" OWNER :"name";
REVOKE ALL ON DATABASE :"name" FROM PUBLIC;
SQL
done
