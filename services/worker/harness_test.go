package worker

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"skep/secrets"
	"skep/services/controlplane"
)

// world is a provider, a store and a launcher in memory.
type world struct {
	run       controlplane.Run
	project   controlplane.Project
	effects   map[string][]byte
	finished  []string // state: problem
	result    Result
	output    []byte // result, as it is stored
	refuses   bool   // any output
	logged    []string
	lastLine  int
	busy      error
	last      bool
	onceError error

	tree       map[string]string
	pull       controlplane.PullRequest
	may        controlplane.Permission
	reports    []controlplane.Report
	comments   map[string]string
	reactions  []string
	forgeError error

	metrics     *Metrics
	launchError error

	jobs    []Job
	exits   map[string]Exit // by step
	started []controlplane.Run

	previews []controlplane.Preview
	deployed controlplane.Commit

	storeless bool     // has no store of secrets
	shown     []string // deployments
	showError error
	panics    string // the step at which the launcher does
	seen      string // the cluster file of a job
	lock      string // the secrets.lock of the last job
}

const mainHead = controlplane.Commit("89abcdef89abcdef89abcdef89abcdef89abcdef")

const commit = controlplane.Commit("0123456789012345678901234567890123456789")

func newWorld(kind controlplane.RunKind, input controlplane.Input) *world {
	content, err := json.Marshal(input)
	if err != nil {
		panic(err)
	}
	return &world{
		run:     controlplane.Run{ID: "r1", Kind: kind, Project: "home", Delivery: 12, State: controlplane.RunQueued, Input: content},
		project: controlplane.Project{Name: "home", Repository: "a/b", Folder: "stacks", Cluster: "c", Deploy: controlplane.DeployAlways},
		effects: map[string][]byte{}, comments: map[string]string{}, may: controlplane.PermissionWrite,
		tree: map[string]string{"stacks/cluster.yaml": "name: c\n"},
		exits: map[string]Exit{
			"check":   {Answer: []byte(`{"errors":0,"warnings":0,"problems":[]}`)},
			"secrets": {Answer: []byte(`{"locked":{"op://v/i/f":"7"}}`)},
			"lock":    {Answer: []byte(`{"locked":{"op://v/i/f":"6"}}`)},
		},
	}
}

func (w *world) Run(context.Context, controlplane.RunID) (controlplane.Run, error) { return w.run, nil }
func (w *world) Begin(context.Context, controlplane.RunID) error                   { return w.busy }
func (w *world) Finish(_ context.Context, _ controlplane.RunID, s controlplane.RunState, output []byte, problem string) error {
	if w.refuses && output != nil {
		return controlplane.ErrInvalid
	}
	w.finished = append(w.finished, strings.TrimSuffix(string(s)+": "+problem, ": "))
	w.output, w.result = output, Result{}
	if output == nil {
		return nil
	}
	return json.Unmarshal(output, &w.result)
}
func (w *world) Once(ctx context.Context, _ controlplane.RunID, step string, f func(context.Context) ([]byte, error)) ([]byte, error) {
	if done, ok := w.effects[step]; ok || w.onceError != nil {
		return done, w.onceError
	}
	out, err := f(ctx)
	if err == nil {
		w.effects[step] = out
	}
	return out, err
}
func (w *world) Project(context.Context, controlplane.Name) (controlplane.Project, error) {
	return w.project, nil
}
func (w *world) Deployed(context.Context, controlplane.Name) (controlplane.Commit, error) {
	return w.deployed, nil
}
func (w *world) AppendLog(_ context.Context, _ controlplane.RunID, lines []controlplane.LogLine) error {
	for _, l := range lines {
		w.logged, w.lastLine = append(w.logged, l.Text), max(w.lastLine, l.N)
	}
	return nil
}
func (w *world) LastLine(context.Context, controlplane.RunID) (int, error) { return w.lastLine, nil }
func (w *world) Forge(context.Context, controlplane.Provider, controlplane.Name) (controlplane.Forge, error) {
	return w, w.forgeError
}
func (w *world) Start(_ context.Context, r controlplane.Run) error {
	w.started = append(w.started, r)
	return nil
}
func (w *world) Archive(_ context.Context, _ controlplane.Repository, c controlplane.Commit) (io.ReadCloser, error) {
	var out bytes.Buffer
	zipped := gzip.NewWriter(&out)
	files := tar.NewWriter(zipped)
	for name, content := range w.tree {
		if c == mainHead {
			content = "name: of-main\n"
		}
		if err := files.WriteHeader(&tar.Header{Name: "b-0123/" + name, Mode: 0o644, Size: int64(len(content)), Typeflag: tar.TypeReg}); err != nil {
			return nil, err
		}
		if _, err := files.Write([]byte(content)); err != nil {
			return nil, err
		}
	}
	return io.NopCloser(&out), errors.Join(files.Close(), zipped.Close())
}
func (w *world) Head(context.Context, controlplane.Repository, controlplane.Branch) (controlplane.Commit, error) {
	return mainHead, nil
}
func (w *world) PullRequest(context.Context, controlplane.Repository, int) (controlplane.PullRequest, error) {
	return w.pull, nil
}
func (w *world) Permission(context.Context, controlplane.Repository, string) (controlplane.Permission, error) {
	return w.may, nil
}
func (w *world) Comment(_ context.Context, _ controlplane.Repository, _ int, key, markdown string) error {
	w.comments[key] = markdown
	return nil
}
func (w *world) React(_ context.Context, _ controlplane.Repository, _ int, comment string) error {
	w.reactions = append(w.reactions, comment)
	return nil
}
func (w *world) Report(_ context.Context, _ controlplane.Repository, _ controlplane.Commit, r controlplane.Report) error {
	w.reports = append(w.reports, r)
	return nil
}
func (w *world) Deployment(_ context.Context, _ controlplane.Repository, c controlplane.Commit, d controlplane.Deployment) error {
	w.shown = append(w.shown, strings.TrimSpace(fmt.Sprintf("%s %s %.4s %v %s", d.Environment, d.State, c, d.Preview, d.URL)))
	return w.showError
}
func (w *world) Retire(_ context.Context, _ controlplane.Repository, p controlplane.Name, environment string) error {
	w.shown = append(w.shown, fmt.Sprintf("%s of %s gone", environment, p))
	return w.showError
}
func (w *world) Test(context.Context) (string, error) { return "", nil }
func (w *world) PutPreview(_ context.Context, p controlplane.Preview) (controlplane.Preview, error) {
	w.previews = append(w.previews, p)
	return p, nil
}
func (w *world) ListPreviews(context.Context, controlplane.Name) ([]controlplane.Preview, error) {
	return w.previews, nil
}
func (w *world) DeletePreview(_ context.Context, _ controlplane.Name, number int) error {
	i := slices.IndexFunc(w.previews, func(p controlplane.Preview) bool { return p.Number == number })
	if i < 0 {
		return controlplane.ErrNotFound
	}
	w.previews = slices.Delete(w.previews, i, i+1)
	return nil
}

func (w *world) Launch(_ context.Context, j Job) (Exit, error) {
	content, err := os.ReadFile(filepath.Join(j.Tree, "stacks/cluster.yaml"))
	if err != nil && j.Step != "destroy" && j.Step != "rollback" {
		return Exit{}, err
	}
	w.seen = string(content)
	lock, err := os.ReadFile(filepath.Join(j.Tree, "stacks/secrets.lock"))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return Exit{}, err
	}
	w.lock = string(lock)
	w.jobs = append(w.jobs, j)
	if j.Step == w.panics {
		panic("planted")
	}
	if j.Step == "deploy" && w.exits["deploy"].Code != 0 {
		j.Output("stderr", "Error: service app_web: the health check fails")
	}
	return w.exits[j.Step], w.launchError
}

func (w *world) handle(t *testing.T) error {
	t.Helper()
	return w.worker().Handle(t.Context(), w.run.ID, w.last)
}

func (w *world) worker() *Worker {
	environment := map[string]string{"DOCKER_HOST": "tcp://d:1"}
	if !w.storeless {
		environment["OP_CONNECT_HOST"] = "http://c"
	}
	return &Worker{
		Store: w, Previews: w, Forges: w, Starter: w, Launcher: w, URL: "https://skep.example.com", Log: slog.New(slog.DiscardHandler),
		Metrics:     w.metrics,
		Environment: environment,
		Secrets:     map[string]secrets.Value{"op-connect-token": secrets.NewValue([]byte("planted"))},
	}
}

func (w *world) steps() (out []string) {
	for _, j := range w.jobs {
		out = append(out, j.Step)
	}
	return out
}

func (w *world) states() (out []string) {
	for _, r := range w.reports {
		out = append(out, string(r.State)+" "+r.Title)
	}
	return out
}

func push() controlplane.Input {
	return controlplane.Input{Change: controlplane.Change{Kind: controlplane.ChangePush, Repository: "a/b", Branch: "main", Commit: commit}}
}

func pull(fork bool) controlplane.Input {
	return controlplane.Input{Change: controlplane.Change{Kind: controlplane.ChangeOpened, Repository: "a/b", Commit: commit,
		PullRequest: &controlplane.PullRequest{Number: 7, Head: commit, Base: "main", Fork: fork}}}
}
