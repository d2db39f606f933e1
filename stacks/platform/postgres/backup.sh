#!/bin/bash
# Dumps every database into /backups/<day> at BACKUP_AT and keeps BACKUP_DAYS of them: Swarm has no cron.
set -uo pipefail

dump() {
  local day=$1 part=/backups/.part database databases
  rm -rf "$part" && mkdir -p "$part" || return
  pg_dumpall --globals-only --file "$part/globals.sql" || return
  databases=$(psql -d postgres -Atc 'SELECT datname FROM pg_database WHERE datallowconn AND NOT datistemplate') || return
  for database in $databases; do
    pg_dump --format custom --file "$part/$database.dump" "$database" || return
  done
  mv "$part" "/backups/$day" || return
  echo "dumped $(wc -w <<<"$databases") databases into /backups/$day"
  find /backups -mindepth 1 -maxdepth 1 -name '2*' -mtime "+$BACKUP_DAYS" -exec rm -rf {} +
}

while :; do
  day=$(date +%F)
  until [ -d "/backups/$day" ] || dump "$day"; do
    echo "the dump of $day failed, once more in 5 minutes" >&2
    sleep 300
  done
  sleep $(($(date -d "tomorrow $BACKUP_AT" +%s) - $(date +%s)))
done
