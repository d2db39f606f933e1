-- After databases.sh: what the apps need and may not make themselves. Hatchet makes its extension, and refuses one that is there.
\connect skep
CREATE EXTENSION IF NOT EXISTS pgcrypto;
\connect gotrue
CREATE SCHEMA IF NOT EXISTS auth AUTHORIZATION gotrue;
