package event

import (
	"errors"
	"slices"
	"strconv"

	"skep/services/controlplane"
)

// The parts of GitLab's payloads that are read.
// https://docs.gitlab.com/user/project/integrations/webhook_events/
type gitlabPayload struct {
	ObjectKind string         `json:"object_kind"`
	Project    *gitlabProject `json:"project"`

	Ref          string `json:"ref"` // push
	Before       string `json:"before"`
	After        string `json:"after"`
	UserUsername string `json:"user_username"`

	User         gitlabUser       `json:"user"`
	Attributes   gitlabAttributes `json:"object_attributes"`
	Labels       []gitlabLabel    `json:"labels"`
	Changes      gitlabChanges    `json:"changes"`
	MergeRequest *gitlabMerge     `json:"merge_request"` // note
}

type gitlabProject struct {
	ID            int64  `json:"id"`
	Path          string `json:"path_with_namespace"`
	DefaultBranch string `json:"default_branch"`
}

type gitlabUser struct {
	ID       int64  `json:"id"`
	Username string `json:"username"`
}

type gitlabLabel struct {
	Title string `json:"title"`
}

type gitlabChanges struct {
	Labels *struct {
		Previous []gitlabLabel `json:"previous"`
		Current  []gitlabLabel `json:"current"`
	} `json:"labels"`
}

// gitlabMerge is a merge request. The source project is null once the fork is
// gone.
type gitlabMerge struct {
	IID             int           `json:"iid"`
	State           string        `json:"state"`
	SourceBranch    string        `json:"source_branch"`
	TargetBranch    string        `json:"target_branch"`
	SourceProjectID int64         `json:"source_project_id"`
	TargetProjectID int64         `json:"target_project_id"`
	AuthorID        int64         `json:"author_id"`
	Labels          []gitlabLabel `json:"labels"`
	LastCommit      *struct {
		ID string `json:"id"`
	} `json:"last_commit"`
}

// gitlabAttributes is a merge request, or a note.
type gitlabAttributes struct {
	gitlabMerge
	Action string `json:"action"`
	OldRev string `json:"oldrev"` // with an update that brought commits

	ID           int64  `json:"id"`
	Note         string `json:"note"`
	NoteableType string `json:"noteable_type"`
	System       bool   `json:"system"`
}

func parseGitLab(event string, body []byte) ([]controlplane.Change, error) {
	var read func(*gitlabPayload, *controlplane.Change) error
	var kind string
	switch event {
	case "Push Hook":
		kind, read = "push", gitlabPush
	case "Merge Request Hook":
		kind, read = "merge_request", gitlabMergeRequest
	case "Note Hook":
		kind, read = "note", gitlabNote
	default:
		return nil, nil
	}
	var in gitlabPayload
	if err := decode(body, &in); err != nil {
		return nil, err
	}
	if in.ObjectKind != kind {
		return nil, errors.New("the header and object_kind differ")
	}
	if in.Project == nil || in.Project.ID < 1 {
		return nil, errors.New("no project")
	}
	var out controlplane.Change
	var err error
	if out.Repository, err = controlplane.ParseRepository(in.Project.Path); err != nil {
		return nil, err
	}
	if out.Actor, err = text("user", in.User.Username); err != nil {
		return nil, err
	}
	if err := read(&in, &out); err != nil || out.Kind == controlplane.ChangeNone {
		return nil, err
	}
	return []controlplane.Change{out}, nil
}

func gitlabPush(in *gitlabPayload, out *controlplane.Change) error {
	branch, ok, err := ref(in.Ref)
	if err != nil || !ok {
		return err
	}
	if out.Actor, err = text("user_username", in.UserUsername); err != nil {
		return err
	}
	if out.Commit, err = controlplane.ParseCommit(in.After); err != nil {
		return err
	}
	if out.Before, err = controlplane.ParseCommit(in.Before); err != nil {
		return err
	}
	out.Kind, out.Branch = pushed(out.Commit), branch
	out.Default = string(branch) == in.Project.DefaultBranch
	return nil
}

func gitlabMergeRequest(in *gitlabPayload, out *controlplane.Change) error {
	added := in.Changes.added()
	switch in.Attributes.Action {
	case "open", "reopen":
		out.Kind = controlplane.ChangeOpened
	case "update":
		switch {
		case in.Attributes.OldRev != "":
			out.Kind = controlplane.ChangeOpened
		case len(added) > 0:
			out.Kind = controlplane.ChangeLabelled
		default:
			return nil
		}
	case "close", "merge":
		out.Kind = controlplane.ChangeClosed
	default: // approved and the like
		return nil
	}
	m := in.Attributes.gitlabMerge
	m.Labels = in.Labels
	if err := in.merge(&m, out); err != nil {
		return err
	}
	if m.AuthorID == in.User.ID { // the payload names no other author
		out.PullRequest.Author = out.Actor
	}
	var err error
	out.Labelled, err = labels(added)
	return err
}

// added are the labels that an update brought.
func (c gitlabChanges) added() []string {
	if c.Labels == nil {
		return nil
	}
	before := titles(c.Labels.Previous)
	return slices.DeleteFunc(titles(c.Labels.Current), func(l string) bool { return slices.Contains(before, l) })
}

func titles(in []gitlabLabel) []string {
	var out []string
	for _, l := range in {
		out = append(out, l.Title)
	}
	return out
}

func (in *gitlabPayload) merge(m *gitlabMerge, out *controlplane.Change) error {
	if m.TargetProjectID != in.Project.ID {
		return errors.New("the target is not in the project")
	}
	pr := &controlplane.PullRequest{Fork: m.SourceProjectID != in.Project.ID, Open: m.State == "opened"}
	var err error
	if pr.Number, err = number(m.IID); err != nil {
		return err
	}
	if m.LastCommit != nil {
		if pr.Head, err = controlplane.ParseCommit(m.LastCommit.ID); err != nil {
			return err
		}
	} else if out.Kind != controlplane.ChangeClosed { // then the source may be gone
		return errors.New("no last_commit")
	}
	if pr.Branch, err = head(m.SourceBranch, pr.Fork); err != nil {
		return err
	}
	if pr.Base, err = controlplane.ParseBranch(m.TargetBranch); err != nil {
		return err
	}
	pr.Labels, err = labels(titles(m.Labels))
	out.PullRequest, out.Commit = pr, pr.Head
	out.Default = string(pr.Base) == in.Project.DefaultBranch
	return err
}

func gitlabNote(in *gitlabPayload, out *controlplane.Change) error {
	// Older versions send no action, and no word of edits either.
	written := in.Attributes.Action == "create" || in.Attributes.Action == ""
	if in.Attributes.NoteableType != "MergeRequest" || in.Attributes.System || !written {
		return nil
	}
	if in.MergeRequest == nil {
		return errors.New("no merge_request")
	}
	if in.Attributes.ID < 1 {
		return errors.New("the note has no id")
	}
	out.Kind = controlplane.ChangeComment
	out.Comment = &controlplane.Comment{ID: strconv.FormatInt(in.Attributes.ID, 10), Author: out.Actor, Body: comment(in.Attributes.Note)}
	return in.merge(in.MergeRequest, out)
}
