package storage

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/caddyserver/certmagic"
	"github.com/jackc/pgx/v5"
)

// key names an item: components joined by slashes, none of them empty or a
// dot. The empty key is the folder that holds all others.
type key string

func parseKey(text string) (key, error) {
	if !utf8.ValidString(text) || strings.ContainsRune(text, 0) {
		return "", fmt.Errorf("key %q: %w", text, fs.ErrInvalid)
	}
	return key(strings.TrimPrefix(path.Clean("/"+text), "/")), nil
}

// below returns the range that holds the keys below k, without its ends; the
// byte after a slash is 0.
func (k key) below() (from, to string) {
	if k == "" {
		return "", "\U0010ffff"
	}
	return string(k) + "/", string(k) + "0"
}

// item is a value and when it was stored, by the database's clock.
type item struct {
	value    []byte
	modified time.Time
}

func (d *database) store(ctx context.Context, k key, value []byte) (modified time.Time, err error) {
	if value == nil {
		value = []byte{}
	}
	// A later value never looks older, even if the server's clock was put back.
	const statement = `INSERT INTO caddy_storage AS old (key, value, modified) VALUES ($1, $2, clock_timestamp())
		ON CONFLICT (key) DO UPDATE SET value = excluded.value,
			modified = greatest(excluded.modified, old.modified + interval '1 microsecond')
		RETURNING modified`
	err = d.do(ctx, func(ctx context.Context) error {
		return d.pool.QueryRow(ctx, statement, string(k), value).Scan(&modified)
	})
	return modified, err
}

func (d *database) load(ctx context.Context, k key) (out item, err error) {
	err = d.do(ctx, func(ctx context.Context) error {
		return d.pool.QueryRow(ctx, `SELECT value, modified FROM caddy_storage WHERE key = $1`, string(k)).Scan(&out.value, &out.modified)
	})
	return out, missing("load", k, err)
}

func (d *database) delete(ctx context.Context, k key) error {
	from, to := k.below()
	return d.do(ctx, func(ctx context.Context) error {
		_, err := d.pool.Exec(ctx, `DELETE FROM caddy_storage WHERE key = $1 OR (key > $2 AND key < $3)`, string(k), from, to)
		return err
	})
}

func (d *database) stat(ctx context.Context, k key) (certmagic.KeyInfo, error) {
	info := certmagic.KeyInfo{Key: string(k)}
	from, to := k.below()
	const statement = `SELECT true, length(value)::bigint, modified FROM caddy_storage WHERE key = $1
		UNION ALL (SELECT false, 0, to_timestamp(0) FROM caddy_storage WHERE key > $2 AND key < $3 LIMIT 1)
		ORDER BY 1 DESC LIMIT 1`
	err := d.do(ctx, func(ctx context.Context) error {
		return d.pool.QueryRow(ctx, statement, string(k), from, to).Scan(&info.IsTerminal, &info.Size, &info.Modified)
	})
	if !info.IsTerminal {
		info.Modified = time.Time{}
	}
	return info, missing("stat", k, err)
}

// list returns what is below k, folders included as certmagic's own storage
// does; without recursive only the first component of each.
func (d *database) list(ctx context.Context, k key, recursive bool) ([]string, error) {
	keys, err := d.keys(ctx, k)
	if err != nil {
		return nil, err
	}
	if len(keys) == 0 && k != "" {
		_, err := d.stat(ctx, k) // a file has nothing below it; nothing has not even that
		return nil, err
	}
	prefix, _ := k.below()
	var out []string
	for _, below := range keys {
		for at, r := range below[len(prefix):] {
			if r == '/' {
				out = append(out, below[:len(prefix)+at])
				if !recursive {
					break
				}
			}
		}
		if recursive || !strings.Contains(below[len(prefix):], "/") {
			out = append(out, below)
		}
	}
	slices.Sort(out)
	return slices.Compact(out), nil
}

func (d *database) keys(ctx context.Context, k key) (keys []string, err error) {
	from, to := k.below()
	err = d.do(ctx, func(ctx context.Context) error {
		rows, err := d.pool.Query(ctx, `SELECT key FROM caddy_storage WHERE key > $1 AND key < $2`, from, to)
		if err != nil {
			return err
		}
		keys, err = pgx.CollectRows(rows, pgx.RowTo[string])
		return err
	})
	return keys, err
}

func missing(operation string, k key, err error) error {
	if errors.Is(err, pgx.ErrNoRows) {
		return &fs.PathError{Op: operation, Path: string(k), Err: fs.ErrNotExist}
	}
	return err
}

// isMissing tells missing's answer from a dial error, which fs.ErrNotExist may
// be in, too.
func isMissing(err error) bool {
	var p *fs.PathError
	return errors.As(err, &p) && p.Err == fs.ErrNotExist
}
