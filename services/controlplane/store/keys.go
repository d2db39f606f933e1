package store

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"slices"

	"skep/secrets"
	"skep/services/controlplane/store/internal/db"
)

// KeyID names an encryption key. It is stored beside what the key encrypted.
type KeyID string

// Keys encrypt the secrets in the database. A key is 256 random bits, written
// as 64 hexadecimal digits: it is no password, so it is not stretched.
//
// To change keys give every server both, then make the new one Current
// everywhere, call Reencrypt, and drop the old one.
type Keys struct {
	Current KeyID
	All     map[KeyID]secrets.Value
}

// keyring is what queries take: parallel arrays, and the current key.
type keyring struct {
	ids, keys []string
	id, key   string
}

func (k Keys) ring() (keyring, error) {
	var r keyring
	for _, id := range slices.Sorted(maps.Keys(k.All)) {
		if id == "" || check(text{"a key's id", string(id), 63}) != nil {
			return keyring{}, fmt.Errorf("the id of an encryption key has %d bytes: 1 to 63 are taken", len(id))
		}
		raw, err := k.All[id].Bytes()
		if err != nil {
			return keyring{}, fmt.Errorf("encryption key %s: %w", id, err)
		}
		key := bytes.TrimSpace(raw)
		if bits, err := hex.DecodeString(string(key)); err != nil || len(bits) != 32 {
			return keyring{}, fmt.Errorf("encryption key %s is not 64 hexadecimal digits: make one with openssl rand -hex 32", id)
		}
		r.ids, r.keys = append(r.ids, string(id)), append(r.keys, string(key))
		if id == k.Current {
			r.id, r.key = string(id), string(key)
		}
	}
	if r.id == "" {
		return keyring{}, errors.New("the current encryption key is missing: nothing can be stored without it")
	}
	return r, nil
}

// checkKeys finds a key that was dropped too early at the start, not at the
// first delivery.
func (s *Store) checkKeys(ctx context.Context) error {
	used, err := db.New(s.pool).KeysInUse(ctx)
	if err != nil {
		return wrap("check the encryption keys", err)
	}
	for _, id := range used {
		if !slices.Contains(s.keys.ids, id) {
			return fmt.Errorf("secrets are encrypted with the key %s, and it was not given", id)
		}
	}
	return nil
}

// checkLogging keeps keys and secrets, which are parameters of queries, out of
// the server's log. A server that logs slow queries writes their parameters
// along unless it is told not to.
func (s *Store) checkLogging(ctx context.Context) error {
	var logged bool
	err := s.pool.QueryRow(ctx, `SELECT current_setting('log_parameter_max_length_on_error') <> '0'
		OR current_setting('log_parameter_max_length') <> '0' AND (current_setting('log_statement') IN ('mod', 'all')
			OR current_setting('log_min_duration_statement') <> '-1' OR current_setting('log_min_duration_sample') <> '-1')`).Scan(&logged)
	if err != nil {
		return fmt.Errorf("look up what PostgreSQL logs: %w", err)
	}
	if logged {
		return errors.New("PostgreSQL would log secrets as parameters of queries: as a superuser, run ALTER ROLE ... SET log_parameter_max_length = 0, " +
			"and the same for log_parameter_max_length_on_error, for the role of skep-server")
	}
	return nil
}

// reencryptBatch is small, so that whoever reads meanwhile waits little.
const reencryptBatch = 50

// Reencrypt brings every secret to the current key, and says how many it
// changed. Each batch is a transaction: it can be interrupted and called again.
func (s *Store) Reencrypt(ctx context.Context) (int, error) {
	total := 0
	for {
		var n int64
		err := s.do(ctx, "re-encrypt secrets", func(q *db.Queries) (err error) {
			n, err = q.ReencryptCredentials(ctx, db.ReencryptCredentialsParams{
				Key: s.keys.key, KeyID: s.keys.id, MaxRows: reencryptBatch, KeyIds: s.keys.ids, Keys: s.keys.keys,
			})
			if err != nil || n > 0 {
				return err
			}
			n, err = q.ReencryptSources(ctx, db.ReencryptSourcesParams{
				Key: s.keys.key, KeyID: s.keys.id, MaxRows: reencryptBatch, KeyIds: s.keys.ids, Keys: s.keys.keys,
			})
			return err
		})
		total += int(n)
		if err != nil {
			return total, err
		}
		if n == 0 {
			return total, s.checkKeys(ctx)
		}
	}
}
