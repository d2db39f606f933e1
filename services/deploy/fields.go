package deploy

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/docker/go-units"
	"github.com/moby/moby/api/types/swarm"
)

// Field is one setting of an object that differs.
type Field struct {
	Path string `json:"path"` // in Compose's words where it has one
	Old  string `json:"old,omitempty"`
	New  string `json:"new,omitempty"`
	// Restarts says that tasks are replaced for it.
	Restarts bool `json:"restarts,omitempty"`
	// Drift says that the bundle did not change here: somebody did by hand.
	Drift bool `json:"drift,omitempty"`
}

// leaf is one setting; its path is the API's.
type leaf struct {
	path, value string
	restarts    bool
}

// flatten lists the settings of a canonical spec, by path. What is empty is
// left out, for the engine says it in several ways; what is false or zero and
// means something else than nothing was made a pointer by the API, and stays.
func flatten(spec swarm.ServiceSpec) []leaf {
	data, err := json.Marshal(spec)
	if err != nil {
		panic(err) // plain data: cannot fail
	}
	var tree map[string]any
	decoder := json.NewDecoder(strings.NewReader(string(data)))
	decoder.UseNumber()
	if err := decoder.Decode(&tree); err != nil {
		panic(err)
	}
	f := flattener{pointers: map[string]bool{
		"TaskTemplate.ContainerSpec.Init": spec.TaskTemplate.ContainerSpec != nil && spec.TaskTemplate.ContainerSpec.Init != nil,
		"Mode.Replicated.Replicas":        true, "UpdateConfig.Parallelism": true, "RollbackConfig.Parallelism": true,
		"TaskTemplate.RestartPolicy.Delay": true, "TaskTemplate.ContainerSpec.StopGracePeriod": true,
	}}
	f.walk("", tree)
	if spec.Mode.Global != nil {
		f.add("Mode", "global")
	}
	if spec.Mode.GlobalJob != nil {
		f.add("Mode", "global-job")
	}
	slices.SortFunc(f.leaves, func(a, b leaf) int { return strings.Compare(a.path, b.path) })
	return f.leaves
}

type flattener struct {
	leaves   []leaf
	pointers map[string]bool // paths whose zero is a value
}

func (f *flattener) add(path, value string) {
	f.leaves = append(f.leaves, leaf{path, value, restarts(path)})
}

func (f *flattener) walk(path string, v any) {
	switch v := v.(type) {
	case map[string]any:
		for _, key := range slices.Sorted(maps.Keys(v)) {
			f.walk(join(path, key), v[key])
		}
	case []any:
		f.list(path, v)
	case json.Number:
		if v != "0" || f.pointers[path] {
			f.add(path, number(path, v))
		}
	case bool:
		if v || f.pointers[path] {
			f.add(path, strconv.FormatBool(v))
		}
	case string:
		if v != "" || strings.HasSuffix(path, "]") { // an entry of a map may be empty
			f.add(path, v)
		}
	}
}

// identities say by what the entries of a list are known.
var identities = map[string]func(map[string]any) string{
	"TaskTemplate.ContainerSpec.Mounts":  func(m map[string]any) string { return text(m["Target"]) },
	"TaskTemplate.ContainerSpec.Secrets": fileName,
	"TaskTemplate.ContainerSpec.Configs": fileName,
	"TaskTemplate.ContainerSpec.Ulimits": func(m map[string]any) string { return text(m["Name"]) },
	"TaskTemplate.Networks":              func(m map[string]any) string { return text(m["Target"]) },
	"EndpointSpec.Ports": func(m map[string]any) string {
		return fmt.Sprintf("%v/%v to %v", m["PublishedPort"], text(m["Protocol"]), m["TargetPort"])
	},
}

func fileName(m map[string]any) string {
	file, _ := m["File"].(map[string]any)
	return text(file["Name"])
}

func text(v any) string {
	s, _ := v.(string)
	return s
}

func (f *flattener) list(path string, list []any) {
	if len(list) == 0 {
		return
	}
	switch path {
	case "TaskTemplate.ContainerSpec.Env":
		for _, v := range list {
			name, value, _ := strings.Cut(text(v), "=")
			f.add(path+"["+name+"]", value)
		}
		return
	case "TaskTemplate.Placement.Constraints", "TaskTemplate.ContainerSpec.CapabilityAdd", "TaskTemplate.ContainerSpec.CapabilityDrop":
		for _, v := range list {
			f.add(path+"["+text(v)+"]", text(v))
		}
		return
	}
	if identity, ok := identities[path]; ok {
		for _, v := range list {
			m, _ := v.(map[string]any)
			id := path + "[" + identity(m) + "]"
			before := len(f.leaves)
			f.walk(id, v)
			if len(f.leaves) == before {
				f.add(id, "")
			}
		}
		return
	}
	data, err := json.Marshal(list)
	if err != nil {
		panic(err)
	}
	f.add(path, string(data))
}

func join(path, key string) string {
	switch {
	case path == "":
		return key
	case path == "Labels" || strings.HasSuffix(path, ".Labels") || strings.HasSuffix(path, ".Options") ||
		strings.HasSuffix(path, ".DriverOpts") || strings.HasSuffix(path, ".Sysctls"):
		return path + "[" + key + "]"
	}
	return path + "." + key
}

// number writes durations and sizes as people do.
func number(path string, n json.Number) string {
	v, err := n.Int64()
	if err != nil {
		return n.String()
	}
	name := path[strings.LastIndex(path, ".")+1:]
	switch name {
	case "Delay", "Monitor", "Window", "Interval", "Timeout", "StartPeriod", "StartInterval", "StopGracePeriod":
		return time.Duration(v).String()
	case "MemoryBytes", "SizeBytes":
		return units.BytesSize(float64(v))
	case "NanoCPUs":
		return strconv.FormatFloat(float64(v)/1e9, 'f', -1, 64)
	case "Mode":
		return "0" + strconv.FormatInt(v, 8)
	}
	return n.String()
}

// restarts reports whether SwarmKit replaces tasks when a setting changes: it
// compares the task's template and the endpoint; constraints that the node of
// a task still meets keep the task.
func restarts(path string) bool {
	return (strings.HasPrefix(path, "TaskTemplate.") && !strings.HasPrefix(path, "TaskTemplate.Placement.")) ||
		strings.HasPrefix(path, "EndpointSpec.")
}

// compose are Compose's names of the API's settings, the longest first.
var compose = func() [][2]string {
	list := [][2]string{
		{"Labels[", "deploy.labels["}, {"Mode.Replicated.Replicas", "deploy.replicas"}, {"Mode.ReplicatedJob.TotalCompletions", "deploy.replicas"}, {"Mode", "deploy.mode"},
		{"UpdateConfig.", "deploy.update_config."}, {"RollbackConfig.", "deploy.rollback_config."},
		{"EndpointSpec.Mode", "deploy.endpoint_mode"}, {"EndpointSpec.Ports", "ports"},
		{"TaskTemplate.Networks", "networks"}, {"TaskTemplate.LogDriver.Name", "logging.driver"}, {"TaskTemplate.LogDriver.Options", "logging.options"},
		{"TaskTemplate.RestartPolicy.", "deploy.restart_policy."}, {"TaskTemplate.Placement.", "deploy.placement."}, {"TaskTemplate.Resources.", "deploy.resources."},
		{"TaskTemplate.ContainerSpec.Image", "image"}, {"TaskTemplate.ContainerSpec.Args", "command"}, {"TaskTemplate.ContainerSpec.Command", "entrypoint"},
		{"TaskTemplate.ContainerSpec.Env", "environment"}, {"TaskTemplate.ContainerSpec.Labels", "labels"}, {"TaskTemplate.ContainerSpec.Dir", "working_dir"},
		{"TaskTemplate.ContainerSpec.Hosts", "extra_hosts"}, {"TaskTemplate.ContainerSpec.DNSConfig.Nameservers", "dns"}, {"TaskTemplate.ContainerSpec.DNSConfig.Search", "dns_search"},
		{"TaskTemplate.ContainerSpec.CapabilityAdd", "cap_add"}, {"TaskTemplate.ContainerSpec.CapabilityDrop", "cap_drop"}, {"TaskTemplate.ContainerSpec.Mounts", "volumes"},
		{"TaskTemplate.ContainerSpec.", ""},
	}
	slices.SortFunc(list, func(a, b [2]string) int { return len(b[0]) - len(a[0]) })
	return list
}()

// composePath says a path of the API in Compose's words.
func composePath(path string) string {
	for _, name := range compose {
		if rest, ok := strings.CutPrefix(path, name[0]); ok {
			return name[1] + snake(rest)
		}
	}
	return snake(path)
}

// snake turns CamelCase into snake_case outside brackets.
func snake(s string) string {
	var out strings.Builder
	depth := 0
	for i, r := range s {
		switch {
		case r == '[':
			depth++
		case r == ']':
			depth--
		case depth == 0 && r >= 'A' && r <= 'Z':
			if i > 0 && s[i-1] >= 'a' && s[i-1] <= 'z' {
				out.WriteByte('_')
			}
			r += 'a' - 'A'
		}
		out.WriteRune(r)
	}
	return out.String()
}

// compareSpecs lists what differs between two canonical specs. base is what the
// last deploy asked for, nil when nobody knows.
func compareSpecs(live, wanted swarm.ServiceSpec, base *swarm.ServiceSpec) []Field {
	old, now := index(flatten(live)), index(flatten(wanted))
	var before map[string]leaf
	if base != nil {
		before = index(flatten(*base))
	}
	paths := map[string]bool{}
	for path := range old {
		paths[path] = true
	}
	for path := range now {
		paths[path] = true
	}
	var out []Field
	for _, path := range slices.Sorted(maps.Keys(paths)) {
		a, was := old[path]
		b, is := now[path]
		if was == is && a.value == b.value {
			continue
		}
		f := Field{Path: composePath(path), Old: shown(path, a.value, was), New: shown(path, b.value, is), Restarts: a.restarts || b.restarts}
		if base != nil {
			c, known := before[path]
			f.Drift = known == is && c.value == b.value
		}
		out = append(out, f)
	}
	return out
}

func index(leaves []leaf) map[string]leaf {
	out := make(map[string]leaf, len(leaves))
	for _, l := range leaves {
		out[l.path] = l
	}
	return out
}
