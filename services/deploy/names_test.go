package deploy

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"strings"
	"testing"

	"skep/generator/problem"
	"skep/generator/stack"
)

// fakeNames is a zone that wants some changes until they are made.
type fakeNames struct {
	changes []NameChange
	unread  string
	fails   bool

	kept  []string // of the hosts that were asked about
	made  []string
	check func() // called before changes are made
}

func (f *fakeNames) Plan(_ context.Context, keep func(string) bool) NamesPlan {
	plan := NamesPlan{Kind: NamesDNS, Name: "example.com", Unread: f.unread}
	for _, c := range f.changes {
		if c.removes() && keep(c.Host) {
			f.kept = append(f.kept, c.Host)
			continue
		}
		plan.Changes = append(plan.Changes, c)
	}
	if f.unread != "" {
		plan.Changes = nil
	}
	return plan
}

func (f *fakeNames) Apply(_ context.Context, _ func(string) bool, may func(NameChange) bool, done func(NameChange, error)) error {
	if f.check != nil {
		f.check()
	}
	if f.fails {
		return errors.New("the provider refuses")
	}
	var rest []NameChange
	for _, c := range f.changes {
		if !may(c) {
			rest = append(rest, c)
			continue
		}
		f.made = append(f.made, string(c.Action)+" "+c.Host)
		done(c, nil)
	}
	f.changes = rest
	return nil
}

func nameChanges() []NameChange {
	return []NameChange{
		{Action: Create, Type: "A", Host: "web.example.com", New: "192.0.2.1", Owner: "app/web"},
		{Action: Create, Type: "A", Host: "shop.example.com", New: "192.0.2.1", Owner: "shop/web"},
		{Action: Retire, Type: "A", Host: "old.example.com", Old: "192.0.2.1", Owner: "app/old", Why: "nothing wants it"},
	}
}

// shop is a second stack, which needs nothing.
func shop(t *testing.T, image string) Release {
	r := release(t, "version: \"3.8\"\nservices:\n  web:\n    image: "+image+"\n    deploy: {update_config: {monitor: 1ms}}\n")
	r.Stack = "shop"
	return r
}

func TestNamesFollowTheirStacks(t *testing.T) {
	both := func(t *testing.T, shopImage string) Project {
		p := project(t, appV1)
		p.Releases = append(p.Releases, shop(t, shopImage))
		return p
	}
	for name, test := range map[string]struct {
		image   string
		partial bool
		want    []string
	}{
		"all up":           {"shop:1", false, []string{"create web.example.com", "create shop.example.com", "retire old.example.com"}},
		"one failed":       {"broken:1", false, []string{"create web.example.com"}},
		"one of them":      {"shop:1", true, []string{"create web.example.com", "retire old.example.com"}},
		"the other broken": {"broken:1", true, []string{"create web.example.com", "retire old.example.com"}},
	} {
		t.Run(name, func(t *testing.T) {
			f, p := newFake(), both(t, test.image)
			names := &fakeNames{changes: nameChanges()}
			names.check = func() {
				if _, ok := f.state.service("app_web"); !ok {
					t.Error("names came before the service")
				}
			}
			o := quick()
			o.Names = []Names{names}
			if test.partial {
				var err error
				if p, err = p.Only("app"); err != nil {
					t.Fatal(err)
				}
				o.Scope.Partial = true
			}
			_, err := Deploy(t.Context(), f, p, o)
			if failed := test.image == "broken:1" && !test.partial; (err != nil) != failed {
				t.Fatal(err)
			}
			if !slices.Equal(names.made, test.want) {
				t.Errorf("made %q, want %q", names.made, test.want)
			}
		})
	}
}

// That the stacks are up is said when they are.
func TestNamesThatFail(t *testing.T) {
	for image, up := range map[string]bool{"shop:1": true, "broken:1": false} {
		p := project(t, appV1)
		p.Releases = append(p.Releases, shop(t, image))
		o := quick()
		o.Names = []Names{&fakeNames{changes: nameChanges(), fails: true}}
		_, err := Deploy(t.Context(), newFake(), p, o)
		if err == nil || !strings.Contains(err.Error(), "the provider refuses") || strings.Contains(Hint(err), "the stacks are up") != up {
			t.Errorf("with %s: %v, hint %q", image, err, Hint(err))
		}
	}
}

// Names alone are something to do, and are done once.
func TestNamesAlone(t *testing.T) {
	f, p := newFake(), project(t, appV1)
	mustDeploy(t, f, p)
	names := &fakeNames{changes: nameChanges()[:1]}
	o := quick()
	o.Names = []Names{names}
	for range 2 {
		if _, err := Deploy(t.Context(), f, p, o); err != nil {
			t.Fatal(err)
		}
	}
	if !slices.Equal(names.made, []string{"create web.example.com"}) || f.count("create service app_web") != 1 {
		t.Errorf("made %q, wrote %q", names.made, f.writes)
	}
	names.changes, names.fails = nameChanges()[:1], true
	_, err := Deploy(t.Context(), f, p, o)
	if err == nil || !strings.Contains(err.Error(), "the provider refuses") || Hint(err) == "" {
		t.Errorf("got %v, hint %q", err, Hint(err))
	}
}

// A provider that is away stops nothing, and what nobody saw is not done.
func TestNamesUnread(t *testing.T) {
	f, p := newFake(), project(t, appV1)
	names := &fakeNames{changes: nameChanges(), unread: "no answer"}
	o := quick()
	o.Names = []Names{names}
	var told []string
	o.Report = func(e Event) {
		if e.Verb == Warned {
			told = append(told, e.Text)
		}
	}
	_, expect, err := Look(t.Context(), f, p, Scope{}, o.Names)
	if err != nil {
		t.Fatal(err)
	}
	o.Expect = &expect
	names.unread = "" // it answers now, and the plan that was agreed on has nothing of it
	if _, err := Deploy(t.Context(), f, p, o); err != nil {
		t.Fatal(err)
	}
	if len(names.made) != 0 || len(told) != 1 || !strings.Contains(told[0], "example.com") {
		t.Errorf("made %q, told %q", names.made, told)
	}

	p = project(t, strings.Replace(appV1, "web:1", "web:2", 1))
	if _, expect, err = Look(t.Context(), f, p, Scope{}, o.Names); err != nil {
		t.Fatal(err)
	}
	names.unread = "no answer" // it was to be changed, and is away
	_, err = Deploy(t.Context(), f, p, o)
	if err == nil || !strings.Contains(err.Error(), "no answer") {
		t.Errorf("got %v", err)
	}
	o.Expect, names.unread = nil, ""
	f.is(t, p)
}

// Plans that name other changes are not the same.
func TestNamesStale(t *testing.T) {
	f, p := newFake(), project(t, appV1)
	names := &fakeNames{changes: nameChanges()}
	o := quick()
	o.Names = []Names{names}
	_, expect, err := Look(t.Context(), f, p, Scope{}, o.Names)
	if err != nil {
		t.Fatal(err)
	}
	o.Expect = &expect
	names.changes = append(names.changes, NameChange{Action: Create, Type: "A", Host: "more.example.com"})
	if _, err := Deploy(t.Context(), f, p, o); !errors.Is(err, ErrStalePlan) {
		t.Errorf("got %v", err)
	}
}

// What runs beside the project keeps its names, until it goes itself.
func TestNamesOfPreviewsStay(t *testing.T) {
	f := newFake()
	beside := shop(t, "shop:1")
	web := beside.Compose["services"].(map[string]any)["web"].(map[string]any)
	web["deploy"].(map[string]any)["labels"] = map[string]any{"caddy": "old.example.com"}
	mustDeploy(t, f, Project{Releases: []Release{beside}})
	names := &fakeNames{changes: nameChanges()[2:]}
	names.changes[0].Owner = ""
	o := quick()
	o.Names = []Names{names}
	if _, err := Deploy(t.Context(), f, project(t, appV1), o); err != nil {
		t.Fatal(err)
	}
	if len(names.made) != 0 || len(names.kept) == 0 {
		t.Fatalf("made %q, kept %q", names.made, names.kept)
	}
	err := DropNames(t.Context(), f.state, project(t, appV1), []stack.Name{"shop"}, []string{"old.example.com"}, o.Names, func(Event) {})
	if err != nil || !slices.Equal(names.made, []string{"retire old.example.com"}) {
		t.Errorf("%v, made %q", err, names.made)
	}
}

func TestNamesAreWritten(t *testing.T) {
	plan := Plan{Cluster: "test", Names: []NamesPlan{
		{Kind: NamesDNS, Name: "example.com", Changes: nameChanges(), Notes: []string{"A x.example.com is refused: made by hand"}},
		{Kind: NamesTunnel, Name: "t1", Unread: "no answer"},
	}}
	var text, markdown bytes.Buffer
	if err := errors.Join(plan.WriteText(&text, problem.Paint{}), plan.WriteMarkdown(&markdown)); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"+ a web.example.com -> 192.0.2.1 (app/web)", "- a old.example.com -> 192.0.2.1 (app/old)", "! A x.example.com is refused",
		"? tunnel t1 could not be read, and is left alone: no answer", "Names: 3.",
	} {
		if !strings.Contains(text.String(), want) {
			t.Errorf("it lacks %q:\n%s", want, &text)
		}
	}
	for _, want := range []string{"| create | `a web.example.com` |  | `192.0.2.1` |", "tunnel t1 could not be read"} {
		if !strings.Contains(markdown.String(), want) {
			t.Errorf("it lacks %q:\n%s", want, &markdown)
		}
	}
}
