// Package secretsync keeps the secrets of a Swarm at the versions of the items
// that a project's references name: it plans, creates, and prunes what nobody
// uses any more.
package secretsync

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/moby/moby/api/types/swarm"

	"skep/generator/bundle"
	"skep/generator/stack"
	"skep/secrets"
)

// Mode says how values reach the Swarm.
type Mode string

const (
	// Versioned secrets hold the value of one version of an item.
	Versioned Mode = "versioned"
	// Driver secrets hold no value: a plugin gives it to each task.
	Driver Mode = "driver"
)

// Options are what the cluster file says.
type Options struct {
	Cluster string
	Mode    Mode
	Driver  string // name of the plugin, in mode driver
}

// Kind says what becomes of a secret.
type Kind string

const (
	Create  Kind = "create"
	Replace Kind = "replace" // removed and created under the same name
	Keep    Kind = "keep"
	Used    Kind = "used" // no longer wanted, but something still needs it
	Prune   Kind = "prune"
	Failed  Kind = "failed"
)

// Action is what becomes of one secret, and why.
type Action struct {
	Kind       Kind                `json:"kind"`
	Name       string              `json:"name"`
	Stack      string              `json:"stack"`
	References []secrets.Reference `json:"references,omitempty"`
	Versions   []string            `json:"versions,omitempty"` // of the references' items
	// Replaces is the version that the services use until they are deployed.
	Replaces string   `json:"replaces,omitempty"`
	Users    []string `json:"users,omitempty"`
	Why      string   `json:"why,omitempty"`

	template secrets.Template
	labels   map[string]string
	id       string // in the Swarm, of what is there
}

// Plan is what a sync does.
type Plan struct {
	Actions []Action
	Lock    secrets.Lock // the versions that it locks
	// Dropped are the references that the lock loses: nothing names them.
	Dropped []secrets.Reference
}

// Changes reports whether the Swarm would be changed.
func (p Plan) Changes() bool {
	return slices.ContainsFunc(p.Actions, func(a Action) bool {
		return a.Kind == Create || a.Kind == Replace || a.Kind == Prune
	})
}

// Of returns the actions of some kinds.
func (p Plan) Of(kinds ...Kind) []Action {
	return slices.DeleteFunc(slices.Clone(p.Actions), func(a Action) bool { return !slices.Contains(kinds, a.Kind) })
}

// References are all that a bundle's secrets name, each once, sorted.
func References(wanted []bundle.Secret) []secrets.Reference {
	var out []secrets.Reference
	for _, s := range wanted {
		out = append(out, s.Template.References()...)
	}
	slices.SortFunc(out, secrets.Reference.Compare)
	return slices.Compact(out)
}

// Relock moves a lock to the versions that a source answers. A reference that
// it does not answer stays where it was; one that nobody makes any more goes.
func Relock(old secrets.Lock, answers secrets.Answers) secrets.Lock {
	lock := secrets.Lock{}
	for r, a := range answers {
		switch item, locked := old[r]; {
		case a.Err == nil:
			lock[r] = a.Item
		case locked:
			lock[r] = item
		}
	}
	return lock
}

// dropped are the references of a lock that its successor has not.
func dropped(old, lock secrets.Lock) []secrets.Reference {
	var out []secrets.Reference
	for r := range old {
		if _, ok := lock[r]; !ok {
			out = append(out, r)
		}
	}
	slices.SortFunc(out, secrets.Reference.Compare)
	return out
}

// Live is what a Swarm has.
type Live struct {
	Secrets []swarm.Secret
	// Users are the services that need a secret now, or after a rollback.
	Users map[string][]string

	byName    map[string]*swarm.Secret
	byContent map[string][]*swarm.Secret // versions of one secret
}

// NewLive takes the users of each secret from the services' specifications,
// and from the revisions that mount it.
func NewLive(list []swarm.Secret, services []swarm.Service, revisions map[string][]string) Live {
	live := Live{Secrets: list, Users: map[string][]string{}, byName: map[string]*swarm.Secret{}, byContent: map[string][]*swarm.Secret{}}
	for i := range list {
		s := &list[i]
		live.byName[s.Spec.Name] = s
		content := s.Spec.Labels[secrets.LabelContent]
		live.byContent[content] = append(live.byContent[content], s)
	}
	for name, users := range revisions {
		live.Users[name] = slices.Clone(users)
	}
	add := func(spec *swarm.ServiceSpec, user string) {
		for name := range mounted(spec) {
			live.Users[name] = append(live.Users[name], user)
		}
	}
	for _, s := range services {
		add(&s.Spec, s.Spec.Name)
		add(s.PreviousSpec, s.Spec.Name+" (rollback)")
	}
	for _, users := range live.Users {
		slices.Sort(users)
	}
	return live
}

// mounted are the names of the secrets that a service mounts.
func mounted(spec *swarm.ServiceSpec) map[string]bool {
	out := map[string]bool{}
	if spec != nil && spec.TaskTemplate.ContainerSpec != nil {
		for _, s := range spec.TaskTemplate.ContainerSpec.Secrets {
			out[s.SecretName] = true
		}
	}
	return out
}

// Compare plans. wanted are the bundle's secrets as lock names them, answers
// the versions behind their references. It reads and changes nothing.
func Compare(wanted []bundle.Secret, lock secrets.Lock, answers secrets.Answers, live Live, o Options) Plan {
	plan := Plan{Lock: lock}
	names := namesOf(wanted)
	for _, w := range wanted {
		plan.Actions = append(plan.Actions, compare(w, names, answers, live, o))
	}
	for _, s := range live.Secrets {
		// A preview's go with the preview, which the project does not name.
		if names[s.Spec.Name] || !managed(s, o.Cluster) || s.Spec.Labels[stack.LabelPreview] != "" {
			continue
		}
		a := Action{Kind: Prune, Name: s.Spec.Name, Stack: s.Spec.Labels[secrets.LabelStack], id: s.ID, Users: live.Users[s.Spec.Name], Why: "no service needs it, nor a rollback"}
		if len(a.Users) > 0 {
			a.Kind, a.Why = Used, "a service needs it, or a rollback"
		}
		plan.Actions = append(plan.Actions, a)
	}
	slices.SortStableFunc(plan.Actions, func(a, b Action) int { return strings.Compare(a.Name, b.Name) })
	return plan
}

func namesOf(wanted []bundle.Secret) map[string]bool {
	out := make(map[string]bool, len(wanted))
	for _, w := range wanted {
		out[w.Name] = true
	}
	return out
}

// managed reports whether a secret is ours, of this cluster.
func managed(s swarm.Secret, cluster string) bool {
	return s.Spec.Labels[secrets.LabelReference] != "" && s.Spec.Labels[secrets.LabelCluster] == cluster
}

// compare plans one secret; names are those of all that are wanted.
func compare(w bundle.Secret, names map[string]bool, answers secrets.Answers, live Live, o Options) Action {
	refs := w.Template.References()
	a := Action{
		Name: w.Name, Stack: string(w.Stack), References: refs, Users: live.Users[w.Name],
		template: w.Template, labels: secrets.Labels(w.Template, answers),
	}
	a.labels[secrets.LabelCluster], a.labels[secrets.LabelStack] = o.Cluster, string(w.Stack)
	if w.Preview != "" {
		a.labels[stack.LabelPreview] = w.Preview
	}
	if o.Mode == Driver {
		if _, sole := w.Template.Sole(); !sole {
			a.labels[secrets.LabelTemplate] = w.Template.String()
		}
	}
	for _, r := range refs {
		a.Versions = append(a.Versions, answers[r].Item.Version)
	}
	there := live.byName[w.Name]
	if err := unanswered(refs, answers); err != nil {
		a.Versions = nil
		if there == nil {
			return a.fail("%v", err)
		}
		a.Kind, a.Why = Keep, fmt.Sprintf("as it is: %v", err)
		return a
	}
	if err := fit(w.Template, refs, o); err != nil {
		return a.fail("%v", err)
	}
	if there == nil {
		a.Kind, a.Replaces = Create, live.earlier(w, names, a.labels, o)
		a.Why = "new"
		if a.Replaces != "" {
			a.Why = "the item changed"
		}
		return a
	}
	a.id = there.ID
	why := difference(there.Spec, a.labels, o)
	switch {
	case why == "":
		a.Kind = Keep
	case !managed(*there, o.Cluster):
		return a.fail("a secret of that name is there, and was not made by skep for cluster %s: remove it", o.Cluster)
	case len(a.Users) > 0:
		return a.fail("%s, and the secret is in use: change the item once more, its next version gets a name of its own", why)
	default:
		a.Kind, a.Why = Replace, why
	}
	return a
}

func (a Action) fail(format string, args ...any) Action {
	a.Kind, a.Why = Failed, fmt.Sprintf(format, args...)
	return a
}

func unanswered(refs []secrets.Reference, answers secrets.Answers) error {
	of := secrets.Answers{}
	for _, r := range refs {
		of[r] = answers[r]
	}
	return of.Err()
}

// maxTemplate bounds a label: Swarm sends all of a secret's labels about with
// every list.
const maxTemplate = 64 << 10

func fit(t secrets.Template, refs []secrets.Reference, o Options) error {
	if o.Mode == Driver && len(t.String()) > maxTemplate {
		return fmt.Errorf("the text has more than %d bytes: a driver's secret keeps it in a label", maxTemplate)
	}
	for _, r := range refs {
		if r.Attribute == "otp" && o.Mode != Driver {
			return fmt.Errorf("%s is a one-time password: a secret would keep one that is over after 30 seconds", r)
		}
	}
	return nil
}

// difference is why a secret is not the one that is wanted.
func difference(spec swarm.SecretSpec, labels map[string]string, o Options) string {
	driver := ""
	if spec.Driver != nil {
		driver = spec.Driver.Name
	}
	want := ""
	if o.Mode == Driver {
		want = o.Driver
	}
	switch {
	case spec.Labels[secrets.LabelReference] != labels[secrets.LabelReference]:
		return "it is of another reference"
	case spec.Labels[secrets.LabelContent] != labels[secrets.LabelContent]:
		return "the text changed"
	case spec.Labels[secrets.LabelItem] != labels[secrets.LabelItem]:
		return "the item was replaced by another one"
	case spec.Labels[secrets.LabelVersion] != labels[secrets.LabelVersion]:
		return "it is of another version"
	case driver != want:
		return "the mode changed"
	case !maps.Equal(spec.Labels, labels):
		return "its labels changed"
	}
	return ""
}

// earlier is the other version of a secret that a service which wants it uses.
// What is wanted too is another secret of the same text, not a version of this
// one. Of several the one counts whose name is the nearest.
func (l Live) earlier(w bundle.Secret, wanted map[string]bool, labels map[string]string, o Options) string {
	var out string
	for _, s := range l.byContent[labels[secrets.LabelContent]] {
		name := s.Spec.Name
		if wanted[name] || !managed(*s, o.Cluster) || s.Spec.Labels[secrets.LabelStack] != string(w.Stack) {
			continue
		}
		used := slices.ContainsFunc(w.Services, func(service stack.ServiceName) bool {
			return slices.Contains(l.Users[name], serviceName(w.Stack, service))
		})
		if used && (out == "" || inCommon(name, w.Name) > inCommon(out, w.Name)) {
			out = name
		}
	}
	return out
}

// inCommon is how many bytes two names begin with alike.
func inCommon(a, b string) int {
	n := 0
	for n < min(len(a), len(b)) && a[n] == b[n] {
		n++
	}
	return n
}

// Outdated are the stacks with a service that uses another version of a secret
// than is wanted and there.
func Outdated(wanted []bundle.Secret, live Live, o Options) []stack.Name {
	var out []stack.Name
	names := namesOf(wanted)
	for _, w := range wanted {
		if there := live.byName[w.Name]; there != nil && live.earlier(w, names, there.Spec.Labels, o) != "" {
			out = append(out, w.Stack)
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// serviceName is what Swarm calls a service of a stack.
func serviceName(s stack.Name, service stack.ServiceName) string {
	return string(s) + "_" + string(service)
}
