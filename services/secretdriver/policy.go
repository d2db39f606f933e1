package secretdriver

import (
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/goccy/go-yaml"

	"skep/secrets"
)

// Policy says which service may get which references. Labels and file are
// both asked, and either can refuse.
type Policy struct {
	rules []rule // nil: the labels alone decide
}

// rule lets services have references.
type rule struct {
	Services   []string `yaml:"services"`   // patterns of names, "media_*"
	References []string `yaml:"references"` // patterns "vault/item", "homelab/postgres-*"
}

// Labels of services that the policy heeds.
const (
	// stackLabel is Docker's own.
	stackLabel = "com.docker.stack.namespace"
	// AllowLabel narrows what a service may get: patterns "vault/item",
	// separated by commas.
	AllowLabel = "skep.secrets.allow"
)

// LabelsOnly is the policy without a file: a secret is for the services of its
// stack.
func LabelsOnly() Policy { return Policy{} }

// ParsePolicy reads a policy file. What no rule allows is refused, so a file
// without rules refuses everything.
func ParsePolicy(data []byte) (Policy, error) {
	var file struct {
		Rules []rule `yaml:"rules"`
	}
	if err := yaml.UnmarshalWithOptions(data, &file, yaml.Strict()); err != nil {
		return Policy{}, fmt.Errorf("read the policy: %w", err)
	}
	p := Policy{rules: []rule{}}
	for i, r := range file.Rules {
		if len(r.Services) == 0 || len(r.References) == 0 {
			return Policy{}, fmt.Errorf("rule %d of the policy needs services and references", i+1)
		}
		for j, pattern := range r.References {
			r.References[j] = strings.ToLower(strings.TrimPrefix(pattern, "op://"))
			if strings.Count(r.References[j], "/") != 1 {
				return Policy{}, fmt.Errorf("rule %d of the policy: %q must be vault/item", i+1, pattern)
			}
		}
		for _, pattern := range slices.Concat(r.Services, r.References) {
			if _, err := path.Match(pattern, ""); err != nil {
				return Policy{}, fmt.Errorf("rule %d of the policy: %q is no pattern", i+1, pattern)
			}
		}
		p.rules = append(p.rules, r)
	}
	return p, nil
}

var errDenied = errors.New("the policy refuses it")

// Allow returns why a service may not have references, or nil.
func (p Policy) Allow(r Request, refs []secrets.Reference) error {
	if owner := r.SecretLabels[secrets.LabelStack]; owner != "" && owner != r.ServiceLabels[stackLabel] {
		return fmt.Errorf("%w: the secret is for stack %q, the service is of stack %q", errDenied, owner, r.ServiceLabels[stackLabel])
	}
	for _, ref := range refs {
		name := ref.Vault + "/" + ref.Item
		if list, ok := r.ServiceLabels[AllowLabel]; ok && !slices.ContainsFunc(strings.Split(list, ","), func(pattern string) bool {
			return matches(strings.ToLower(strings.TrimSpace(pattern)), name)
		}) {
			return fmt.Errorf("%w: the service's label %s does not name %s", errDenied, AllowLabel, name)
		}
		if p.rules != nil && !slices.ContainsFunc(p.rules, func(rule rule) bool { return rule.allows(r.ServiceName, name) }) {
			return fmt.Errorf("%w: no rule gives %s to service %s", errDenied, name, r.ServiceName)
		}
	}
	return nil
}

func (r rule) allows(service, name string) bool {
	return slices.ContainsFunc(r.Services, func(p string) bool { return matches(p, service) }) &&
		slices.ContainsFunc(r.References, func(p string) bool { return matches(p, name) })
}

// matches is path.Match: * stops at a slash, so that a vault's pattern cannot
// reach into another.
func matches(pattern, name string) bool {
	ok, err := path.Match(pattern, name)
	return err == nil && ok
}
