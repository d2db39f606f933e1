package store

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"fmt"
	"hash/crc32"
	"math/big"
	"strings"
	"time"

	"skep/secrets"
	"skep/services/controlplane"
	"skep/services/controlplane/store/internal/db"
)

// A token is skep_, 256 random bits and their CRC-32, both in base 62: scanners
// of leaked secrets know it by its form, and a typing error by its checksum.
const (
	tokenPrefix   = "skep_"
	tokenDigits   = 43 // 62^43 > 2^256
	tokenChecksum = 6  // 62^6 > 2^32
)

const base62 = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"

func encode62(n *big.Int, digits int) string {
	out := make([]byte, digits)
	n, base, digit := new(big.Int).Set(n), big.NewInt(int64(len(base62))), new(big.Int)
	for i := digits - 1; i >= 0; i-- {
		n.DivMod(n, base, digit)
		out[i] = base62[digit.Int64()]
	}
	return string(out)
}

func tokenSum(body string) string {
	return encode62(big.NewInt(int64(crc32.ChecksumIEEE([]byte(body)))), tokenChecksum)
}

func newTokenText() string {
	random := make([]byte, 32)
	rand.Read(random)
	body := tokenPrefix + encode62(new(big.Int).SetBytes(random), tokenDigits)
	return body + tokenSum(body)
}

// wellFormed says whether the text can be a token at all. It tells nothing of
// those that exist.
func wellFormed(s string) bool {
	if len(s) != len(tokenPrefix)+tokenDigits+tokenChecksum || !strings.HasPrefix(s, tokenPrefix) {
		return false
	}
	body := s[:len(s)-tokenChecksum]
	return s[len(body):] == tokenSum(body)
}

// CreateToken makes a token that ends at a time, or never if that is zero. The
// text is shown once: only its hash is kept.
func (s *Store) CreateToken(ctx context.Context, name controlplane.Name, scopes []controlplane.Scope, expires time.Time) (secrets.Value, controlplane.Token, error) {
	action := fmt.Sprintf("create token %q", name)
	var names []string
	for _, scope := range scopes {
		if _, err := controlplane.ParseScope(string(scope)); err != nil {
			return secrets.Value{}, controlplane.Token{}, fmt.Errorf("%s: %w: %w", action, controlplane.ErrInvalid, err)
		}
		names = append(names, string(scope))
	}
	if err := check(text{"the name", string(name), 63}); err != nil {
		return secrets.Value{}, controlplane.Token{}, fmt.Errorf("%s: %w", action, err)
	}
	shown := newTokenText()
	hash := sha256.Sum256([]byte(shown))
	var row db.CreateTokenRow
	err := s.do(ctx, action, func(q *db.Queries) (err error) {
		row, err = q.CreateToken(ctx, db.CreateTokenParams{Name: string(name), Hash: hash[:], Scopes: names, Expires: column(expires)})
		return err
	})
	if err != nil {
		return secrets.Value{}, controlplane.Token{}, err
	}
	return secrets.NewValue([]byte(shown)), token(db.ListTokensRow(row)), nil
}

func token(r db.ListTokensRow) controlplane.Token {
	t := controlplane.Token{
		ID: r.ID, Name: controlplane.Name(r.Name), Created: r.Created,
		Expires: moment(r.Expires), Revoked: moment(r.Revoked), Used: moment(r.Used),
	}
	for _, scope := range r.Scopes {
		t.Scopes = append(t.Scopes, controlplane.Scope(scope))
	}
	return t
}

// Authenticate finds the token with this text; ErrDenied if there is none that
// is still good. The lookup is by the SHA-256 of 256 random bits, of which
// nobody can choose a prefix, and what it finds is compared in constant time.
func (s *Store) Authenticate(ctx context.Context, shown string) (controlplane.Token, error) {
	const action = "authenticate"
	denied := fmt.Errorf("%s: the token is unknown, revoked or expired: %w", action, controlplane.ErrDenied)
	if !wellFormed(shown) {
		return controlplane.Token{}, denied
	}
	hash := sha256.Sum256([]byte(shown))
	var rows []db.Token
	err := s.do(ctx, action, func(q *db.Queries) (err error) {
		rows, err = q.TokenByHash(ctx, hash[:])
		return err
	})
	if err != nil {
		return controlplane.Token{}, err
	}
	if len(rows) != 1 || subtle.ConstantTimeCompare(rows[0].Hash, hash[:]) != 1 {
		return controlplane.Token{}, denied
	}
	r := rows[0]
	t := token(db.ListTokensRow{
		ID: r.ID, Name: r.Name, Scopes: r.Scopes, Created: r.Created, Expires: r.Expires, Revoked: r.Revoked, Used: r.Used,
	})
	now := time.Now()
	if !t.Revoked.IsZero() || !t.Expires.IsZero() && !now.Before(t.Expires) {
		return controlplane.Token{}, denied
	}
	if now.Sub(t.Used) < time.Minute {
		return t, nil
	}
	return t, s.do(ctx, action, func(q *db.Queries) error { return q.TouchToken(ctx, t.ID) })
}

// RevokeToken ends a token for good.
func (s *Store) RevokeToken(ctx context.Context, name controlplane.Name) error {
	return s.do(ctx, fmt.Sprintf("revoke token %q", name), func(q *db.Queries) error {
		return one(q.RevokeToken(ctx, string(name)))
	})
}

// ListTokens returns a page, and where the next one begins: 0 after the last.
func (s *Store) ListTokens(ctx context.Context, page Page) (tokens []controlplane.Token, next int64, err error) {
	err = s.do(ctx, "list tokens", func(q *db.Queries) error {
		rows, err := q.ListTokens(ctx, page.Before, page.rows())
		tokens = convert(rows, token)
		return err
	})
	if n := len(tokens); n > 0 {
		next = page.next(n, tokens[n-1].ID)
	}
	return tokens, next, err
}

// Audit adds a row about a call. ID and time are given to it.
func (s *Store) Audit(ctx context.Context, a controlplane.Audit) error {
	return s.do(ctx, "write the audit log", func(q *db.Queries) error {
		return q.AppendAudit(ctx, db.AppendAuditParams{
			Actor: clean(a.Actor, 300), Action: clean(a.Action, 100), Target: clean(a.Target, 1000),
			Outcome: clean(a.Outcome, 100), Request: clean(a.Request, 200),
		})
	})
}

// ListAudit returns a page, of one actor if one is named.
func (s *Store) ListAudit(ctx context.Context, actor string, page Page) (rows []controlplane.Audit, next int64, err error) {
	if err := check(text{"the actor", actor, 300}); err != nil {
		return nil, 0, fmt.Errorf("list the audit log: %w", err)
	}
	err = s.do(ctx, "list the audit log", func(q *db.Queries) error {
		found, err := q.ListAudit(ctx, page.Before, actor, page.rows())
		rows = convert(found, func(a db.Audit) controlplane.Audit { return controlplane.Audit(a) })
		return err
	})
	if n := len(rows); n > 0 {
		next = page.next(n, rows[n-1].ID)
	}
	return rows, next, err
}

// PruneAudit removes rows from before a time.
func (s *Store) PruneAudit(ctx context.Context, before time.Time) (removed int64, err error) {
	err = s.do(ctx, "prune the audit log", func(q *db.Queries) (err error) {
		removed, err = q.PruneAudit(ctx, before)
		return err
	})
	return removed, err
}

// convert makes the domain's values of rows.
func convert[R, T any](rows []R, f func(R) T) []T {
	out := make([]T, 0, len(rows))
	for _, r := range rows {
		out = append(out, f(r))
	}
	return out
}
