package check

import (
	"context"

	"skep/generator/bundle"
	"skep/generator/problem"
	"skep/generator/spec"
	"skep/generator/stack"
)

// Ingress is asked whether the ingress would accept labels.
type Ingress interface {
	Refusals(ctx context.Context, sets []stack.LabelSet) []stack.Refusal
}

var ruleIngressRefuses = rule("ingress-refuses", problem.Error, "The ingress would refuse the labels")

// Labels reports what the ingress would refuse, where the stack file or the
// cluster file asked for it.
func Labels(ctx context.Context, b *bundle.Bundle, in Ingress) problem.List {
	var found problem.List
	for _, r := range in.Refusals(ctx, b.LabelSets()) {
		if r.Service == (stack.ServiceRef{}) {
			found = append(found, ruleIngressRefuses.At(problem.Position{File: spec.ClusterFile}, "%s", r.Err))
			continue
		}
		origin := labelOrigin(b, r)
		p := ruleIngressRefuses.At(origin.Pos, "the ingress refuses the labels of %s: %s", r.Service, r.Err)
		if r.Label != "" {
			p.Message = ruleIngressRefuses.At(origin.Pos, "the ingress refuses label %s: %s", r.Label, r.Err).Message
		}
		switch origin.By {
		case "deploy", "x-ingress":
			p = p.WithRemedy("correct it in %s; `skep explain %s` shows every label and where it comes from", origin.By, r.Service)
		default:
			p = p.WithRemedy("`skep explain %s` shows every label and where it comes from", r.Service)
		}
		found = append(found, p.About(r.Service))
	}
	return found.Sorted()
}

// labelOrigin is where a refused label comes from; for a set that is refused
// as a whole, where its site comes from.
func labelOrigin(b *bundle.Bundle, r stack.Refusal) bundle.Origin {
	label := r.Label
	if label == "" {
		label = "caddy"
	}
	for _, s := range b.Stacks {
		if s.Name != r.Service.Stack {
			continue
		}
		if origin, ok := s.Origins().At("services", string(r.Service.Service), "deploy", "labels", label); ok {
			return origin
		}
		return bundle.Origin{Pos: problem.Position{File: s.Source}}
	}
	return bundle.Origin{Pos: problem.Position{File: spec.ClusterFile}}
}
