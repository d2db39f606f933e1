package controlplane

import (
	"fmt"
	"time"
)

// Project binds a cluster to the repository that describes it.
type Project struct {
	ID          int64
	Name        Name
	Integration Name
	Provider    Provider
	Repository  Repository
	Branch      Branch // what the cluster follows; empty: the default branch
	Folder      string // of cluster.yaml in the repository
	Cluster     Name   // one deploy at a time for each cluster and branch
	Deploy      DeployPolicy
	Previews    Previews
	Created     time.Time
}

// DeployPolicy says what a push to the branch may do.
type DeployPolicy string

const (
	DeployNever  DeployPolicy = "never"  // check and plan
	DeployManual DeployPolicy = "manual" // when somebody with write access says so
	DeployAlways DeployPolicy = "always"
)

// Previews says whether pull requests get environments of their own.
type Previews struct {
	Enabled  bool
	Label    string        // on the pull request, asks for one; empty: commands alone do
	Lifetime time.Duration // since the last push or command
	Limit    int           // at once
}

// BranchQueue is where runs of a branch wait for one another, deploys among
// them. A colon is in no branch's name (git-check-ref-format), so the queues
// below are not those of branches.
func (p Project) BranchQueue(b Branch) string { return fmt.Sprintf("%s/%s", p.Cluster, b) }

// DeployQueue is where all that deploys to the cluster waits: that of the branch
// which it follows.
func (p Project) DeployQueue() string {
	if p.Branch == "" {
		return fmt.Sprintf("%s/default:", p.Cluster)
	}
	return p.BranchQueue(p.Branch)
}

// PullQueue is that of the checks and plans of a pull request.
func (p Project) PullQueue(number int) string { return fmt.Sprintf("%s/pull:%d", p.Cluster, number) }

// PreviewQueue is that of a pull request's preview.
func (p Project) PreviewQueue(number int) string {
	return fmt.Sprintf("%s/preview:%d", p.Cluster, number)
}
