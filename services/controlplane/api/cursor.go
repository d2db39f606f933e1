package api

import (
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"strconv"
	"strings"
)

// Paging is what every list takes.
type Paging struct {
	Cursor string `query:"cursor" maxLength:"2000" doc:"The next of the page before"`
	Limit  int    `query:"limit" minimum:"1" maximum:"1000" default:"100" doc:"How many items at most"`
}

// Page is a part of a list.
type Page[T any] struct {
	Items []T    `json:"items" nullable:"false"`
	Next  string `json:"next" doc:"The cursor of the page that follows; empty on the last one"`
}

// A cursor is the key of the last item and a sum over it, the list and its
// filters: one that was changed, or is another list's, is refused. It grants
// nothing, so the sum has no key.
const cursorSum = 9

func sum(list, key string) []byte {
	s := sha256.Sum256([]byte("skep cursor 1\x00" + list + "\x00" + key))
	return s[:cursorSum]
}

// cursor is empty for an empty key: there is nothing after it.
func cursor(list, key string) string {
	if key == "" {
		return ""
	}
	return base64.RawURLEncoding.EncodeToString(append(sum(list, key), key...))
}

// key reads a cursor back.
func (p Paging) key(list string) (string, error) {
	if p.Cursor == "" {
		return "", nil
	}
	raw, err := base64.RawURLEncoding.Strict().DecodeString(p.Cursor)
	// The decoder skips line breaks.
	if err != nil || strings.ContainsAny(p.Cursor, "\r\n") || len(raw) <= cursorSum ||
		subtle.ConstantTimeCompare(raw[:cursorSum], sum(list, string(raw[cursorSum:]))) != 1 {
		return "", refuse(at("query.cursor", "is none of this list with these filters"))
	}
	return string(raw[cursorSum:]), nil
}

// number is key for lists that are in order of a number; 0 from the beginning.
func (p Paging) number(list string) (int64, error) {
	key, err := p.key(list)
	if err != nil || key == "" {
		return 0, err
	}
	n, err := strconv.ParseInt(key, 10, 64)
	if err != nil || n <= 0 {
		return 0, refuse(at("query.cursor", "is none of this list with these filters"))
	}
	return n, nil
}

// numbered is a page of a list that the store cuts.
func numbered[S, T any](list string, items []S, next int64, show func(S) T) Page[T] {
	page := Page[T]{Items: make([]T, 0, len(items))}
	for _, i := range items {
		page.Items = append(page.Items, show(i))
	}
	if next > 0 {
		page.Next = cursor(list, strconv.FormatInt(next, 10))
	}
	return page
}

// sorted cuts a page of a list that is whole, in order of its keys.
func sorted[S, T any](p Paging, list string, items []S, key func(S) string, show func(S) T) (*Reply[Page[T]], error) {
	after, err := p.key(list)
	if err != nil {
		return nil, err
	}
	page := Page[T]{Items: []T{}}
	last := ""
	for _, i := range items {
		if key(i) <= after {
			continue
		}
		if len(page.Items) == p.Limit {
			page.Next = cursor(list, last)
			break
		}
		last = key(i)
		page.Items = append(page.Items, show(i))
	}
	return &Reply[Page[T]]{Body: page}, nil
}

// filters names a list with its filters.
func filters(list string, values ...string) string {
	return list + "\x00" + strings.Join(values, "\x00")
}
