package controlplane

// Change is what a delivery says of a repository, in one form for all
// providers. All of it comes from whoever can push or comment.
type Change struct {
	Kind       ChangeKind
	Repository Repository
	Actor      string // login of who did it
	Branch     Branch // of a push
	Commit     Commit // after the push, or the head of the pull request
	Before     Commit // of a push, zeros for a new branch
	Default    bool   // the push went to the repository's default branch, or the pull request aims at it

	// Labelled are the labels that a pull request just got.
	Labelled    []string
	PullRequest *PullRequest
	Comment     *Comment
}

type ChangeKind string

const (
	ChangeNone          ChangeKind = ""       // nothing that Skep acts on
	ChangePush          ChangeKind = "push"   // commits on a branch
	ChangeBranchDeleted ChangeKind = "gone"   // the branch was removed
	ChangeOpened        ChangeKind = "opened" // a pull request was opened, reopened or got new commits
	ChangeLabelled      ChangeKind = "labelled"
	ChangeClosed        ChangeKind = "closed" // merged or not
	ChangeComment       ChangeKind = "comment"
	ChangeRefresh       ChangeKind = "refresh" // somebody asked for a check again
	// ChangeAsked is no change: a task asked for a run. What commit it is about is
	// found out when it works.
	ChangeAsked ChangeKind = "asked"
)

// PullRequest is one, or a merge request. GitHub does not send the head along
// with a comment: then Head, Branch and Base are empty, Fork is true, and who
// acts asks the Forge first.
type PullRequest struct {
	Number int
	Head   Commit
	Branch Branch // of the head; empty in a fork whose branch has a name of no branch
	Base   Branch
	// Fork says that the head lies in another repository, or that nobody said
	// where: it gets no secret and no deploy.
	Fork   bool
	Author string
	Labels []string
	Open   bool
}

// Comment is one on a pull request.
type Comment struct {
	ID     string // the provider's
	Author string
	Body   string
}

// Permission is what a person may do with a repository.
type Permission int

const (
	PermissionNone Permission = iota
	PermissionRead
	PermissionWrite
	PermissionAdmin
)
