package check

import (
	"skep/generator/problem"
	"skep/generator/stack"
)

var ruleDockerData = rule("docker-data", problem.Error, "Docker's own files are mounted")

// dataFolders are where engines keep their state.
var dataFolders = []string{"/var/lib/docker", "/var/lib/containerd", "/var/lib/containers"}

// logFolder is the one part of it that collectors of logs read.
const logFolder = "/var/lib/docker/containers"

func dockerData(_ *stack.Cluster, s *stack.Stack, v *stack.Service) problem.List {
	var found problem.List
	for i, m := range v.Compose.Volumes {
		source, ok := mountSource(s, m)
		if !ok || HoldsSocket(source) { // said by docker-socket
			continue
		}
		for _, folder := range dataFolders {
			if p := nodePath(source); !within(folder, p) && !within(p, folder) || m.ReadOnly && within(logFolder, p) {
				continue
			}
			found = append(found, ruleDockerData.At(v.At("volumes", itoa(i)), "the mount of %s gives %s files of the container engine: other services' volumes and secrets, the keys of the Swarm",
				source, v.Ref.Service).
				WithRemedy("mount a volume by its name; what collects logs needs %s alone, with :ro", logFolder).About(v.Ref))
			break
		}
	}
	return found
}
