package event

import (
	"errors"
	"strconv"

	"skep/services/controlplane"
)

// The parts of GitHub's payloads that are read; each event has some of them.
// https://docs.github.com/webhooks/webhook-events-and-payloads
type githubPayload struct {
	Action     string            `json:"action"`
	Repository *githubRepository `json:"repository"`
	Sender     githubUser        `json:"sender"`

	Ref     string `json:"ref"` // push
	Before  string `json:"before"`
	After   string `json:"after"`
	Deleted bool   `json:"deleted"`

	PullRequest *githubPull    `json:"pull_request"`
	Label       *githubLabel   `json:"label"`
	Issue       *githubIssue   `json:"issue"`
	Comment     *githubComment `json:"comment"`
	CheckRun    *githubCheck   `json:"check_run"`
	CheckSuite  *githubCheck   `json:"check_suite"`
}

type githubRepository struct {
	ID            int64  `json:"id"`
	FullName      string `json:"full_name"`
	DefaultBranch string `json:"default_branch"`
}

type githubUser struct {
	Login string `json:"login"`
	Type  string `json:"type"` // User, Bot, Organization
}

type githubLabel struct {
	Name string `json:"name"`
}

type githubPull struct {
	Number int           `json:"number"`
	State  string        `json:"state"`
	User   githubUser    `json:"user"`
	Labels []githubLabel `json:"labels"`
	Head   githubEnd     `json:"head"`
	Base   githubEnd     `json:"base"`
}

// githubEnd is the head or the base. The repository of a head is null once the
// fork is gone.
type githubEnd struct {
	Ref  string            `json:"ref"`
	SHA  string            `json:"sha"`
	Repo *githubRepository `json:"repo"`
}

type githubIssue struct {
	Number      int           `json:"number"`
	State       string        `json:"state"`
	User        githubUser    `json:"user"`
	Labels      []githubLabel `json:"labels"`
	PullRequest *struct{}     `json:"pull_request"`
}

type githubComment struct {
	ID   int64      `json:"id"`
	Body string     `json:"body"`
	User githubUser `json:"user"`
}

type githubCheck struct {
	HeadSHA      string       `json:"head_sha"`
	PullRequests []githubPull `json:"pull_requests"`
}

func parseGitHub(event string, body []byte) ([]controlplane.Change, error) {
	var read func(*githubPayload, *controlplane.Change) error
	switch event {
	case "push":
		read = githubPush
	case "pull_request":
		read = githubPullRequest
	case "issue_comment":
		read = githubIssueComment
	case "check_run", "check_suite":
		read = githubCheckAgain
	default: // ping among them
		return nil, nil
	}
	var in githubPayload
	if err := decode(body, &in); err != nil {
		return nil, err
	}
	if in.Repository == nil || in.Repository.ID < 1 {
		return nil, errors.New("no repository")
	}
	var out controlplane.Change
	var err error
	if out.Repository, err = controlplane.ParseRepository(in.Repository.FullName); err != nil {
		return nil, err
	}
	if out.Actor, err = text("sender", in.Sender.Login); err != nil {
		return nil, err
	}
	if err := read(&in, &out); err != nil || out.Kind == controlplane.ChangeNone {
		return nil, err
	}
	return []controlplane.Change{out}, nil
}

func githubPush(in *githubPayload, out *controlplane.Change) error {
	branch, ok, err := ref(in.Ref)
	if err != nil || !ok {
		return err
	}
	if out.Commit, err = controlplane.ParseCommit(in.After); err != nil {
		return err
	}
	if out.Before, err = controlplane.ParseCommit(in.Before); err != nil {
		return err
	}
	if in.Deleted != out.Commit.None() {
		return errors.New("the branch is deleted and has a commit, or neither")
	}
	out.Kind, out.Branch = pushed(out.Commit), branch
	out.Default = string(branch) == in.Repository.DefaultBranch
	return nil
}

func pushed(after controlplane.Commit) controlplane.ChangeKind {
	if after.None() {
		return controlplane.ChangeBranchDeleted
	}
	return controlplane.ChangePush
}

func githubPullRequest(in *githubPayload, out *controlplane.Change) error {
	switch in.Action {
	case "opened", "reopened", "synchronize":
		out.Kind = controlplane.ChangeOpened
	case "labeled":
		out.Kind = controlplane.ChangeLabelled
		if in.Label == nil {
			return errors.New("no label")
		}
		var err error
		if out.Labelled, err = labels([]string{in.Label.Name}); err != nil {
			return err
		}
	case "closed":
		out.Kind = controlplane.ChangeClosed
	default:
		return nil
	}
	if in.PullRequest == nil {
		return errors.New("no pull_request")
	}
	pr, err := in.PullRequest.parse(in.Repository)
	if err != nil {
		return err
	}
	pr.Author, err = text("author", in.PullRequest.User.Login)
	if err != nil {
		return err
	}
	pr.Labels, err = labels(names(in.PullRequest.Labels))
	pr.Open = in.PullRequest.State == "open"
	out.Commit, out.PullRequest = pr.Head, pr
	out.Default = string(pr.Base) == in.Repository.DefaultBranch
	return err
}

// parse reads what is the same in a pull request and in a check's short form
// of one. The head is in a fork unless the payload says that it is not.
func (p *githubPull) parse(r *githubRepository) (*controlplane.PullRequest, error) {
	if p.Base.Repo == nil || p.Base.Repo.ID != r.ID {
		return nil, errors.New("the base is not in the repository")
	}
	var out controlplane.PullRequest
	var err error
	out.Fork = p.Head.Repo == nil || p.Head.Repo.ID != r.ID
	if out.Number, err = number(p.Number); err != nil {
		return nil, err
	}
	if out.Head, err = controlplane.ParseCommit(p.Head.SHA); err != nil {
		return nil, err
	}
	if out.Branch, err = head(p.Head.Ref, out.Fork); err != nil {
		return nil, err
	}
	out.Base, err = controlplane.ParseBranch(p.Base.Ref)
	return &out, err
}

func names(in []githubLabel) []string {
	var out []string
	for _, l := range in {
		out = append(out, l.Name)
	}
	return out
}

func githubIssueComment(in *githubPayload, out *controlplane.Change) error {
	if in.Issue == nil || in.Comment == nil {
		return errors.New("no issue, or no comment")
	}
	// Bots, Skep's App among them, quote commands in what they write.
	if in.Action != "created" || in.Issue.PullRequest == nil || in.Comment.User.Type == "Bot" {
		return nil
	}
	pr := &controlplane.PullRequest{Fork: true, Open: in.Issue.State == "open"}
	var err error
	if pr.Number, err = number(in.Issue.Number); err != nil {
		return err
	}
	if pr.Author, err = text("author", in.Issue.User.Login); err != nil {
		return err
	}
	if pr.Labels, err = labels(names(in.Issue.Labels)); err != nil {
		return err
	}
	if in.Comment.ID < 1 {
		return errors.New("the comment has no id")
	}
	author, err := text("author", in.Comment.User.Login)
	out.Kind, out.PullRequest = controlplane.ChangeComment, pr
	out.Comment = &controlplane.Comment{ID: strconv.FormatInt(in.Comment.ID, 10), Author: author, Body: comment(in.Comment.Body)}
	return err
}

// githubCheckAgain reads that somebody pressed "re-run". A check without a pull
// request has a branch by name, but a fork's branch has a name too, main
// perhaps: it is left out, and the commit is nobody's.
func githubCheckAgain(in *githubPayload, out *controlplane.Change) error {
	check := in.CheckRun
	if check == nil {
		check = in.CheckSuite
	}
	if in.Action != "rerequested" {
		return nil
	}
	if check == nil {
		return errors.New("no check")
	}
	var err error
	if out.Commit, err = controlplane.ParseCommit(check.HeadSHA); err != nil {
		return err
	}
	for _, p := range check.PullRequests {
		if p.Head.SHA != check.HeadSHA || p.Base.Repo == nil || p.Base.Repo.ID != in.Repository.ID {
			continue // pushed over since, or another repository's
		}
		pr, err := p.parse(in.Repository)
		if err != nil {
			return err
		}
		pr.Open = true // GitHub lists open ones
		out.PullRequest = pr
		out.Default = string(pr.Base) == in.Repository.DefaultBranch
		break
	}
	out.Kind = controlplane.ChangeRefresh
	return nil
}
