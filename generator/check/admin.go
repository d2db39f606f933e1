package check

import (
	"slices"
	"strings"

	"skep/generator/problem"
	"skep/generator/stack"
)

var ruleAdminPublic = rule("admin-public", problem.Error, "An administration page in public")

// adminTools are programs whose page is a way into the machines or the data.
var adminTools = []string{
	"adminer", "akhq", "cloudbeaver", "dbgate", "dockge", "hatchet-dashboard", "kafka-ui", "mongo-express", "pgadmin", "pgweb",
	"phpldapadmin", "phpmyadmin", "phppgadmin", "phpredisadmin", "portainer", "prisma-studio", "redis-commander", "redisinsight",
	"sqlpad", "swarmpit", "yacht",
}

// adminPorts are ports of programs that serve users on another one.
var adminPorts = map[string]uint16{"traefik": 8080, "rabbitmq": 15672}

func adminPublic(_ *stack.Cluster, _ *stack.Stack, v *stack.Service) problem.List {
	var found problem.List
	for _, r := range v.Routes {
		if r.Zone == nil || r.Zone.Private || len(r.Allow) > 0 || !isAdminPage(v, r) {
			continue
		}
		p := ruleAdminPublic.At(r.Pos, "%s is an administration page, and zone %q lets the whole Internet knock", r.Host, r.Zone.Name)
		found = append(found, p.WithRemedy("publish it in a private zone, or add `allow: [10.0.0.0/8]`").About(v.Ref))
	}
	return found
}

func isAdminPage(v *stack.Service, r stack.Route) bool {
	image, name := stack.ImageName(v.Compose.Image), strings.ToLower(string(v.Ref.Service))
	if slices.ContainsFunc(adminTools, func(tool string) bool { return strings.Contains(image, tool) || strings.Contains(name, tool) }) {
		return true
	}
	if slices.Contains(words(image), "studio") || slices.Contains(words(name), "studio") {
		return true // of a database: supabase/studio, drizzle-studio
	}
	return r.Port != 0 && r.Port == adminPorts[image]
}
