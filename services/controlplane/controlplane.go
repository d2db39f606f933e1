// Package controlplane has the domain of the control plane: what is delivered,
// what is done about it, and with whose credentials. It does no I/O. A folder
// below it is a part: store keeps, webhook receives, dispatch hands on.
//
// A delivery is a webhook that arrived and was verified. It becomes a Change:
// what it says of a repository, in one form for all providers. A Project says
// which repository and branch describe which cluster. A change of a project
// starts a Run, which is a durable workflow; its steps run in workers.
package controlplane

import (
	"errors"
	"fmt"
	"regexp"
	"strings"
)

// What parts say to each other; errors.Is finds them.
var (
	ErrNotFound = errors.New("not found")
	ErrConflict = errors.New("exists already")
	// ErrDenied says that a credential or a person may not do it.
	ErrDenied = errors.New("denied")
	// ErrInvalid says that the input is at fault.
	ErrInvalid = errors.New("invalid")
	// ErrBusy says that somebody else is at it: try again later.
	ErrBusy = errors.New("busy")
	// ErrOver says that a run has ended, or was cancelled or superseded.
	ErrOver = errors.New("over")
)

// Provider is a service whose API and webhooks are spoken.
type Provider string

const (
	GitHub      Provider = "github"
	AzureDevOps Provider = "azuredevops"
	GitLab      Provider = "gitlab"
	Salesforce  Provider = "salesforce"
	// Generic is whoever signs as Standard Webhooks say: standardwebhooks.com.
	Generic Provider = "generic"
)

// Providers are all of them, sorted.
var Providers = []Provider{AzureDevOps, Generic, GitHub, GitLab, Salesforce}

// ParseProvider takes the name as it stands in URLs.
func ParseProvider(s string) (Provider, error) {
	for _, p := range Providers {
		if s == string(p) {
			return p, nil
		}
	}
	return "", fmt.Errorf("%w: provider %q; there are %v", ErrNotFound, s, Providers)
}

// Name is what an operator calls an integration, a source, a project, a task or
// a schedule: a DNS label (RFC 1123, 2.1), as it becomes part of hosts and of
// service names.
type Name string

var label = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$`)

// ParseName is the only door to a Name.
func ParseName(s string) (Name, error) {
	if !label.MatchString(s) {
		return "", fmt.Errorf("name %q: use up to 63 of a-z, 0-9 and -, with a letter or digit first and last", s)
	}
	return Name(s), nil
}

// Repository is a repository's path at its provider: owner/name at GitHub,
// group/subgroup/name at GitLab, organization/project/name at Azure DevOps.
type Repository string

// ParseRepository refuses what could leave the path of an API request.
func ParseRepository(s string) (Repository, error) {
	parts := strings.Split(s, "/")
	if len(s) > 400 || len(parts) < 2 || len(parts) > 21 {
		return "", fmt.Errorf("repository %q: write owner/name", s)
	}
	for _, p := range parts {
		if p == "" || p == "." || p == ".." || strings.ContainsFunc(p, notInPath) {
			return "", fmt.Errorf("repository %q: %q is no part of a path", s, p)
		}
	}
	return Repository(s), nil
}

func notInPath(r rune) bool { return r < ' ' || r == 0x7f || strings.ContainsRune(`\?#%:*"<>|`, r) }

// Commit is a full object name: SHA-1 or SHA-256, in lower case.
type Commit string

var object = regexp.MustCompile(`^([0-9a-f]{40}|[0-9a-f]{64})$`)

func ParseCommit(s string) (Commit, error) {
	if !object.MatchString(s) {
		return "", fmt.Errorf("commit %q: a full object name has 40 or 64 hexadecimal digits", s)
	}
	return Commit(s), nil
}

// None says that a push removed its branch: it is the commit of no object.
func (c Commit) None() bool { return strings.Trim(string(c), "0") == "" }

// Branch is a branch's name without refs/heads/.
type Branch string

// ParseBranch holds it to git-check-ref-format's rules, as far as they guard
// paths and logs.
func ParseBranch(s string) (Branch, error) {
	bad := s == "" || len(s) > 250 || s[0] == '-' || s[0] == '/' || strings.HasSuffix(s, "/") || strings.HasSuffix(s, ".lock") ||
		strings.Contains(s, "..") || strings.Contains(s, "//") || strings.Contains(s, "@{") ||
		strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r == 0x7f || strings.ContainsRune(`~^:?*[\`, r) })
	if bad {
		return "", fmt.Errorf("branch %q is no name that Git takes", s)
	}
	return Branch(s), nil
}
