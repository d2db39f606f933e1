#!/bin/bash
# Makes a user for each <APP>_PASSWORD_FILE of the environment, and gives it the databases in <APP>_DATABASES, or one
# of its own name. PostgreSQL runs this on the first boot; an app that joins later needs it once more, by hand:
#   docker exec CONTAINER bash /docker-entrypoint-initdb.d/10-databases.sh
set -euo pipefail

sql() { psql -v ON_ERROR_STOP=1 --quiet --username postgres --dbname postgres "$@"; }

for variable in $(compgen -e | grep '_PASSWORD_FILE$' | grep -v '^POSTGRES_'); do
  app=${variable%_PASSWORD_FILE}
  user=${app,,}
  databases=${app}_DATABASES
  # psql reads the password itself: it stands on no command line.
  FILE=${!variable} sql -v user="$user" <<'SQL'
\set password `cat "$FILE"`
SELECT format('CREATE ROLE %I LOGIN', :'user') WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = :'user') \gexec
ALTER ROLE :"user" PASSWORD :'password';
SQL
  for database in ${!databases:-$user}; do
    sql -v user="$user" -v database="$database" <<'SQL'
SELECT format('CREATE DATABASE %I OWNER %I', :'database', :'user')
WHERE NOT EXISTS (SELECT FROM pg_database WHERE datname = :'database') \gexec
REVOKE CONNECT ON DATABASE :"database" FROM PUBLIC;
SQL
  done
done
