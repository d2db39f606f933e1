package event

import (
	"errors"
	"net/url"
	"strconv"
	"strings"
	"time"

	"skep/services/controlplane"
)

// The parts of Azure DevOps' payloads that are read.
// https://learn.microsoft.com/azure/devops/service-hooks/events
type azurePayload[R any] struct {
	EventType string `json:"eventType"`
	Resource  *R     `json:"resource"`
}

type azureRepository struct {
	ID            string `json:"id"`
	Name          string `json:"name"`
	DefaultBranch string `json:"defaultBranch"`
	RemoteURL     string `json:"remoteUrl"`
	Project       struct {
		Name string `json:"name"`
	} `json:"project"`
}

type azureIdentity struct {
	UniqueName string `json:"uniqueName"` // a mail address, or DOMAIN\name
}

type azurePush struct {
	RefUpdates []struct {
		Name        string `json:"name"`
		OldObjectID string `json:"oldObjectId"`
		NewObjectID string `json:"newObjectId"`
	} `json:"refUpdates"`
	Repository azureRepository `json:"repository"`
	PushedBy   azureIdentity   `json:"pushedBy"`
}

type azurePull struct {
	Repository    azureRepository `json:"repository"`
	PullRequestID int             `json:"pullRequestId"`
	Status        string          `json:"status"` // active, abandoned, completed
	CreatedBy     azureIdentity   `json:"createdBy"`
	SourceRefName string          `json:"sourceRefName"`
	TargetRefName string          `json:"targetRefName"`
	ForkSource    *struct{}       `json:"forkSource"` // absent where the head is in the repository
	Labels        []struct {
		Name   string `json:"name"`
		Active *bool  `json:"active"`
	} `json:"labels"`
	LastMergeSourceCommit *struct {
		CommitID string `json:"commitId"`
	} `json:"lastMergeSourceCommit"`
}

type azureComment struct {
	Comment *struct {
		ID          int           `json:"id"`
		Author      azureIdentity `json:"author"`
		Content     string        `json:"content"`
		CommentType string        `json:"commentType"`
		IsDeleted   bool          `json:"isDeleted"`
		Published   time.Time     `json:"publishedDate"`
		Edited      time.Time     `json:"lastContentUpdatedDate"`
		Links       struct {
			Threads struct {
				Href string `json:"href"`
			} `json:"threads"`
		} `json:"_links"`
	} `json:"comment"`
	PullRequest *azurePull `json:"pullRequest"`
}

func parseAzureDevOps(event string, body []byte) ([]controlplane.Change, error) {
	switch event {
	case "git.push":
		in, err := azureResource[azurePush](event, body)
		if err != nil {
			return nil, err
		}
		return in.changes()
	case "git.pullrequest.created", "git.pullrequest.updated", "git.pullrequest.merged":
		in, err := azureResource[azurePull](event, body)
		if err != nil {
			return nil, err
		}
		return in.changes(event)
	case "ms.vss-code.git-pullrequest-comment-event":
		in, err := azureResource[azureComment](event, body)
		if err != nil {
			return nil, err
		}
		return in.changes()
	}
	return nil, nil
}

func azureResource[R any](event string, body []byte) (*R, error) {
	var in azurePayload[R]
	if err := decode(body, &in); err != nil {
		return nil, err
	}
	if in.EventType != event {
		return nil, errors.New("eventType is another one")
	}
	if in.Resource == nil {
		return nil, errors.New("no resource")
	}
	return in.Resource, nil
}

// path is organization/project/name. The organization is in the URL alone.
func (r azureRepository) path() (controlplane.Repository, error) {
	u, err := url.Parse(r.RemoteURL)
	if err != nil {
		return "", errors.New("remoteUrl is no URL")
	}
	above, _, ok := strings.Cut(u.Path, "/_git/")
	if !ok {
		return "", errors.New("remoteUrl is not that of a Git repository")
	}
	above = strings.Trim(above, "/")
	var organization string
	name, old := strings.CutSuffix(u.Hostname(), ".visualstudio.com")
	switch {
	case u.Hostname() == "dev.azure.com":
		organization, _, _ = strings.Cut(above, "/")
	case old: // its path may have DefaultCollection
		organization = name
	default: // a server: the collection, before the project unless that is left out
		above = strings.TrimSuffix(above, "/"+r.Project.Name)
		organization = above[strings.LastIndex(above, "/")+1:]
	}
	return controlplane.ParseRepository(organization + "/" + r.Project.Name + "/" + r.Name)
}

func (in *azurePush) changes() ([]controlplane.Change, error) {
	repository, err := in.Repository.path()
	if err != nil {
		return nil, err
	}
	actor, err := text("pushedBy", in.PushedBy.UniqueName)
	if err != nil {
		return nil, err
	}
	if len(in.RefUpdates) == 0 {
		return nil, errors.New("no refUpdates")
	}
	var out []controlplane.Change
	for _, u := range in.RefUpdates {
		branch, ok, err := ref(u.Name)
		if err != nil {
			return nil, err
		}
		if !ok {
			continue
		}
		c := controlplane.Change{Repository: repository, Actor: actor, Branch: branch, Default: u.Name == in.Repository.DefaultBranch}
		if c.Commit, err = controlplane.ParseCommit(u.NewObjectID); err != nil {
			return nil, err
		}
		if c.Before, err = controlplane.ParseCommit(u.OldObjectID); err != nil {
			return nil, err
		}
		c.Kind = pushed(c.Commit)
		out = append(out, c)
	}
	return out, nil
}

// changes takes any update of an open pull request for new commits: the payload
// does not say what was updated, except in words for people. Votes and reviewers
// are best left out in the subscription.
func (in *azurePull) changes(event string) ([]controlplane.Change, error) {
	kind := controlplane.ChangeOpened
	switch in.Status {
	case "completed", "abandoned":
		kind = controlplane.ChangeClosed
	case "active":
		if event == "git.pullrequest.merged" { // a trial of the merge
			return nil, nil
		}
	default:
		return nil, errors.New("no status that is known")
	}
	c, err := in.change(kind)
	if err != nil {
		return nil, err
	}
	c.Actor = c.PullRequest.Author // the payload names nobody else
	return []controlplane.Change{c}, nil
}

func (in *azurePull) change(kind controlplane.ChangeKind) (out controlplane.Change, err error) {
	out.Kind = kind
	if out.Repository, err = in.Repository.path(); err != nil {
		return out, err
	}
	pr := &controlplane.PullRequest{Open: in.Status == "active"}
	source, ok := strings.CutPrefix(in.SourceRefName, branches)
	pr.Fork = in.ForkSource != nil || !ok
	if pr.Branch, err = head(source, pr.Fork); err != nil {
		return out, err
	}
	if pr.Number, err = number(in.PullRequestID); err != nil {
		return out, err
	}
	if in.LastMergeSourceCommit != nil {
		if pr.Head, err = controlplane.ParseCommit(in.LastMergeSourceCommit.CommitID); err != nil {
			return out, err
		}
	} else if kind == controlplane.ChangeOpened {
		return out, errors.New("no lastMergeSourceCommit")
	}
	if pr.Base, ok, err = ref(in.TargetRefName); err != nil || !ok {
		return out, errors.New("targetRefName is no branch")
	}
	if pr.Author, err = text("createdBy", in.CreatedBy.UniqueName); err != nil {
		return out, err
	}
	var names []string
	for _, l := range in.Labels {
		if l.Active == nil || *l.Active {
			names = append(names, l.Name)
		}
	}
	pr.Labels, err = labels(names)
	out.PullRequest, out.Commit = pr, pr.Head
	out.Default = in.Repository.DefaultBranch != "" && in.TargetRefName == in.Repository.DefaultBranch
	return out, err
}

func (in *azureComment) changes() ([]controlplane.Change, error) {
	c := in.Comment
	if c == nil {
		return nil, errors.New("no comment: the subscription must have resource version 2.0")
	}
	edited := c.Edited.Sub(c.Published) > time.Second // the two may be taken one after the other
	if c.IsDeleted || edited || c.CommentType == "system" {
		return nil, nil
	}
	if in.PullRequest == nil {
		return nil, errors.New("no pullRequest")
	}
	out, err := in.PullRequest.change(controlplane.ChangeComment)
	if err != nil {
		return nil, err
	}
	if out.Actor, err = text("author", c.Author.UniqueName); err != nil {
		return nil, err
	}
	// A comment counts within its thread.
	thread, err := strconv.Atoi(c.Links.Threads.Href[strings.LastIndex(c.Links.Threads.Href, "/")+1:])
	if err != nil || thread < 1 || c.ID < 1 {
		return nil, errors.New("the comment has no id in a thread")
	}
	id := strconv.Itoa(thread) + "/" + strconv.Itoa(c.ID)
	out.Comment = &controlplane.Comment{ID: id, Author: out.Actor, Body: comment(c.Content)}
	return []controlplane.Change{out}, nil
}
