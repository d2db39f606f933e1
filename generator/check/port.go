package check

import (
	"strconv"
	"strings"

	"skep/generator/problem"
	"skep/generator/stack"
)

var (
	rulePublishedPort = rule("published-port", problem.Error, "A port is published past the ingress")
	rulePortTaken     = rule("port-taken", problem.Error, "Two services publish one port")
)

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

// portTaken finds ports that Swarm would give to the first service alone. Of two
// in host mode each may be on nodes of its own.
func portTaken(c *stack.Cluster) problem.List {
	type owner struct {
		service *stack.Service
		pos     problem.Position
		host    bool
	}
	first := map[string]owner{}
	var found problem.List
	for _, v := range c.Services() {
		for i, p := range v.Compose.Ports {
			if p.Published == "" || p.Published == "0" {
				continue
			}
			port := p.Published + "/" + or(p.Protocol, "tcp")
			mine := owner{v, v.At("ports", itoa(i)), p.Mode == "host"}
			other, taken := first[port]
			if !taken {
				first[port] = mine
				continue
			}
			if other.service == v || other.host && mine.host {
				continue
			}
			p := rulePortTaken.At(mine.pos, "port %s is published by %s already (%s)", port, other.service.Ref, other.pos)
			found = append(found, p.WithRemedy("publish another port for one of them; what speaks HTTP needs none: x-ingress").About(v.Ref))
		}
	}
	return found
}
