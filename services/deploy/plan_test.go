package deploy

import (
	"bytes"
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/moby/moby/api/types/swarm"
	"go.yaml.in/yaml/v3"
	"golang.org/x/tools/txtar"

	"skep/generator/problem"
	"skep/generator/stack"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// Each file of testdata/plan holds the stack that runs (live.yaml), what was
// done by hand since (hand, a line an act), the stack that is wanted
// (want.yaml), and the plan as text.
func TestPlan(t *testing.T) {
	files, err := filepath.Glob("testdata/plan/*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatalf("no cases: %v", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txtar"), func(t *testing.T) {
			archive, err := txtar.ParseFile(file)
			if err != nil {
				t.Fatal(err)
			}
			in := map[string]string{}
			for _, f := range archive.Files {
				in[f.Name] = string(f.Data)
			}
			engine := &fakeSwarm{state: Live{Nodes: []swarm.Node{{ID: "n1"}}}}
			for name := range strings.FieldsSeq(in["secrets"]) {
				engine.state.Secrets = append(engine.state.Secrets, swarm.Secret{ID: "secret-" + name, Spec: swarm.SecretSpec{Annotations: swarm.Annotations{Name: name}}})
			}
			if in["live.yaml"] != "" {
				o := quick()
				o.NoWait = true
				if _, err := Deploy(t.Context(), engine, Project{Releases: []Release{release(t, in["live.yaml"])}}, o); err != nil {
					t.Fatal(err)
				}
			}
			for line := range strings.Lines(in["hand"]) {
				engine.byHand(t, strings.Fields(line))
			}
			flag := func(name string) bool { return strings.Contains(string(archive.Comment), name) }
			scope := Scope{Prune: flag("--prune"), BeforeSync: flag("--before-sync")}
			plan, err := Compare(Project{Cluster: "test", Releases: []Release{release(t, in["want.yaml"])}}, engine.state, scope)
			if err != nil {
				t.Fatal(err)
			}
			var got, markdown bytes.Buffer
			if err := plan.WriteText(&got, problem.Paint{}); err != nil {
				t.Fatal(err)
			}
			if err := plan.WriteMarkdown(&markdown); err != nil {
				t.Fatal(err)
			}
			for name, text := range map[string]string{"plan.txt": got.String(), "plan.md": markdown.String()} {
				want, ok := in[name]
				if *update && ok {
					for i := range archive.Files {
						if archive.Files[i].Name == name {
							archive.Files[i].Data = []byte(text)
						}
					}
				} else if ok && text != want {
					t.Errorf("%s: got\n%s\nwant\n%s", name, text, want)
				}
			}
			if *update {
				if err := os.WriteFile(file, txtar.Format(archive), 0o644); err != nil {
					t.Fatal(err)
				}
			}
		})
	}
}

// release reads a Compose file; x-gates are its gates.
func release(t testing.TB, text string) Release {
	t.Helper()
	r := Release{Stack: "app", Compose: map[string]any{}, Files: map[string][]byte{"app/conf": []byte("one"), "app/conf2": []byte("two")}}
	if err := yaml.Unmarshal([]byte(text), &r.Compose); err != nil {
		t.Fatal(err)
	}
	gates, _ := r.Compose["x-gates"].(map[string]any)
	delete(r.Compose, "x-gates")
	for job, service := range gates {
		r.Gates = map[stack.ServiceName][]stack.ServiceName{stack.ServiceName(job): {stack.ServiceName(service.(string))}}
	}
	// As a revision gives it back.
	data, err := json.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	r = Release{}
	if err := json.Unmarshal(data, &r); err != nil {
		t.Fatal(err)
	}
	return r
}

// byHand does what a person does with the docker command.
func (f *fakeSwarm) byHand(t *testing.T, act []string) {
	t.Helper()
	for i := range f.state.Services {
		s := &f.state.Services[i]
		if len(act) < 2 || s.Spec.Name != act[1] {
			continue
		}
		s.Version, s.Spec = f.next(), clone(s.Spec) // who read it keeps what it was
		container := s.Spec.TaskTemplate.ContainerSpec
		switch act[0] {
		case "rm":
			f.state.Services = append(f.state.Services[:i], f.state.Services[i+1:]...)
		case "image":
			container.Image = act[2]
		case "env":
			container.Env = append(container.Env, act[2])
		case "pause":
			s.UpdateStatus = &swarm.UpdateStatus{State: swarm.UpdateStatePaused, Message: "update paused due to failure"}
		case "fail":
			for j := range f.state.Tasks {
				if f.state.Tasks[j].ServiceID == s.ID {
					f.state.Tasks[j].Status.State = swarm.TaskStateFailed
				}
			}
		case "unlabel":
			delete(s.Spec.Labels, LabelStack)
			delete(s.Spec.Labels, LabelHash)
			delete(s.Spec.Labels, LabelRevision)
		default:
			t.Fatalf("cannot %s", act)
		}
		return
	}
	t.Fatalf("there is no service for %s", act)
}
