package ingress

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/moby/moby/api/types/swarm"

	"skep/generator/bundle"
	"skep/generator/stack"
	"skep/services/ingress/frame"
	"skep/services/ingress/label"
)

// The variables that the ingress reads its policy from.
const (
	policyVariable     = "SKEP_INGRESS_POLICY"
	policyPathVariable = "SKEP_INGRESS_POLICY_PATH"
)

// For returns an Offline with the policy of the bundle's own ingress. Where
// there is none, or a file of its machine holds the policy, labels are held to
// no policy.
func For(b *bundle.Bundle) Offline {
	for _, s := range b.Stacks {
		content := s.Compose()
		services, _ := content["services"].(map[string]any)
		for _, name := range content.Services() {
			if content.Labels(name)[label.TrustedLabel] != "true" {
				continue
			}
			service, _ := services[string(name)].(map[string]any)
			environment, _ := service["environment"].(map[string]any)
			text, ok := environment[policyVariable].(string)
			if !ok || environment[policyPathVariable] != nil {
				continue
			}
			// Compose writes a dollar sign twice.
			p, err := label.ParsePolicy(strings.ReplaceAll(text, "$$", "$"))
			if err != nil {
				err = fmt.Errorf("%s: %w", policyVariable, err)
				return Offline{unreadable: &stack.Refusal{Service: stack.ServiceRef{Stack: s.Name, Service: name}, Err: err}}
			}
			return Offline{Policy: &p}
		}
	}
	return Offline{}
}

// held returns what the policy refuses, and hosts that two stacks want: the
// ingress gives those to who had them first, which nobody knows here. Caddy has
// been asked already and has found what it refuses.
func (o Offline) held(ctx context.Context, sets []stack.LabelSet, found []stack.Refusal) []stack.Refusal {
	services := map[label.SourceID]stack.ServiceRef{}
	var state label.State
	for _, set := range sets {
		var s swarm.Service
		s.ID, s.Spec.Name, s.Spec.Labels = set.Service.String(), upstreamName(set.Service), maps.Clone(set.Labels)
		s.Spec.Labels["com.docker.stack.namespace"] = string(set.Service.Stack)
		state.Services = append(state.Services, s)
		services["service:"+label.SourceID(s.ID)] = set.Service
	}
	sources := label.Sources(state, label.Settings{VirtualIPs: true, Policy: *o.Policy})
	rendered := make([]*label.Rendered, len(sources))
	for i := range sources {
		sources[i].Offline, sources[i].Unreachable = true, false
		rendered[i] = label.Render(&sources[i], *o.Policy)
	}
	plan := label.Assemble(rendered, nil, *o.Policy, time.Time{}, 0)
	refusals := plan.Refusals
	adapter := frame.Adapter{Policy: *o.Policy}
	accepted := map[string]bool{} // by what the site has in common with others
	for _, site := range plan.Sites {
		if ctx.Err() != nil {
			return nil
		}
		kind := kindOf(site)
		if accepted[kind] {
			continue
		}
		if _, refusal := adapter.Part(plan.Globals, site); refusal != nil {
			refusals = append(refusals, *refusal)
			continue
		}
		accepted[kind] = true
	}
	var out []stack.Refusal
	for _, r := range refusals {
		service := services[r.ID]
		known := slices.ContainsFunc(found, func(f stack.Refusal) bool { return f.Service == service })
		switch r.Rule {
		case label.RuleClaim:
			r.Reason += ", unless yours had it first"
			known = false
		case label.RuleAdapt:
			known = len(found) > 0 // others' snippets may be to blame
		case label.RuleSyntax, label.RuleTemplate, label.RuleConflict:
		default:
			known = false
		}
		if !known {
			out = append(out, stack.Refusal{Service: service, Label: r.Label, Err: errors.New(r.Reason)})
		}
	}
	return out
}

// kindOf is the same for sites that differ in their addresses' hosts and their
// upstreams' names and ports alone: the policy takes all or none.
func kindOf(s *label.Site) string {
	head, body, _ := strings.Cut(s.Text, "\n")
	for _, key := range s.Keys {
		if plainHost.MatchString(key) {
			head = strings.Replace(head, key, "\x00host", 1)
		}
	}
	for _, source := range s.Sources {
		body = strings.ReplaceAll(body, " "+source.Name+":", " \x00upstream:")
	}
	return fmt.Sprintf("%t %d %d %s%s%s\n%s", s.Trusted, len(s.Prelude), len(s.Granted), s.Prelude, s.Granted, head, withoutPorts(body))
}
