package check

import (
	"skep/generator/problem"
	"skep/generator/stack"
)

var ruleMissingSSO = rule("missing-sso", problem.Error, "A route without a login and without a reason")

// missingSSO wants a reason for each route without a login. Zones that are not
// private but closed by an allow list, such as an admin zone, need none.
func missingSSO(c *stack.Cluster, _ *stack.Stack, v *stack.Service) problem.List {
	if c.SSO == nil {
		return nil
	}
	var found problem.List
	for _, r := range v.Routes {
		if r.Auth.SSO || r.Auth.Reason != "" || r.Zone == nil || !r.Zone.Private && len(r.Zone.Allow) > 0 {
			continue
		}
		p := ruleMissingSSO.At(r.Pos, "%s asks for no login and does not say why", r.Host)
		if !r.Zone.Private {
			p.Severity = problem.Warning
		}
		found = append(found, p.WithRemedy("auth: sso, or say why not: `auth: {sso: false, reason: has its own login}`").About(v.Ref))
	}
	return found
}
