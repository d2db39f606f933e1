package check

import (
	"strconv"
	"strings"

	"skep/generator/problem"
	"skep/generator/stack"
)

var rulePublishedPort = rule("published-port", problem.Error, "A port is published past the ingress")

func publishedPort(c *stack.Cluster, _ *stack.Stack, v *stack.Service) problem.List {
	if v.Ref == c.Ingress.Service || len(v.Compose.Ports) == 0 {
		return nil
	}
	var ports []string
	for _, p := range v.Compose.Ports {
		published := p.Published
		if published == "" {
			published = "a random port for " + strconv.Itoa(int(p.Target))
		}
		ports = append(ports, published+"/"+or(p.Protocol, "tcp"))
	}
	p := rulePublishedPort.At(v.At("ports"), "%s publishes %s on the nodes, past the ingress with its TLS, login and allow lists", v.Ref.Service, strings.Join(ports, ", "))
	return problem.List{p.WithRemedy("use x-ingress, or x-uses for another stack; waive it for what is no HTTP: `x-waive: {%s: DNS for the LAN}`", rulePublishedPort.ID).About(v.Ref)}
}
