package check

import (
	"slices"
	"strings"

	"github.com/compose-spec/compose-go/v2/types"

	"skep/generator/problem"
	"skep/generator/stack"
)

var (
	ruleUnpinnedVolume = rule("unpinned-volume", problem.Error, "Data of one node, and a service that may leave it")
	ruleSharedWriter   = rule("shared-writer", problem.Warning, "Several tasks write one local volume")
)

// localMount is a mount of data that one node has.
type localMount struct {
	pos      problem.Position
	what     string
	readOnly bool
}

// localMounts lists the mounts of a service that follow no task to another
// node: named volumes of the local driver and bind mounts. Anonymous volumes
// are new for every task anyway; of relative ones relative-bind speaks.
func localMounts(s *stack.Stack, v *stack.Service) []localMount {
	var out []localMount
	for i, m := range v.Compose.Volumes {
		mount := localMount{pos: v.At("volumes", itoa(i)), readOnly: m.ReadOnly}
		switch {
		case m.Type == types.VolumeTypeBind && !onEveryNode(m) && !slices.Contains(v.Relative, i):
			mount.what = "folder " + m.Source
		case m.Type == types.VolumeTypeVolume && m.Source != "" && isLocalVolume(s.Volumes[m.Source]):
			mount.what = "volume " + m.Source
		default:
			continue
		}
		out = append(out, mount)
	}
	return out
}

// isLocalVolume reports whether a volume's data lies on one node. The local
// driver mounts network file systems too, by its option type.
func isLocalVolume(v types.VolumeConfig) bool {
	if v.Driver != "" && v.Driver != "local" {
		return false
	}
	switch v.DriverOpts["type"] {
	case "", "none", "bind", "btrfs", "ext4", "xfs":
		return true
	}
	return false // nfs, cifs, ...; tmpfs holds nothing to lose
}

// systemPaths are alike on every Linux node, for who reads them.
var systemPaths = []string{
	"/boot", "/dev", "/etc/hostname", "/etc/hosts", "/etc/localtime", "/etc/machine-id", "/etc/os-release", "/etc/passwd", "/etc/group",
	"/etc/resolv.conf", "/etc/ssl", "/etc/timezone", "/lib/modules", "/proc", "/run", "/sys", "/usr/share/zoneinfo", "/var/lib/docker", "/var/log", "/var/run",
}

func onEveryNode(m types.ServiceVolumeConfig) bool {
	source := cleanPath(m.Source)
	if HoldsSocket(source) {
		return true // docker-socket speaks of it
	}
	return m.ReadOnly && slices.ContainsFunc(systemPaths, func(p string) bool { return source == p || strings.HasPrefix(source, p+"/") })
}

func unpinnedVolume(c *stack.Cluster, s *stack.Stack, v *stack.Service) problem.List {
	if isGlobal(v) || len(c.Nodes) == 1 || isPinned(v) {
		return nil
	}
	var found problem.List
	for _, m := range localMounts(s, v) {
		p := ruleUnpinnedVolume.At(m.pos, "%s lies on one node, and %s may start on another without it", m.what, v.Ref.Service)
		found = append(found, p.WithRemedy("`x-pin: node1`, or `x-pin: {label: disk=ssd}`; waive it where the data is on shared storage").About(v.Ref))
	}
	return found
}

// isPinned reports whether the service is bound to nodes by name or label; a
// role is no place.
func isPinned(v *stack.Service) bool {
	names := func(constraint string) bool {
		return strings.HasPrefix(constraint, "node.hostname") || strings.HasPrefix(constraint, "node.id") ||
			strings.HasPrefix(constraint, "node.labels.") || strings.HasPrefix(constraint, "engine.labels.")
	}
	if slices.ContainsFunc(v.Pin, names) {
		return true
	}
	d := v.Compose.Deploy
	return d != nil && slices.ContainsFunc(d.Placement.Constraints, func(constraint string) bool {
		return names(strings.TrimSpace(constraint)) && strings.Contains(constraint, "==")
	})
}

func sharedWriter(_ *stack.Cluster, s *stack.Stack, v *stack.Service) problem.List {
	n := replicas(v)
	if n < 2 || isJob(v) {
		return nil
	}
	var found problem.List
	for _, m := range localMounts(s, v) {
		if m.readOnly {
			continue
		}
		p := ruleSharedWriter.At(m.pos, "%d tasks of %s write %s: together where they share a node, each its own where they do not", n, v.Ref.Service, m.what)
		found = append(found, p.WithRemedy("run one replica, or keep the data in a database or on shared storage").About(v.Ref))
	}
	return found
}

func replicas(v *stack.Service) int {
	if d := v.Compose.Deploy; d != nil && d.Replicas != nil {
		return *d.Replicas
	}
	if v.Compose.Scale != nil {
		return *v.Compose.Scale
	}
	return 1
}
