package secretsync

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/swarm"

	"skep/generator/bundle"
	"skep/generator/stack"
	"skep/secrets"
)

// shelf is a source in memory: "op://v/i/f" -> value, items versioned.
type shelf struct {
	mu       sync.Mutex
	fields   map[string]string
	versions map[string]int // by item, 1 when not there
	ids      map[string]string
	down     error
	moves    bool // the item changes before it is read
	reads    int
}

func (s *shelf) answer(refs []secrets.Reference, values bool) secrets.Answers {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.down != nil {
		return secrets.Fail(refs, s.down)
	}
	out := secrets.Answers{}
	for _, r := range refs {
		value, ok := s.fields[r.String()]
		if !ok {
			out[r] = secrets.Answer{Err: &secrets.NotFoundError{What: "field", Name: r.Field}}
			continue
		}
		a := secrets.Answer{Item: secrets.Item{ID: s.ids[r.Item] + r.Item, Version: fmt.Sprint(max(1, s.versions[r.Item]))}}
		if values {
			a.Value = secrets.NewValue([]byte(value))
		}
		out[r] = a
	}
	return out
}

func (s *shelf) Versions(_ context.Context, refs []secrets.Reference) secrets.Answers {
	return s.answer(refs, false)
}

func (s *shelf) Read(_ context.Context, refs []secrets.Reference) secrets.Answers {
	s.reads++
	if s.moves {
		for item := range s.versions {
			s.versions[item]++
		}
	}
	return s.answer(refs, true)
}

// engine is a Swarm in memory.
type engine struct {
	mu       sync.Mutex
	secrets  map[string]swarm.Secret // by id
	services []swarm.Service
	next     int
	history  map[string][]string
	fail     func(call string) error
	lose     bool // create, and lose the reply
}

func (e *engine) failing(call string) error {
	if e.fail != nil {
		return e.fail(call)
	}
	return nil
}

func (e *engine) Secrets(context.Context) ([]swarm.Secret, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	var out []swarm.Secret
	for _, id := range slices.Sorted(maps.Keys(e.secrets)) {
		s := e.secrets[id]
		s.Spec.Data = nil
		out = append(out, s)
	}
	return out, e.failing("list")
}

func (e *engine) Services(context.Context) ([]swarm.Service, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	return slices.Clone(e.services), e.failing("services")
}

func (e *engine) Revisions(context.Context) (map[string][]string, error) {
	return e.history, e.failing("revisions")
}

func (e *engine) CreateSecret(_ context.Context, spec swarm.SecretSpec) (string, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if err := e.failing("create " + spec.Name); err != nil {
		return "", err
	}
	for _, s := range e.secrets {
		if s.Spec.Name == spec.Name {
			return "", errdefs.ErrAlreadyExists
		}
	}
	if (spec.Driver == nil) != (len(spec.Data) > 0) {
		return "", errdefs.ErrInvalidArgument
	}
	e.next++
	id := fmt.Sprintf("id%03d", e.next)
	spec.Data = bytes.Clone(spec.Data)
	e.secrets[id] = swarm.Secret{ID: id, Spec: spec}
	if e.lose {
		e.lose = false
		return "", errdefs.ErrUnavailable
	}
	return id, nil
}

func (e *engine) RemoveSecret(_ context.Context, id string) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if err := e.failing("remove"); err != nil {
		return err
	}
	name := e.secrets[id].Spec.Name
	for _, s := range e.services {
		if mounted(&s.Spec)[name] {
			return errdefs.ErrFailedPrecondition
		}
	}
	delete(e.secrets, id)
	return nil
}

// values are the secrets by name.
func (e *engine) values() map[string]string {
	out := map[string]string{}
	for _, s := range e.secrets {
		out[s.Spec.Name] = string(s.Spec.Data)
	}
	return out
}

// use makes a service mount secrets; what it mounted is its rollback target.
func (e *engine) use(service string, names ...string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	spec := swarm.ServiceSpec{Annotations: swarm.Annotations{Name: service}, TaskTemplate: swarm.TaskSpec{ContainerSpec: &swarm.ContainerSpec{}}}
	for _, n := range names {
		spec.TaskTemplate.ContainerSpec.Secrets = append(spec.TaskTemplate.ContainerSpec.Secrets, &swarm.SecretReference{SecretName: n})
	}
	for i := range e.services {
		if e.services[i].Spec.Name == service {
			old := e.services[i].Spec
			e.services[i] = swarm.Service{Spec: spec, PreviousSpec: &old}
			return
		}
	}
	e.services = append(e.services, swarm.Service{Spec: spec})
}

// project has secrets "stack/name: template", used by the service app.
type project struct {
	templates map[string]string
	lock      secrets.Lock
	saved     int
	full      error // what SaveLock answers
	saving    func() error
}

func (p *project) Lock() secrets.Lock { return p.lock }

func (p *project) SaveLock(l secrets.Lock) error {
	p.saved++
	if p.saving != nil {
		if err := p.saving(); err != nil {
			return err
		}
	}
	if p.full == nil {
		p.lock = l
	}
	return p.full
}

func (p *project) Secrets(lock secrets.Lock) ([]bundle.Secret, error) {
	var out []bundle.Secret
	for _, key := range slices.Sorted(maps.Keys(p.templates)) {
		s, name, _ := strings.Cut(key, "/")
		t, err := secrets.ParseTemplate(p.templates[key])
		if err != nil {
			return nil, err
		}
		version := ""
		for _, r := range t.References() {
			version += lock[r]
		}
		out = append(out, bundle.Secret{Name: secrets.SecretName(s, name, version), Stack: stack.Name(s), Template: t, Services: []stack.ServiceName{"app"}})
	}
	return out, nil
}

type world struct {
	*shelf
	*engine
	*project
	*Syncer
}

func newWorld(mode Mode) *world {
	w := &world{
		shelf:   &shelf{fields: map[string]string{"op://v/db/password": "pa55", "op://v/api/token": "t0ken"}, versions: map[string]int{"db": 3}, ids: map[string]string{}},
		engine:  &engine{secrets: map[string]swarm.Secret{}},
		project: &project{templates: map[string]string{"one/db": "op://v/db/password", "two/url": "db:{{ op://v/db/password }}", "two/api": "op://v/api/token"}},
	}
	w.Syncer = &Syncer{Source: w.shelf, Swarm: w.engine, Options: Options{Cluster: "test", Mode: mode, Driver: "skep"}}
	return w
}

func (w *world) sync(t *testing.T) Plan {
	t.Helper()
	plan, err := w.Syncer.Plan(t.Context(), w.project)
	if err != nil {
		t.Fatal(err)
	}
	done, err := w.Apply(t.Context(), w.project, plan, true)
	if err != nil {
		t.Fatal(err)
	}
	return done
}

// says is the plan as lines "kind name".
func says(p Plan) string {
	var out []string
	for _, a := range p.Actions {
		out = append(out, string(a.Kind)+" "+a.Name)
	}
	return strings.Join(out, ", ")
}

func expect(t *testing.T, what, got, want string) {
	t.Helper()
	if got != want {
		t.Errorf("%s\n got %s\nwant %s", what, got, want)
	}
}

func TestSyncAndRotate(t *testing.T) {
	w := newWorld(Versioned)
	expect(t, "first", says(w.sync(t)), "create one_db_v3, create two_api_v1, create two_url_v3")
	if got := w.values(); got["one_db_v3"] != "pa55" || got["two_url_v3"] != "db:pa55" || got["two_api_v1"] != "t0ken" {
		t.Errorf("values are %v", got)
	}
	live, _ := w.engine.Secrets(t.Context())
	for _, s := range live {
		if l := s.Spec.Labels; s.Spec.Name == "one_db_v3" && (l[secrets.LabelReference] != "op://v/db/password" || l[secrets.LabelItem] != "db" || l[secrets.LabelVersion] != "3" || l[secrets.LabelStack] != "one") {
			t.Errorf("labels are %v", l)
		}
		for k, v := range s.Spec.Labels {
			if strings.Contains(v, "pa55") || strings.Contains(v, "t0ken") {
				t.Errorf("label %s holds a value", k)
			}
		}
	}

	// Again: nothing, and no value is read.
	reads, saved := w.reads, w.saved
	done := w.sync(t)
	expect(t, "again", says(done), "keep one_db_v3, keep two_api_v1, keep two_url_v3")
	if done.Changes() || w.reads != reads || w.saved != saved {
		t.Errorf("an unchanged sync changes: %t, reads %d, saves %d", done.Changes(), w.reads-reads, w.saved-saved)
	}

	// Rotation: the old version stays while it, or a rollback, is used.
	w.use("one_app", "one_db_v3")
	w.use("two_app", "two_api_v1", "two_url_v3")
	w.edit("op://v/db/password", "new", "db", 4)
	done = w.sync(t)
	expect(t, "rotation", says(done), "used one_db_v3, create one_db_v4, keep two_api_v1, used two_url_v3, create two_url_v4")
	if a := done.Of(Create)[0]; a.Replaces != "one_db_v3" || a.Why != "the item changed" {
		t.Errorf("the rotation is %+v", a)
	}
	wanted, _ := w.project.Secrets(w.lock)
	live2, err := w.live(t.Context())
	if got := Outdated(wanted, live2, w.Options); err != nil || !slices.Equal(got, []stack.Name{"one", "two"}) {
		t.Errorf("outdated: %v, %v", got, err)
	}
	w.use("one_app", "one_db_v4")
	w.use("two_app", "two_api_v1", "two_url_v4")
	expect(t, "deployed", says(w.sync(t)), "used one_db_v3, keep one_db_v4, keep two_api_v1, used two_url_v3, keep two_url_v4")
	w.use("one_app", "one_db_v4") // deployed again: v3 is no target of Swarm's rollback any more
	w.history = map[string][]string{"one_db_v3": {"one, revision 1"}}
	done = w.sync(t)
	expect(t, "a revision", says(done), "used one_db_v3, keep one_db_v4, keep two_api_v1, used two_url_v3, keep two_url_v4")
	if got := done.Of(Used)[0].Users; !slices.Equal(got, []string{"one, revision 1"}) {
		t.Errorf("used by %q", got)
	}
	w.history = nil
	expect(t, "later", says(w.sync(t)), "prune one_db_v3, keep one_db_v4, keep two_api_v1, used two_url_v3, keep two_url_v4")
	if _, ok := w.values()["one_db_v3"]; ok {
		t.Error("one_db_v3 is still there")
	}
}

// edit changes a value and its item's version.
func (w *world) edit(ref, value, item string, version int) {
	w.shelf.mu.Lock()
	defer w.shelf.mu.Unlock()
	w.shelf.fields[ref], w.versions[item] = value, version
}

func TestSourceDownStopsNothing(t *testing.T) {
	w := newWorld(Versioned)
	w.sync(t)
	lock := maps.Clone(w.lock)
	w.down = fmt.Errorf("%w: gone", secrets.ErrUnavailable)
	done := w.sync(t)
	expect(t, "down", says(done), "keep one_db_v3, keep two_api_v1, keep two_url_v3")
	if !strings.Contains(done.Actions[0].Why, "source unavailable: gone") || !maps.Equal(lock, w.lock) {
		t.Errorf("why %q, lock %v", done.Actions[0].Why, w.lock)
	}
	w.templates["one/new"] = "op://v/api/token"
	w.templates["one/other"] = "op://v/none/such"
	expect(t, "down, and more is wanted", says(w.sync(t)), "keep one_db_v3, failed one_new_v1, failed one_other, keep two_api_v1, keep two_url_v3")
}

func TestOneFailureKeepsTheOthers(t *testing.T) {
	w := newWorld(Versioned)
	w.templates["one/missing"] = "op://v/db/pasword"
	w.shelf.fields["op://v/empty/f"] = ""
	w.templates["one/empty"] = "op://v/empty/f"
	w.shelf.fields["op://v/big/f"] = strings.Repeat("x", maxSecret)
	w.templates["one/big"] = "op://v/big/f"
	w.templates["one/otp"] = "op://v/db/one-time password?attribute=otp"
	w.shelf.fields["op://v/db/one-time password?attribute=otp"] = "123456"
	done := w.sync(t)
	expect(t, "some fail", says(done), "failed one_big_v1, create one_db_v3, failed one_empty_v1, failed one_missing, failed one_otp_v3, create two_api_v1, create two_url_v3")
	for i, want := range map[int]string{0: "takes less than 512000", 2: "takes no empty secret", 3: `there is no field "pasword"`, 4: "one-time password"} {
		if !strings.Contains(done.Actions[i].Why, want) {
			t.Errorf("%s: %s; want %q", done.Actions[i].Name, done.Actions[i].Why, want)
		}
	}
	for _, r := range []string{"op://v/empty/f", "op://v/big/f"} {
		ref, _ := secrets.ParseReference(r)
		if v, ok := w.lock[ref]; ok {
			t.Errorf("%s is locked to %s", r, v)
		}
	}
}

func TestFailedCreateKeepsTheOldVersion(t *testing.T) {
	w := newWorld(Versioned)
	w.sync(t)
	lock := maps.Clone(w.lock)
	w.edit("op://v/db/password", "new", "db", 4)
	w.engine.fail = func(call string) error {
		if call == "create one_db_v4" {
			return errdefs.ErrInvalidArgument
		}
		return nil
	}
	expect(t, "failed", says(w.sync(t)), "used one_db_v3, failed one_db_v4, keep two_api_v1, used two_url_v3, create two_url_v4")
	if !maps.Equal(lock, w.lock) {
		t.Errorf("the lock moved to %v", w.lock)
	}
	w.engine.fail = nil
	expect(t, "again", says(w.sync(t)), "prune one_db_v3, create one_db_v4, keep two_api_v1, prune two_url_v3, keep two_url_v4")
}

func TestItemMovesWhileItIsRead(t *testing.T) {
	w := newWorld(Versioned)
	w.moves = true
	done := w.sync(t)
	expect(t, "moved", says(done), "failed one_db_v3, create two_api_v1, failed two_url_v3")
	if !strings.Contains(done.Actions[0].Why, ErrMoved.Error()) {
		t.Errorf("why %q", done.Actions[0].Why)
	}
}

func TestLostReplyIsNoSecondSecret(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(Versioned)
		w.lose = true
		expect(t, "lost", says(w.sync(t)), "create one_db_v3, create two_api_v1, create two_url_v3")
		if len(w.engine.secrets) != 3 {
			t.Errorf("%d secrets", len(w.engine.secrets))
		}
	})
}

func TestLeaderlessSwarmIsWaitedFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(Versioned)
		back := time.Now().Add(30 * time.Second)
		w.engine.fail = func(string) error {
			if time.Now().Before(back) {
				return errdefs.ErrUnavailable
			}
			return nil
		}
		expect(t, "waited", says(w.sync(t)), "create one_db_v3, create two_api_v1, create two_url_v3")
	})
}

func TestNameIsTaken(t *testing.T) {
	w := newWorld(Versioned)
	w.secrets["x"] = swarm.Secret{ID: "x", Spec: swarm.SecretSpec{Annotations: swarm.Annotations{Name: "one_db_v3"}}}
	other := map[string]string{secrets.LabelReference: "op://v/api/token", secrets.LabelCluster: "other"}
	w.secrets["y"] = swarm.Secret{ID: "y", Spec: swarm.SecretSpec{Annotations: swarm.Annotations{Name: "elsewhere_api_v1", Labels: other}}}
	done := w.sync(t)
	expect(t, "taken", says(done), "failed one_db_v3, create two_api_v1, create two_url_v3")
	if !strings.Contains(done.Actions[0].Why, "was not made by skep") {
		t.Errorf("why %q", done.Actions[0].Why)
	}
	if _, ok := w.values()["elsewhere_api_v1"]; !ok {
		t.Error("another cluster's secret was pruned")
	}
}

// An item that is deleted and made anew starts over with version 1.
func TestItemReplacedAtTheSameVersion(t *testing.T) {
	w := newWorld(Versioned)
	w.sync(t)
	w.ids["db"], w.shelf.fields["op://v/db/password"] = "second-", "new"
	w.use("two_app", "two_url_v3")
	done := w.sync(t)
	expect(t, "replaced", says(done), "replace one_db_v3, keep two_api_v1, failed two_url_v3")
	if !strings.Contains(done.Actions[2].Why, "the item was replaced by another one, and the secret is in use") {
		t.Errorf("why %q", done.Actions[2].Why)
	}
	if got := w.values(); got["one_db_v3"] != "new" || got["two_url_v3"] != "db:pa55" {
		t.Errorf("values are %v", got)
	}
}

func TestDriverMode(t *testing.T) {
	w := newWorld(Driver)
	w.templates["one/otp"] = "op://v/db/one-time password?attribute=otp"
	w.shelf.fields["op://v/db/one-time password?attribute=otp"] = "123456"
	expect(t, "first", says(w.sync(t)), "create one_db_v3, create one_otp_v3, create two_api_v1, create two_url_v3")
	if w.reads != 0 {
		t.Error("values were read")
	}
	for _, s := range w.engine.secrets {
		if s.Spec.Driver == nil || s.Spec.Driver.Name != "skep" || len(s.Spec.Data) > 0 {
			t.Errorf("%s is %+v", s.Spec.Name, s.Spec)
		}
		if s.Spec.Name == "two_url_v3" && s.Spec.Labels[secrets.LabelTemplate] != "db:{{ op://v/db/password }}" {
			t.Errorf("labels are %v", s.Spec.Labels)
		}
	}
	expect(t, "again", says(w.sync(t)), "keep one_db_v3, keep one_otp_v3, keep two_api_v1, keep two_url_v3")
	w.use("one_app", "one_db_v3")
	w.Options.Mode = Versioned
	delete(w.templates, "one/otp")
	expect(t, "the other mode", says(w.sync(t)), "failed one_db_v3, prune one_otp_v3, replace two_api_v1, replace two_url_v3")
}

func TestLockThatCannotBeWritten(t *testing.T) {
	w := newWorld(Versioned)
	w.sync(t)
	w.edit("op://v/db/password", "new", "db", 4)
	w.full = errors.New("disk full")
	plan, err := w.Syncer.Plan(t.Context(), w.project)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Apply(t.Context(), w.project, plan, true); err == nil || !strings.Contains(err.Error(), "disk full") {
		t.Errorf("got %v", err)
	}
	if _, ok := w.values()["one_db_v3"]; !ok {
		t.Error("what the old lock names was pruned")
	}
}

// A sync that ends at any call of the Swarm, or at the lock, is finished by the
// next one, and no service ever lacks what it mounts.
func TestKilledAtEveryStep(t *testing.T) {
	for steps := 0; ; steps++ {
		w := newWorld(Versioned)
		w.sync(t)
		w.use("one_app", "one_db_v3")
		w.use("two_app", "two_api_v1", "two_url_v3")
		w.edit("op://v/db/password", "new", "db", 4)
		w.edit("op://v/api/token", "newer", "api", 2)
		left := steps
		killed := errors.New("killed")
		dead := func() error {
			if left--; left < 0 {
				return killed
			}
			return nil
		}
		w.engine.fail = func(string) error { return dead() }
		w.saving = dead
		if plan, err := w.Syncer.Plan(t.Context(), w.project); err == nil {
			_, _ = w.Apply(t.Context(), w.project, plan, true)
		}
		for _, s := range w.services {
			for name := range mounted(&s.Spec) {
				if _, ok := w.values()[name]; !ok {
					t.Errorf("after %d steps %s lacks %s", steps, s.Spec.Name, name)
				}
			}
		}
		wanted, err := w.project.Secrets(w.lock)
		if err != nil {
			t.Fatal(err)
		}
		for _, s := range wanted {
			if _, ok := w.values()[s.Name]; !ok {
				t.Errorf("after %d steps the lock asks for %s, which is not there", steps, s.Name)
			}
		}
		finished := left >= 0
		w.engine.fail, w.saving = nil, nil
		w.sync(t)
		if done := w.sync(t); done.Changes() || len(done.Of(Failed)) > 0 {
			t.Errorf("after %d steps it does not settle: %s", steps, says(done))
		}
		if got := w.values(); got["one_db_v4"] != "new" || got["two_url_v4"] != "db:new" || got["two_api_v2"] != "newer" {
			t.Errorf("after %d steps the values are %v", steps, got)
		}
		if finished {
			if steps < 7 { // three lists, three secrets, the lock
				t.Errorf("a whole sync takes %d steps", steps)
			}
			return
		}
	}
}

// deployer makes the services of a stack use what is wanted.
type deployer struct {
	mu    sync.Mutex
	w     *world
	calls []string
	fails int
}

// made are the deploys until now.
func (d *deployer) made() []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Clone(d.calls)
}

func (d *deployer) Deploy(_ context.Context, stacks []stack.Name) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.calls = append(d.calls, fmt.Sprintf("%v", stacks))
	if d.fails > 0 {
		d.fails--
		return errors.New("unhealthy")
	}
	wanted, err := d.w.project.Secrets(d.w.lock)
	for _, s := range stacks {
		var names []string
		for _, w := range wanted {
			if w.Stack == s {
				names = append(names, w.Name)
			}
		}
		d.w.use(string(s)+"_app", names...)
	}
	return err
}

func watching(t *testing.T, w *world, d *deployer, body func(log *bytes.Buffer)) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		watcher := &Watcher{
			Syncer: w.Syncer, Deployer: d, Interval: 20 * time.Second, Prune: true,
			Open: func(context.Context) (Project, error) { return w.project, nil },
			Log:  slog.New(slog.NewTextHandler(&log, nil)),
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- watcher.Run(ctx) }()
		synctest.Wait()
		body(&log)
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

func TestWatchRotatesWithinAMinute(t *testing.T) {
	w := newWorld(Versioned)
	d := &deployer{w: w}
	watching(t, w, d, func(*bytes.Buffer) {
		w.use("one_app", "one_db_v3")
		w.use("two_app", "two_api_v1", "two_url_v3")
		w.edit("op://v/api/token", "new", "api", 2)
		time.Sleep(time.Minute)
		synctest.Wait()
		if !slices.Equal(d.made(), []string{"[two]"}) || !mounted(&w.services[1].Spec)["two_api_v2"] {
			t.Errorf("deployed %q, two_app uses %v", d.made(), mounted(&w.services[1].Spec))
		}
		time.Sleep(10 * time.Minute)
		synctest.Wait()
		if len(d.made()) != 1 {
			t.Errorf("deployed again: %q", d.made())
		}
	})
}

func TestWatchOutlivesTheSource(t *testing.T) {
	w := newWorld(Versioned)
	d := &deployer{w: w}
	watching(t, w, d, func(log *bytes.Buffer) {
		w.use("one_app", "one_db_v3")
		w.shelf.mu.Lock()
		w.down = secrets.ErrUnavailable
		w.shelf.mu.Unlock()
		time.Sleep(time.Hour)
		synctest.Wait()
		if n := strings.Count(log.String(), "source unavailable"); n != 3 { // one for each secret, once
			t.Errorf("the log says %d times that the source is away:\n%s", n, log)
		}
		w.shelf.mu.Lock()
		w.down = nil
		w.shelf.mu.Unlock()
		w.edit("op://v/db/password", "new", "db", 4)
		time.Sleep(time.Minute)
		synctest.Wait()
		if !slices.Equal(d.made(), []string{"[one]"}) {
			t.Errorf("deployed %q", d.made())
		}
	})
}

func TestWatchDoesNotHammerAFailingDeploy(t *testing.T) {
	w := newWorld(Versioned)
	d := &deployer{w: w, fails: 1000}
	watching(t, w, d, func(*bytes.Buffer) {
		w.use("one_app", "one_db_v3")
		w.edit("op://v/db/password", "bad", "db", 4)
		time.Sleep(10 * time.Minute)
		synctest.Wait()
		if n := len(d.made()); n < 3 || n > 5 { // after 0, 1, 3, 7 minutes
			t.Errorf("tried %d times in ten minutes", n)
		}
		// Another change is tried at once.
		d.mu.Lock()
		d.fails = 0
		d.mu.Unlock()
		w.edit("op://v/db/password", "good", "db", 5)
		before := len(d.made())
		time.Sleep(time.Minute)
		synctest.Wait()
		if len(d.made()) != before+1 || !mounted(&w.services[0].Spec)["one_db_v5"] {
			t.Errorf("tried %d times, one_app uses %v", len(d.made())-before, mounted(&w.services[0].Spec))
		}
	})
}

func BenchmarkCompare(b *testing.B) {
	for _, n := range []int{500, 5000} {
		b.Run(fmt.Sprintf("secrets=%d", n), func(b *testing.B) {
			w := newWorld(Versioned)
			w.templates = map[string]string{}
			for i := range n {
				ref := fmt.Sprintf("op://v/item-%d/f", i)
				w.templates[fmt.Sprintf("stack-%d/item-%d", i%50, i)] = ref
				w.shelf.fields[ref] = "value"
			}
			wanted, err := w.project.Secrets(nil)
			if err != nil {
				b.Fatal(err)
			}
			answers := w.shelf.answer(References(wanted), false)
			lock := Relock(nil, answers)
			if wanted, err = w.project.Secrets(lock); err != nil {
				b.Fatal(err)
			}
			plan := Compare(wanted, lock, answers, Live{}, w.Options)
			w.Syncer.create(b.Context(), plan.Actions)
			live, err := w.live(b.Context())
			if err != nil {
				b.Fatal(err)
			}
			for b.Loop() {
				if Compare(wanted, lock, answers, live, w.Options).Changes() {
					b.Fatal("an unchanged Swarm has changes")
				}
			}
		})
	}
}
