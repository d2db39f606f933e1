package dispatch

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"skep/secrets"
	"skep/services/controlplane"
)

const lease = 45 * time.Second

// outbox keeps to what Store promises, in memory, by the same rules as the
// table: the oldest delivery that is stored decides when its source is due.
type outbox struct {
	mu         sync.Mutex
	deliveries []*row
	known      map[string]int64
	sources    map[int64]controlplane.Source
	projects   []controlplane.Project
	tasks      map[controlplane.Name]controlplane.Task
	wake       chan struct{}
	away       error
	released   int
}

type row struct {
	controlplane.Delivery
	next time.Time
}

func newOutbox(sources int) *outbox {
	o := &outbox{known: map[string]int64{}, sources: map[int64]controlplane.Source{}, wake: make(chan struct{}, 1)}
	for i := range sources {
		id := int64(i + 1)
		o.sources[id] = controlplane.Source{
			ID: id, Provider: controlplane.GitHub, Name: controlplane.Name(fmt.Sprint("s", id)), Integration: "main",
			Secret: secrets.NewValue([]byte(secret)),
		}
	}
	o.projects = []controlplane.Project{{
		Name: "home", Integration: "main", Provider: controlplane.GitHub, Repository: "acme/cluster", Cluster: "lab", Deploy: controlplane.DeployAlways,
	}}
	return o
}

func (o *outbox) lock() error {
	o.mu.Lock()
	return o.away
}

func (o *outbox) Source(_ context.Context, p controlplane.Provider, n controlplane.Name) (controlplane.Source, error) {
	defer o.mu.Unlock()
	if err := o.lock(); err != nil {
		return controlplane.Source{}, err
	}
	for _, s := range o.sources {
		if s.Provider == p && s.Name == n {
			value, err := s.Secret.Clone()
			s.Secret = value
			return s, err
		}
	}
	return controlplane.Source{}, controlplane.ErrNotFound
}

func (o *outbox) Add(_ context.Context, d controlplane.Delivery) (int64, bool, error) {
	defer o.mu.Unlock()
	if err := o.lock(); err != nil {
		return 0, false, err
	}
	key := fmt.Sprint(d.Source, " ", d.Delivery)
	if id, ok := o.known[key]; ok {
		return id, false, nil
	}
	d.ID = int64(len(o.deliveries) + 1)
	d.State, d.Received = controlplane.DeliveryStored, time.Now()
	o.deliveries = append(o.deliveries, &row{d, time.Now()})
	o.known[key] = d.ID
	select {
	case o.wake <- struct{}{}:
	default:
	}
	return d.ID, true, nil
}

func (o *outbox) Task(_ context.Context, name controlplane.Name) (controlplane.Task, error) {
	defer o.mu.Unlock()
	if err := o.lock(); err != nil {
		return controlplane.Task{}, err
	}
	if t, ok := o.tasks[name]; ok {
		return t, nil
	}
	return controlplane.Task{}, controlplane.ErrNotFound
}

func (o *outbox) Project(_ context.Context, name controlplane.Name) (controlplane.Project, error) {
	defer o.mu.Unlock()
	if err := o.lock(); err != nil {
		return controlplane.Project{}, err
	}
	for _, p := range o.projects {
		if p.Name == name {
			return p, nil
		}
	}
	return controlplane.Project{}, controlplane.ErrNotFound
}

func (o *outbox) Claim(_ context.Context, limit int) ([]controlplane.Delivery, error) {
	defer o.mu.Unlock()
	if err := o.lock(); err != nil {
		return nil, err
	}
	now := time.Now()
	due := map[int64]bool{}
	var out []controlplane.Delivery
	for _, r := range o.deliveries {
		if r.State != controlplane.DeliveryStored {
			continue
		}
		if _, decided := due[r.Source]; !decided {
			due[r.Source] = !r.next.After(now)
		}
		if due[r.Source] && len(out) < limit {
			r.Attempts++
			r.next = now.Add(lease)
			out = append(out, r.Delivery)
		}
	}
	return out, nil
}

func (o *outbox) settle(id int64, f func(*row)) error {
	defer o.mu.Unlock()
	if err := o.lock(); err != nil {
		return err
	}
	r := o.deliveries[id-1]
	if r.State != controlplane.DeliveryStored {
		return controlplane.ErrConflict
	}
	f(r)
	return nil
}

func (o *outbox) Dispatched(_ context.Context, id int64, run controlplane.RunID) error {
	return o.settle(id, func(r *row) { r.State, r.Run = controlplane.DeliveryDispatched, run })
}

func (o *outbox) Ignored(_ context.Context, id int64, reason string) error {
	return o.settle(id, func(r *row) { r.State, r.Error = controlplane.DeliveryIgnored, reason })
}

func (o *outbox) Failed(_ context.Context, id int64, reason string) error {
	return o.settle(id, func(r *row) { r.State, r.Error = controlplane.DeliveryFailed, reason })
}

func (o *outbox) Later(_ context.Context, id int64, delay time.Duration, reason string) error {
	return o.settle(id, func(r *row) { r.next, r.Error = time.Now().Add(delay), reason })
}

func (o *outbox) Release(_ context.Context, ids []int64) error {
	for _, id := range ids {
		err := o.settle(id, func(r *row) {
			r.next = time.Now()
			r.Attempts--
			o.released++
		})
		if err != nil {
			return err
		}
	}
	return nil
}

func (o *outbox) Backlog(context.Context) (n int64, oldest time.Time, err error) {
	defer o.mu.Unlock()
	if err := o.lock(); err != nil {
		return 0, oldest, err
	}
	for _, r := range o.deliveries {
		if r.State == controlplane.DeliveryStored {
			if n == 0 {
				oldest = r.Received
			}
			n++
		}
	}
	return n, oldest, nil
}

func (o *outbox) SourceByID(_ context.Context, id int64) (controlplane.Source, error) {
	defer o.mu.Unlock()
	return o.sources[id], o.lock()
}

func (o *outbox) ProjectsOf(_ context.Context, p controlplane.Provider, r controlplane.Repository) ([]controlplane.Project, error) {
	defer o.mu.Unlock()
	if err := o.lock(); err != nil {
		return nil, err
	}
	var out []controlplane.Project
	for _, project := range o.projects {
		if project.Provider == p && project.Repository == r {
			out = append(out, project)
		}
	}
	return out, nil
}

func (o *outbox) givenBack() int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.released
}

func (o *outbox) setAway(err error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.away = err
}

// push adds a delivery that starts a run.
func (o *outbox) push(t testing.TB, source int64, id string) {
	t.Helper()
	if _, _, err := o.Add(t.Context(), controlplane.Delivery{
		Source: source, Provider: controlplane.GitHub, Event: "push", Delivery: controlplane.DeliveryID(id), Body: []byte(pushBody("acme/cluster")),
	}); err != nil {
		t.Fatal(err)
	}
}

func (o *outbox) row(i int) row {
	o.mu.Lock()
	defer o.mu.Unlock()
	return *o.deliveries[i]
}

func (o *outbox) count(s controlplane.DeliveryState) (n int) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, r := range o.deliveries {
		if r.State == s {
			n++
		}
	}
	return n
}

func pushBody(repository string) string {
	return fmt.Sprintf(`{"ref":"refs/heads/main","before":%q,"after":%q,"deleted":false,"repository":{"id":1,"full_name":%q,"default_branch":"main"},"sender":{"login":"mona"}}`,
		zero, commit, repository)
}

// engine takes each key once, as Hatchet does, and counts how often it was
// asked.
type engine struct {
	mu     sync.Mutex
	taken  []controlplane.Run // in order
	keys   map[string]bool
	asked  int
	answer func(controlplane.Run) error // before it is taken
}

func newEngine() *engine { return &engine{keys: map[string]bool{}} }

func (e *engine) Start(_ context.Context, r controlplane.Run) error {
	e.mu.Lock()
	e.asked++
	answer := e.answer
	e.mu.Unlock()
	if answer != nil {
		if err := answer(r); err != nil {
			return err
		}
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if !e.keys[r.Key] {
		e.keys[r.Key] = true
		e.taken = append(e.taken, r)
	}
	return nil
}

func (e *engine) set(answer func(controlplane.Run) error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.answer = answer
}

func (e *engine) runs() []controlplane.Run {
	e.mu.Lock()
	defer e.mu.Unlock()
	return slices.Clone(e.taken)
}

func (e *engine) calls() int {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.asked
}

// order is which deliveries of a source were started, in that order.
func (e *engine) order(source int64) (out []string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, r := range e.taken {
		var from, n int64
		var rest string
		if _, err := fmt.Sscanf(r.Key, "delivery/%d/%d/%s", &from, &n, &rest); err != nil {
			panic(err)
		}
		if from == source {
			out = append(out, r.Key[len(r.Key)-idLength:])
		}
	}
	return out
}

const idLength = 6

var errEngine = errors.New("connection refused")

// run starts a dispatcher; what it returns ends it and gives its error.
func run(t testing.TB, s Store, e Starter, wake <-chan struct{}) (stop func() error) {
	t.Helper()
	d, err := New(Options{Store: s, Starter: e, Metrics: prometheus.NewRegistry(), Log: slog.New(slog.DiscardHandler), Wake: wake, Poll: 2 * time.Second, Lease: lease})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- d.Run(ctx) }()
	return sync.OnceValue(func() error {
		cancel()
		return <-ended
	})
}
