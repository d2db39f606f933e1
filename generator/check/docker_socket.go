package check

import (
	"path"
	"strings"

	"github.com/compose-spec/compose-go/v2/types"

	"skep/generator/problem"
	"skep/generator/stack"
)

var ruleDockerSocket = rule("docker-socket", problem.Error, "The Docker socket is mounted")

func dockerSocket(_ *stack.Cluster, s *stack.Stack, v *stack.Service) problem.List {
	var found problem.List
	remedy := func(p problem.Problem) problem.Problem {
		return p.WithRemedy("ask for the parts that it reads, `x-docker-api: [containers, events]`: it gets a docker proxy of its own").About(v.Ref)
	}
	for i, m := range v.Compose.Volumes {
		source, ok := mountSource(s, m)
		if !ok || !HoldsSocket(source) {
			continue
		}
		what := "the Docker socket is mounted"
		if path.Base(source) != "docker.sock" && !strings.Contains(source, "docker_engine") {
			what = "the mount of " + source + " holds the Docker socket"
		}
		found = append(found, remedy(ruleDockerSocket.At(v.At("volumes", itoa(i)), "%s: whoever takes over %s takes over the node", what, v.Ref.Service)))
	}
	if v.Compose.UseAPISocket {
		found = append(found, remedy(ruleDockerSocket.At(v.At("use_api_socket"), "use_api_socket mounts the Docker socket: whoever takes over %s takes over the node", v.Ref.Service)))
	}
	return found
}

// mountSource is the path of the node that a mount shows, directly or through
// a volume of the local driver (o: bind).
func mountSource(s *stack.Stack, m types.ServiceVolumeConfig) (string, bool) {
	switch m.Type {
	case types.VolumeTypeBind, types.VolumeTypeNamedPipe:
		return cleanPath(m.Source), true
	case types.VolumeTypeVolume:
		if device := s.Volumes[m.Source].DriverOpts["device"]; strings.HasPrefix(device, "/") {
			return cleanPath(device), true
		}
	}
	return "", false
}

func cleanPath(p string) string { return path.Clean(strings.ReplaceAll(p, `\`, "/")) }

// HoldsSocket reports whether a path of the node is the Docker socket, wherever
// it lies (rootless Docker has it in /run/user), or a folder that it is in.
func HoldsSocket(p string) bool {
	if path.Base(p) == "docker.sock" || strings.HasSuffix(p, "/pipe/docker_engine") {
		return true
	}
	for _, socket := range []string{"/var/run/docker.sock", "/run/docker.sock"} {
		if p == "/" || strings.HasPrefix(socket, p+"/") {
			return true
		}
	}
	return false
}
