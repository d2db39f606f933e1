package check

import (
	"net/netip"
	"slices"
	"strings"

	"skep/generator/problem"
	"skep/generator/stack"
)

var ruleProxyShared = rule("proxy-shared", problem.Error, "A docker proxy has more than one consumer")

// proxyShared finds ways to the Docker API that more services can use than the
// one that they are meant for.
func proxyShared(c *stack.Cluster) problem.List {
	members := membership(c)
	var found problem.List
	for _, s := range c.Stacks {
		for _, v := range s.Services {
			report := func(pos problem.Position, format string, args ...any) {
				found = append(found, ruleProxyShared.At(pos, format, args...).
					WithRemedy("remove it and give each consumer `x-docker-api: [...]`: a docker proxy of its own, that nobody else reaches").About(v.Ref))
			}
			if IsDockerProxy(v.Compose.Image) {
				for _, overlay := range overlaysOf(c, s, v) {
					others := slices.DeleteFunc(slices.Clone(members[overlay]), func(r stack.ServiceRef) bool { return r == v.Ref })
					if len(others) > 1 {
						report(v.At("networks"), "%d services reach this docker proxy on network %s: %s", len(others), overlay, some(others))
					}
				}
			}
			for _, p := range v.Compose.Ports {
				if p.Target == 2375 || p.Target == 2376 || p.Published == "2375" || p.Published == "2376" {
					report(v.At("ports"), "port %d, the Docker API, is published on every node", p.Target)
				}
			}
			if host := v.Compose.Environment["DOCKER_HOST"]; host != nil && isOpenDaemon(*host) {
				report(v.At("environment", "DOCKER_HOST"), "DOCKER_HOST is a Docker daemon on plain TCP: whoever reaches that port is root there")
			}
		}
	}
	return found
}

// IsDockerProxy knows the docker proxies that people write by hand.
// caddy-docker-proxy is not one.
func IsDockerProxy(image string) bool {
	name := stack.ImageName(image)
	return name == "docker-proxy" ||
		slices.ContainsFunc([]string{"socket-proxy", "socketproxy", "dockerproxy"}, func(s string) bool { return strings.Contains(name, s) })
}

// isOpenDaemon reports whether DOCKER_HOST names a machine, not a service.
func isOpenDaemon(host string) bool {
	address, ok := strings.CutPrefix(host, "tcp://")
	if !ok || !strings.HasSuffix(address, ":2375") {
		return false
	}
	name := strings.TrimSuffix(address, ":2375")
	_, err := netip.ParseAddr(strings.Trim(name, "[]"))
	return err == nil || strings.Contains(name, ".") && !strings.HasPrefix(name, "tasks.")
}

// some names a few of many.
func some(refs []stack.ServiceRef) string {
	var names []string
	for i, r := range refs {
		if i == 3 && len(refs) > 4 {
			names = append(names, "...")
			break
		}
		names = append(names, r.String())
	}
	return strings.Join(names, ", ")
}
