-- After databases.sh: what the apps need and may not make themselves.
\connect skep
CREATE EXTENSION IF NOT EXISTS pgcrypto;
\connect hatchet
CREATE EXTENSION IF NOT EXISTS btree_gist;
\connect gotrue
CREATE SCHEMA IF NOT EXISTS auth AUTHORIZATION gotrue;
