package gitlab

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"strconv"
	"strings"

	"skep/services/controlplane"
	"skep/services/controlplane/integration"
)

type note struct {
	ID     int64  `json:"id"`
	Body   string `json:"body"`
	System bool   `json:"system"`
	Author user   `json:"author"`
}

// maxNote is GitLab's limit, in characters; the rest is cut off.
const maxNote = 1_000_000

// marker is the first line of Skep's notes, which is not shown.
func marker(key string) string {
	escaped := strings.ReplaceAll(url.QueryEscape(key), "-", "%2D") // no --> can be in it
	return "<!-- skep:" + escaped + " -->\n"
}

// quickAction is a line that GitLab would carry out, with the token's rights:
// /merge, /approve. The text holds what others wrote.
var quickAction = regexp.MustCompile(`(?m)^((?:[^\S\n]|\v|\pZ)*)/`)

var lines = strings.NewReplacer("\r\n", "\n", "\r", "\n")

// inert keeps lines from being quick actions: a zero-width space goes before
// the slash, which shows the same in text and in code.
func inert(markdown string) string {
	return quickAction.ReplaceAllString(lines.Replace(markdown), "${1}\u200b/")
}

// Comment keeps a note for each key. It is Skep's if it begins with the marker
// and was written by the token's own user.
func (f *Forge) Comment(ctx context.Context, r controlplane.Repository, number int, key, markdown string) error {
	if err := f.comment(ctx, r, number, key, markdown); err != nil {
		return fmt.Errorf("comment on merge request %d of %s: %w", number, r, err)
	}
	return nil
}

func (f *Forge) comment(ctx context.Context, r controlplane.Repository, number int, key, markdown string) error {
	body := integration.Cut(marker(key)+inert(markdown), maxNote, "\n\n(cut)")
	notes := project(r, "merge_requests", strconv.Itoa(number), "notes")
	mine, found, err := f.mine(ctx, notes, marker(key))
	switch {
	case err != nil:
		return err
	case !found:
		_, err = f.api.Call(ctx, http.MethodPost, notes, nil, map[string]string{"body": body}, nil)
	case mine.Body != body:
		_, err = f.api.Call(ctx, http.MethodPut, notes+"/"+strconv.FormatInt(mine.ID, 10), nil, map[string]string{"body": body}, nil)
	}
	return err
}

// mine is the oldest note with a marker that the token's user wrote.
func (f *Forge) mine(ctx context.Context, notes, marker string) (note, bool, error) {
	me, err := f.whoAmI(ctx)
	if err != nil {
		return note{}, false, err
	}
	page := "1"
	for range maxPages {
		var list []note
		q := url.Values{"per_page": {perPage}, "page": {page}, "order_by": {"created_at"}, "sort": {"asc"}}
		headers, err := f.api.Call(ctx, http.MethodGet, notes, q, nil, &list)
		if err != nil {
			return note{}, false, err
		}
		for _, n := range list {
			if !n.System && n.Author.ID == me.ID && strings.HasPrefix(n.Body, marker) {
				return n, true, nil
			}
		}
		if page = headers.Get("X-Next-Page"); page == "" {
			return note{}, false, nil
		}
	}
	return note{}, false, fmt.Errorf("there are more than %d pages of notes", maxPages)
}

var noteID = regexp.MustCompile(`^[1-9][0-9]{0,18}$`)

// React awards the note eyes.
func (f *Forge) React(ctx context.Context, r controlplane.Repository, number int, comment string) error {
	if !noteID.MatchString(comment) {
		return fmt.Errorf("note %q: its id is a number", comment)
	}
	emoji := project(r, "merge_requests", strconv.Itoa(number), "notes", comment, "award_emoji")
	_, err := f.api.Call(ctx, http.MethodPost, emoji, url.Values{"name": {"eyes"}}, nil, nil)
	var status *integration.StatusError
	if errors.As(err, &status) && status.Status == http.StatusNotFound && strings.Contains(status.Message, "already been taken") {
		return nil // we were here before
	}
	if err != nil {
		return fmt.Errorf("react to note %s on merge request %d of %s: %w", comment, number, r, err)
	}
	return nil
}
