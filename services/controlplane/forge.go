package controlplane

import (
	"context"
	"io"
	"time"
)

// Forge is a provider of Git repositories, with the credentials of one
// integration. Errors are ErrNotFound and ErrDenied where the provider said so;
// RetryError where it asked for patience.
type Forge interface {
	// Archive is the tree of a commit as a gzipped tar. Its paths start with a
	// folder of the provider's choice.
	Archive(ctx context.Context, r Repository, c Commit) (io.ReadCloser, error)
	// Head is the commit that a branch points to; the default branch if it has no
	// name.
	Head(ctx context.Context, r Repository, b Branch) (Commit, error)
	PullRequest(ctx context.Context, r Repository, number int) (PullRequest, error)
	// Permission is what a login may do.
	Permission(ctx context.Context, r Repository, login string) (Permission, error)
	// Comment keeps one comment of Skep's for each key on a pull request: the
	// first call writes it, a later one changes it.
	Comment(ctx context.Context, r Repository, number int, key, markdown string) error
	// React answers a comment with the sign for "seen", where there is one.
	React(ctx context.Context, r Repository, number int, comment string) error
	// Report sets the state of a commit: a status or a check run.
	Report(ctx context.Context, r Repository, c Commit, report Report) error
	// Test says whether the credentials work: who they are.
	Test(ctx context.Context) (string, error)
}

// Deployments is what a Forge has besides that shows what is deployed where.
type Deployments interface {
	// Deployment keeps the state of a run's deployment: the first call says that
	// it begins. One that never began has no other state.
	Deployment(ctx context.Context, r Repository, c Commit, d Deployment) error
	// Retire says that an environment of a project is gone.
	Retire(ctx context.Context, r Repository, project Name, environment string) error
}

// Deployment is a commit on its way to an environment.
type Deployment struct {
	Run         string
	Project     Name
	Environment string // homelab, pr-12
	Preview     bool   // it is there for a while
	State       DeploymentState
	Title       string // one line
	Log         string // the run's page, https
	URL         string // where it answers; may be empty
}

type DeploymentState string

const (
	DeploymentBegun  DeploymentState = "begun"
	DeploymentDone   DeploymentState = "done" // those before it are gone
	DeploymentFailed DeploymentState = "failed"
	DeploymentGone   DeploymentState = "gone"
)

// Report is the state of one thing that is done about a commit.
type Report struct {
	Name        string // skep/plan
	State       ReportState
	Title       string // one line
	Summary     string // Markdown
	URL         string // the run's page, https
	Annotations []Annotation
}

type ReportState string

const (
	ReportPending    ReportState = "pending"
	ReportSuccess    ReportState = "success"
	ReportFailure    ReportState = "failure"    // the commit is at fault
	ReportError      ReportState = "error"      // Skep or the cluster is
	ReportSuperseded ReportState = "superseded" // a newer one took its place
	ReportCancelled  ReportState = "cancelled"  // somebody ended it
)

// Annotation is a problem at a place in a file of the repository.
type Annotation struct {
	Path    string // relative to the repository's root, with slashes
	Line    int    // from 1
	Column  int    // from 1, 0 if unknown
	Warning bool   // else an error
	Rule    string
	Message string
}

// RetryError says that the provider wants no request before After has passed:
// a rate limit, or an outage.
type RetryError struct {
	After time.Duration
	Err   error
}

func (e *RetryError) Error() string { return e.Err.Error() }
func (e *RetryError) Unwrap() error { return e.Err }
