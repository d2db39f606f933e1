package check

import (
	"path"
	"slices"
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
		if !isSocket(source) {
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

// nodePath is a path of the node in one spelling: /proc/1/root is the node's
// root, and /var/run is /run.
func nodePath(p string) string {
	p = cleanPath(p)
	for _, root := range []string{"/proc/1/root", "/proc/self/root"} {
		if rest, ok := strings.CutPrefix(p, root); ok && (rest == "" || rest[0] == '/') {
			p = path.Clean("/" + rest)
		}
	}
	if rest, ok := strings.CutPrefix(p, "/var/run"); ok && (rest == "" || rest[0] == '/') {
		p = "/run" + rest
	}
	return p
}

// sockets are what a container engine listens on, by the name of the file.
var sockets = []string{"docker.sock", "containerd.sock", "podman.sock", "docker_engine"}

func isSocket(p string) bool { return slices.Contains(sockets, strings.ToLower(path.Base(p))) }

// HoldsSocket reports whether a path of the node is the socket of a container
// engine, wherever it lies (rootless Docker has it in /run/user), or a folder
// that it is in.
func HoldsSocket(p string) bool {
	p = nodePath(p)
	return isSocket(p) || slices.ContainsFunc([]string{"/run/docker.sock", "/var/run/docker.sock", "/run/containerd/containerd.sock"}, func(socket string) bool {
		return within(p, socket)
	})
}

// within reports whether a path is a folder or something in it.
func within(folder, p string) bool {
	return folder == "/" || p == folder || strings.HasPrefix(p, folder+"/")
}
