package github

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"

	gh "github.com/google/go-github/v62/github"

	"skep/services/controlplane"
	"skep/services/controlplane/integration"
)

const (
	perPage = 100
	// maxPages bounds a search: GitHub has 2,500 comments on an issue at most.
	maxPages = 50
	// maxComment is GitHub's bound, in bytes here and characters there.
	maxComment = 65536
	cut        = "\n\n(the rest is left out: GitHub takes no longer comments)\n"
)

// key is what goes into a marker, and cannot end it.
var key = regexp.MustCompile(`^[a-z0-9]+([-./][a-z0-9]+)*$`)

// Comment finds its comment by a line that does not show, the first one, and by
// its author: anybody can copy the line.
func (f *Forge) Comment(ctx context.Context, r controlplane.Repository, number int, name, markdown string) error {
	if !key.MatchString(name) {
		return fmt.Errorf("comment key %q: use a-z, 0-9 and single -, . and /", name)
	}
	ctx, owner, repo, err := f.call(ctx, r, talk)
	if err != nil {
		return err
	}
	marker := "<!-- skep:" + name + " -->"
	body := integration.Cut(marker+"\n"+strings.ToValidUTF8(markdown, "\uFFFD"), maxComment, cut)
	if err := f.keep(ctx, owner, repo, number, marker, body); err != nil {
		return fmt.Errorf("comment on %s#%d: %w", r, number, problem(err))
	}
	return nil
}

func (f *Forge) keep(ctx context.Context, owner, repo string, number int, marker, body string) error {
	kept, err := f.marked(ctx, owner, repo, number, marker)
	if err != nil {
		return err
	}
	if len(kept) == 0 {
		_, _, err := f.api.Issues.CreateComment(ctx, owner, repo, number, &gh.IssueComment{Body: &body})
		return err
	}
	// Two processes that began at once wrote two: the first one stays.
	for _, other := range kept[1:] {
		if _, err := f.api.Issues.DeleteComment(ctx, owner, repo, other.GetID()); err != nil {
			return err
		}
	}
	if kept[0].GetBody() == body {
		return nil
	}
	_, _, err = f.api.Issues.EditComment(ctx, owner, repo, kept[0].GetID(), &gh.IssueComment{Body: &body})
	return err
}

// marked are our comments with a marker, the oldest first.
func (f *Forge) marked(ctx context.Context, owner, repo string, number int, marker string) ([]*gh.IssueComment, error) {
	me, err := f.who.self(ctx, f.api)
	if err != nil {
		return nil, err
	}
	var kept []*gh.IssueComment
	options := &gh.IssueListCommentsOptions{ListOptions: gh.ListOptions{PerPage: perPage}}
	for range maxPages {
		page, response, err := f.api.Issues.ListComments(ctx, owner, repo, number, options)
		if err != nil {
			return nil, err
		}
		for _, c := range page {
			if first, _, _ := strings.Cut(c.GetBody(), "\n"); strings.TrimRight(first, "\r ") == marker && me.wrote(c.GetUser()) {
				kept = append(kept, c)
			}
		}
		if response.NextPage == 0 {
			return kept, nil
		}
		options.Page = response.NextPage
	}
	return nil, errors.New("there are more comments than GitHub allows")
}

// React answers a comment with eyes. GitHub keeps one of each kind a user.
func (f *Forge) React(ctx context.Context, r controlplane.Repository, number int, comment string) error {
	ctx, owner, repo, err := f.call(ctx, r, react)
	if err != nil {
		return err
	}
	id, err := strconv.ParseInt(comment, 10, 64)
	if err != nil || id < 1 {
		return fmt.Errorf("comment %q: GitHub's ids are numbers", comment)
	}
	if _, _, err := f.api.Reactions.CreateIssueCommentReaction(ctx, owner, repo, id, "eyes"); err != nil {
		return fmt.Errorf("react to a comment on %s#%d: %w", r, number, problem(err))
	}
	return nil
}
