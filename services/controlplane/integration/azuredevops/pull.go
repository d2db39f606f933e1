package azuredevops

import (
	"context"
	"fmt"
	"net/http"
	"regexp"
	"strconv"
	"strings"

	"skep/services/controlplane"
	"skep/services/controlplane/integration"
)

type pullRequest struct {
	Number int    `json:"pullRequestId"`
	Status string `json:"status"` // active, abandoned, completed
	Source string `json:"sourceRefName"`
	Target string `json:"targetRefName"`
	Author struct {
		Name string `json:"uniqueName"`
	} `json:"createdBy"`
	Head struct {
		Commit string `json:"commitId"`
	} `json:"lastMergeSourceCommit"`
	Fork *struct{} `json:"forkSource"`
}

// PullRequest asks for the labels separately: the pull request comes without
// them.
func (f *Forge) PullRequest(ctx context.Context, r controlplane.Repository, number int) (controlplane.PullRequest, error) {
	pull, err := f.pullRequest(ctx, r, number)
	if err != nil {
		return controlplane.PullRequest{}, fmt.Errorf("pull request %d of %s: %w", number, r, err)
	}
	return pull, nil
}

func (f *Forge) pullRequest(ctx context.Context, r controlplane.Repository, number int) (controlplane.PullRequest, error) {
	none := controlplane.PullRequest{}
	address, err := f.path(r, "pullrequests", strconv.Itoa(number))
	if err != nil {
		return none, err
	}
	var pull pullRequest
	if _, err := f.api.Call(ctx, http.MethodGet, address, query(), nil, &pull); err != nil {
		return none, err
	}
	head, err := controlplane.ParseCommit(pull.Head.Commit)
	if err != nil {
		return none, err
	}
	branch, err := controlplane.ParseBranch(strings.TrimPrefix(pull.Source, "refs/heads/"))
	if err != nil {
		return none, err
	}
	base, err := controlplane.ParseBranch(strings.TrimPrefix(pull.Target, "refs/heads/"))
	if err != nil {
		return none, err
	}
	labels, err := f.labels(ctx, r, number)
	if err != nil {
		return none, err
	}
	return controlplane.PullRequest{
		Number: pull.Number, Head: head, Branch: branch, Base: base, Fork: pull.Fork != nil || !strings.HasPrefix(pull.Source, "refs/heads/"),
		Author: pull.Author.Name, Labels: labels, Open: pull.Status == "active",
	}, nil
}

func (f *Forge) labels(ctx context.Context, r controlplane.Repository, number int) ([]string, error) {
	address, err := f.path(r, "pullRequests", strconv.Itoa(number), "labels")
	if err != nil {
		return nil, err
	}
	var answer many[struct {
		Name   string `json:"name"`
		Active bool   `json:"active"`
	}]
	if _, err := f.api.Call(ctx, http.MethodGet, address, query("api-version", version+"-preview.1"), nil, &answer); err != nil {
		return nil, err
	}
	var labels []string
	for _, l := range answer.Value {
		if l.Active {
			labels = append(labels, l.Name)
		}
	}
	return labels, nil
}

// keyProperty marks Skep's threads, with the key of its comment. People do not
// see it.
const keyProperty = "Skep.Key"

// maxComment is the API's limit, in characters; the rest is cut off.
const maxComment = 150_000

type thread struct {
	ID       int       `json:"id,omitempty"`
	Status   string    `json:"status,omitempty"`
	Comments []comment `json:"comments"`
	// Properties have values of any type: Azure DevOps puts numbers there too.
	Properties map[string]threadProperty `json:"properties,omitempty"`
}

type threadProperty struct {
	Type  string `json:"$type"`
	Value any    `json:"$value"`
}

type comment struct {
	ID      int    `json:"id,omitempty"`
	Parent  int    `json:"parentCommentId"`
	Content string `json:"content,omitempty"`
	Type    string `json:"commentType,omitempty"`
	Deleted bool   `json:"isDeleted,omitempty"`
	Author  *struct {
		ID string `json:"id"`
	} `json:"author,omitempty"`
}

// Comment keeps a thread for each key. It is Skep's if it has the key as a
// property and was written by the token's own identity: whoever copies the
// property gets no comment changed. The thread is closed, so that a policy that
// wants all of them resolved is content.
func (f *Forge) Comment(ctx context.Context, r controlplane.Repository, number int, key, markdown string) error {
	if err := f.comment(ctx, r, number, key, integration.Cut(markdown, maxComment, "\n\n(cut)")); err != nil {
		return fmt.Errorf("comment on pull request %d of %s: %w", number, r, err)
	}
	return nil
}

func (f *Forge) comment(ctx context.Context, r controlplane.Repository, number int, key, markdown string) error {
	address, err := f.path(r, "pullRequests", strconv.Itoa(number), "threads")
	if err != nil {
		return err
	}
	me, err := f.whoAmI(ctx)
	if err != nil {
		return err
	}
	var threads many[thread] // all of them: this list has no pages
	if _, err := f.api.Call(ctx, http.MethodGet, address, query(), nil, &threads); err != nil {
		return err
	}
	for _, t := range threads.Value {
		if t.Properties[keyProperty].Value != any(key) || len(t.Comments) == 0 {
			continue
		}
		first := t.Comments[0]
		if first.Deleted || first.Author == nil || !strings.EqualFold(first.Author.ID, me.ID) {
			continue
		}
		if first.Content == markdown {
			return nil
		}
		change := fmt.Sprintf("%s/%d/comments/%d", address, t.ID, first.ID)
		_, err := f.api.Call(ctx, http.MethodPatch, change, query(), map[string]string{"content": markdown}, nil)
		return err
	}
	_, err = f.api.Call(ctx, http.MethodPost, address, query(), thread{
		Status: "closed", Comments: []comment{{Content: markdown, Type: "text"}}, Properties: map[string]threadProperty{keyProperty: {Type: "System.String", Value: key}},
	}, nil)
	return err
}

var commentID = regexp.MustCompile(`^([1-9][0-9]{0,8})/([1-9][0-9]{0,8})$`)

// React likes the comment: there is no other sign. A comment is named
// <thread>/<comment>, as comments are counted within their thread.
func (f *Forge) React(ctx context.Context, r controlplane.Repository, number int, comment string) error {
	id := commentID.FindStringSubmatch(comment)
	if id == nil {
		return fmt.Errorf("comment %q: %w", comment, errNoComment)
	}
	address, err := f.path(r, "pullRequests", strconv.Itoa(number), "threads", id[1], "comments", id[2], "likes")
	if err != nil {
		return err
	}
	if _, err := f.api.Call(ctx, http.MethodPost, address, query("api-version", version+"-preview.1"), nil, nil); err != nil {
		return fmt.Errorf("like comment %s on pull request %d of %s: %w", comment, number, r, err)
	}
	return nil
}
