package deploy

import (
	"bufio"
	"cmp"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/moby/moby/api/types/swarm"

	"skep/generator/problem"
	"skep/generator/stack"
)

// Status is how a Swarm does, by stack.
type Status struct {
	Stacks []StackStatus `json:"stacks"`
}

// StackStatus is how one stack does.
type StackStatus struct {
	Stack    stack.Name      `json:"stack"`
	Revision int             `json:"revision,omitempty"` // 0: not deployed by Skep
	State    State           `json:"state,omitempty"`    // of the newest revision
	Services []ServiceStatus `json:"services"`
	// Hosts are known once somebody looked.
	Hosts []HostStatus `json:"hosts,omitempty"`
}

// HostStatus is what people see who open a host.
type HostStatus struct {
	Host      string   `json:"host"`
	Addresses []string `json:"addresses,omitempty"`
	DNS       string   `json:"dns,omitempty"` // why it has no address
	// Expires is the end of the certificate; zero when nobody saw it.
	Expires     time.Time `json:"expires,omitzero"`
	Certificate string    `json:"certificate,omitempty"` // what is wrong with it
}

func (h HostStatus) line(paint problem.Paint) string {
	line := h.Host
	switch {
	case h.DNS != "":
		return line + "\t" + paint.Yellow("no address: "+problem.Printable(h.DNS))
	case len(h.Addresses) > 0:
		line += "\t" + problem.Printable(strings.Join(h.Addresses, " "))
	}
	if !h.Expires.IsZero() {
		line += "\tcertificate until " + h.Expires.Format(time.DateOnly)
	}
	if h.Certificate != "" {
		line += "\t" + paint.Yellow(problem.Printable(h.Certificate))
	}
	return line
}

// ServiceStatus is how one service does.
type ServiceStatus struct {
	Service string `json:"service"`
	Mode    string `json:"mode"`
	Image   string `json:"image"`
	Running int    `json:"running"` // of a job: completed
	Want    int    `json:"want"`
	Healthy bool   `json:"healthy"`
	Detail  string `json:"detail,omitempty"`
	// Drift says that it is not what the last deploy asked for.
	Drift bool         `json:"drift,omitempty"`
	Hosts []string     `json:"hosts,omitempty"` // that the ingress serves
	Tasks []TaskStatus `json:"tasks"`
}

// TaskStatus is a task that runs, or the one that failed last.
type TaskStatus struct {
	Task  string `json:"task"`
	Node  string `json:"node,omitempty"`
	State string `json:"state"`
	Error string `json:"error,omitempty"`
}

// StatusOf summarizes the live state; of some stacks, or all when none is named.
func StatusOf(live Live, only ...stack.Name) Status {
	byStack := map[stack.Name][]ServiceStatus{}
	names, nodes := live.networkNames(), live.nodeNames()
	byService := map[string][]swarm.Task{}
	for _, t := range live.Tasks {
		byService[t.ServiceID] = append(byService[t.ServiceID], t)
	}
	for _, s := range live.Services {
		name := stack.Name(s.Spec.Labels[labelNamespace])
		if name == "" || (len(only) > 0 && !slices.Contains(only, name)) {
			continue
		}
		byStack[name] = append(byStack[name], serviceStatus(s, byService[s.ID], names, nodes))
	}
	history := revisions(live)
	out := Status{Stacks: []StackStatus{}}
	for name, services := range byStack {
		slices.SortFunc(services, func(a, b ServiceStatus) int { return cmp.Compare(a.Service, b.Service) })
		status := StackStatus{Stack: name, Services: services}
		if r, ok := deployed(history[name]); ok {
			status.Revision = r.Number
		}
		if list := history[name]; len(list) > 0 {
			status.State = list[len(list)-1].State
		}
		out.Stacks = append(out.Stacks, status)
	}
	slices.SortFunc(out.Stacks, func(a, b StackStatus) int { return cmp.Compare(a.Stack, b.Stack) })
	return out
}

// TakeHosts takes over what was seen of the hosts before.
func (s *Status) TakeHosts(before Status) {
	for i := range s.Stacks {
		if old, ok := find(before.Stacks, func(o *StackStatus) bool { return o.Stack == s.Stacks[i].Stack }); ok {
			s.Stacks[i].Hosts = old.Hosts
		}
	}
}

func serviceStatus(s swarm.Service, tasks []swarm.Task, networks, nodes map[string]string) ServiceStatus {
	p := assess(sighting{service: s, tasks: tasks, exists: true}.settled())
	out := ServiceStatus{
		Service: s.Spec.Name, Mode: modeName(s.Spec.Mode), Running: p.Running, Want: p.Want, Detail: p.Detail,
		Healthy: p.Phase == PhaseRunning || p.Phase == PhaseDone, Hosts: hostsOf(s.Spec.Labels), Tasks: []TaskStatus{},
	}
	if isJob(s.Spec.Mode) && len(current(s, tasks)) == 0 {
		out.Healthy, out.Running = true, out.Want // Swarm forgot its tasks
	}
	if c := s.Spec.TaskTemplate.ContainerSpec; c != nil {
		out.Image = c.Image
	}
	if asked := s.Spec.Labels[LabelHash]; asked != "" {
		out.Drift = asked != hash(canonical(s.Spec, networks))
	}
	for _, t := range tasks {
		if !ended(t.Status.State) {
			out.Tasks = append(out.Tasks, taskStatus(s, t, nodes))
		}
	}
	if !out.Healthy {
		if t := cmp.Or(p.task, newest(ends(tasks))); t != nil {
			out.Tasks = append(out.Tasks, taskStatus(s, *t, nodes))
		}
	}
	slices.SortFunc(out.Tasks, func(a, b TaskStatus) int { return cmp.Compare(a.Task, b.Task) })
	return out
}

func taskStatus(s swarm.Service, t swarm.Task, nodes map[string]string) TaskStatus {
	return TaskStatus{Task: taskName(s.Spec.Name, t), Node: nodes[t.NodeID], State: string(t.Status.State), Error: t.Status.Err}
}

// hostsOf reads the hosts off the labels that the ingress reads: `caddy` and
// `caddy_1` name a site each.
func hostsOf(labels map[string]string) []string {
	var out []string
	for key, value := range labels {
		if key == "caddy" || (strings.HasPrefix(key, "caddy_") && !strings.Contains(key, ".")) {
			out = append(out, strings.FieldsFunc(value, func(r rune) bool { return r == ' ' || r == ',' })...)
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// WriteText writes the status for people; with tasks, theirs as well.
func (s Status) WriteText(w io.Writer, paint problem.Paint, tasks bool) error {
	out := bufio.NewWriter(w)
	for _, st := range s.Stacks {
		title := "stack " + string(st.Stack)
		switch {
		case st.Revision == 0 && st.State == "":
			title += ", not deployed by skep"
		case st.State == StateDeployed:
			title += fmt.Sprintf(", revision %d", st.Revision)
		default:
			title += fmt.Sprintf(", revision %d, the last deploy is %s", st.Revision, st.State)
		}
		fmt.Fprintln(out, paint.Bold(title))
		table := tabwriter.NewWriter(out, 0, 4, 2, ' ', 0)
		for _, service := range st.Services {
			state := "ok"
			if !service.Healthy {
				state = "NOT UP"
			}
			if service.Drift {
				state += ", changed by hand"
			}
			fmt.Fprintf(table, "  %s\t%s\t%d/%d\t%s\t%s\t%s\n", service.Service, state, service.Running, service.Want,
				problem.Printable(service.Image), strings.Join(service.Hosts, " "), problem.Printable(service.Detail))
			for _, t := range service.Tasks {
				if tasks || t.Error != "" {
					fmt.Fprintf(table, "    %s\t%s\t\t%s\t\t%s\n", t.Task, t.State, t.Node, problem.Printable(t.Error))
				}
			}
		}
		if err := table.Flush(); err != nil {
			return err
		}
		hosts := tabwriter.NewWriter(out, 0, 4, 2, ' ', 0)
		for _, h := range st.Hosts {
			fmt.Fprintf(hosts, "  %s\n", h.line(paint))
		}
		if err := hosts.Flush(); err != nil {
			return err
		}
	}
	if len(s.Stacks) == 0 {
		fmt.Fprintln(out, "There is no stack.")
	}
	return out.Flush()
}

// ServicesOf are the services of a stack, or those of them that are named, in
// short or in full.
func ServicesOf(services []swarm.Service, name string, only ...string) []swarm.Service {
	var out []swarm.Service
	for _, s := range services {
		short := strings.TrimPrefix(s.Spec.Name, name+"_")
		if s.Spec.Labels[labelNamespace] == name && (len(only) == 0 || slices.Contains(only, short) || slices.Contains(only, s.Spec.Name)) {
			out = append(out, s)
		}
	}
	slices.SortFunc(out, func(a, b swarm.Service) int { return cmp.Compare(a.Spec.Name, b.Spec.Name) })
	return out
}
