package store_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"skep/secrets"
	"skep/services/controlplane"
	"skep/services/controlplane/store"
)

// dump is all rows of all tables, as a dump in plain text has them.
func dump(t *testing.T, dsn string) string {
	t.Helper()
	var out strings.Builder
	for _, table := range query[string](t, dsn, "SELECT tablename::text FROM pg_tables WHERE schemaname = 'skep' ORDER BY 1") {
		for _, row := range query[string](t, dsn, "SELECT t::text FROM "+table+" t") {
			fmt.Fprintln(&out, table, row)
		}
	}
	return out.String()
}

// spellings are the forms in which a secret could be found.
func spellings(secret string) []string {
	return []string{
		secret, hex.EncodeToString([]byte(secret)), base64.StdEncoding.EncodeToString([]byte(secret)),
		base64.RawURLEncoding.EncodeToString([]byte(secret)), fmt.Sprint([]byte(secret)),
	}
}

func TestSecretsStaySecret(t *testing.T) {
	s, dsn := newStore(t)
	var logged bytes.Buffer
	s.Log = slog.New(slog.NewTextHandler(&logged, &slog.HandlerOptions{Level: slog.LevelDebug}))
	planted := []string{"planted-credential-9Zq", "planted-webhook-secret-7Xw", oldKey}
	token := newToken(t, s, "ci", time.Time{})
	planted = append(planted, token, strings.TrimPrefix(token, "skep_"))

	var errs []error
	try := func(err error) { errs = append(errs, err) }
	in := controlplane.Integration{Provider: controlplane.GitHub, Name: "main"}
	put := func(ctx context.Context, in controlplane.Integration, values map[string]secrets.Value) error {
		_, err := s.PutIntegration(ctx, in, values)
		return err
	}
	source := func(ctx context.Context, name, integration controlplane.Name) error {
		_, err := s.PutSource(ctx, controlplane.Source{Provider: controlplane.GitHub, Name: name, Integration: integration, Secret: value(planted[1])})
		return err
	}
	if err := errors.Join(put(t.Context(), in, map[string]secrets.Value{"token": value(planted[0])}), source(t.Context(), "main", "main")); err != nil {
		t.Fatal(err)
	}
	stored := dump(t, dsn)
	if !strings.Contains(stored, "credential ") || !strings.Contains(stored, "source ") || !strings.Contains(stored, "token ") {
		t.Fatalf("the dump lacks tables:\n%s", stored)
	}

	// Whatever goes wrong, in this program or in the database.
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	try(put(gone, in, map[string]secrets.Value{"token": value(planted[0])}))
	try(source(gone, "main", ""))
	try(source(t.Context(), "main", "nobody"))
	try(put(t.Context(), controlplane.Integration{Provider: controlplane.GitHub}, map[string]secrets.Value{"token": value(planted[0])}))
	try(put(t.Context(), in, map[string]secrets.Value{"token": value(planted[0] + strings.Repeat("x", 65<<10))}))
	shared.Server(t).Exec(t, dsn, "ALTER TABLE skep.credential ADD CHECK (octet_length(cipher) < 1) NOT VALID")
	try(put(t.Context(), in, map[string]secrets.Value{"token": value(planted[0])}))
	shared.Server(t).Exec(t, dsn, "ALTER TABLE skep.source RENAME COLUMN cipher TO sealed")
	try(source(t.Context(), "other", ""))
	_, err := s.Source(t.Context(), controlplane.GitHub, "main")
	try(err)
	_, err = s.Authenticate(gone, token)
	try(err)

	for i, err := range errs {
		if err == nil {
			t.Errorf("call %d went well", i)
		}
	}
	for _, secret := range planted {
		for _, spelling := range spellings(secret) {
			for where, text := range map[string]string{"the database": stored, "an error": fmt.Sprintf("%v %+v %#v", errs, errs, errs), "the log": logged.String()} {
				if strings.Contains(text, spelling) {
					t.Errorf("%q is in %s", spelling, where)
				}
			}
		}
	}
}

// The server's log is no place for secrets either.
func TestOpenRefusesLoggedParameters(t *testing.T) {
	s, dsn := newStore(t)
	s.Close()
	server := shared.Server(t)
	database := query[string](t, dsn, "SELECT current_database()::text")[0]
	open := func() error {
		s, err := store.Open(t.Context(), dsn, testKeys())
		if err == nil {
			s.Close()
		}
		return err
	}
	for _, setting := range []string{
		"log_statement = 'mod'", "log_min_duration_statement = 1000", "log_min_duration_sample = 1000", "log_parameter_max_length_on_error = 100",
	} {
		server.Exec(t, dsn, "ALTER DATABASE "+database+" SET "+setting)
		if err := open(); err == nil || !strings.Contains(err.Error(), "log_parameter_max_length") {
			t.Errorf("with %s: %v", setting, err)
		}
		name, _, _ := strings.Cut(setting, " ")
		if name != "log_parameter_max_length_on_error" {
			server.Exec(t, dsn, "ALTER DATABASE "+database+" SET log_parameter_max_length = 0")
			if err := open(); err != nil {
				t.Errorf("with %s and no parameters: %v", setting, err)
			}
			server.Exec(t, dsn, "ALTER DATABASE "+database+" RESET log_parameter_max_length")
		}
		server.Exec(t, dsn, "ALTER DATABASE "+database+" RESET "+name)
	}
	if err := open(); err != nil {
		t.Error(err)
	}
}

// hostile are strings that would do harm where text is taken for code.
var hostile = []string{
	`'; DROP TABLE skep.token; --`, `" OR 1=1 --`, `\'; SELECT pg_sleep(60); --`, `$1`, `$$; DELETE FROM skep.run; $$`, `%s%n%x`,
	`{{.}}`, "${jndi:ldap://x}", `"}],"scopes":["admin"]`, "a\nb\r\tc", "\u202e\u0000", "\xc0\x27 OR 1=1", "\x00", "', E'\\", "é\u0301",
}

// Each string comes back as it went in, or is refused as invalid.
func TestHostileStrings(t *testing.T) {
	s, dsn := newStore(t)
	if _, err := s.PutIntegration(t.Context(), controlplane.Integration{Provider: controlplane.GitHub, Name: "main"}, nil); err != nil {
		t.Fatal(err)
	}
	source := newSource(t, s, "main")
	before := query[string](t, dsn, "SELECT tablename::text FROM pg_tables WHERE schemaname = 'skep' ORDER BY 1")
	ctx := t.Context()
	taken := 0
	for i, h := range hostile {
		name := controlplane.Name(fmt.Sprint("n", i))
		same := func(what, got, want string, err error) {
			t.Helper()
			switch {
			case errors.Is(err, controlplane.ErrInvalid):
			case errors.Is(err, controlplane.ErrNotFound) && got == "":
			case err != nil:
				t.Errorf("%s %q: %v", what, h, err)
			case got != want:
				t.Errorf("%s %q became %q", what, want, got)
			default:
				taken++
			}
		}
		_, token, err := s.CreateToken(ctx, controlplane.Name(h), deploy, time.Time{})
		same("token", string(token.Name), h, err)
		same("revoked token", "", "", s.RevokeToken(ctx, controlplane.Name(h+"x")))
		same("audit", "", "", s.Audit(ctx, controlplane.Audit{Actor: h, Action: h, Target: h, Outcome: h, Request: h}))
		audit, _, err := s.ListAudit(ctx, h, store.Page{})
		if err == nil && len(audit) > 0 {
			same("audit", audit[0].Target, h, err)
		}
		in, err := s.PutIntegration(ctx, controlplane.Integration{
			Provider: controlplane.GitHub, Name: name, Settings: map[string]string{h: h},
		}, map[string]secrets.Value{h: value(h)})
		same("setting", in.Settings[h], h, err)
		if err == nil {
			same("credential", credentials(t, s, name)[h], h, nil)
		}
		_, err = s.Integration(ctx, controlplane.Provider(h), controlplane.Name(h))
		same("integration", "", "", err)
		_, err = s.ListIntegrations(ctx, controlplane.Provider(h))
		same("provider", "", "", err)
		_, err = s.Source(ctx, controlplane.Provider(h), controlplane.Name(h))
		same("source", "", "", err)

		project, err := s.PutProject(ctx, controlplane.Project{
			Name: name, Integration: "main", Provider: controlplane.GitHub, Repository: "a/b", Folder: h, Cluster: "c",
			Deploy: controlplane.DeployNever, Previews: controlplane.Previews{Label: h},
		})
		same("folder", project.Folder, h, err)
		same("label", project.Previews.Label, h, err)
		_, err = s.PutProject(ctx, controlplane.Project{
			Name: name, Integration: "main", Provider: controlplane.GitHub, Repository: controlplane.Repository("a/" + h), Branch: controlplane.Branch(h),
			Cluster: "c", Deploy: controlplane.DeployPolicy(h),
		})
		same("policy", "", "", err)
		_, err = s.ProjectsOf(ctx, controlplane.GitHub, controlplane.Repository(h))
		same("repository", "", "", err)
		_, err = s.Project(ctx, controlplane.Name(h))
		same("project", "", "", err)

		id, _, err := s.Add(ctx, controlplane.Delivery{
			Source: source, Delivery: controlplane.DeliveryID(h), Event: h, Headers: map[string]string{h: h}, Body: []byte(h),
		})
		same("added", "", "", err)
		if err == nil {
			d, err := s.Delivery(ctx, id)
			same("event", d.Event, h, err)
			same("header", d.Headers[h], h, err)
			same("body", string(d.Body), h, err)
			same("delivery", string(d.Delivery), h, err)
			same("postponed", "", "", s.Later(ctx, id, 0, h))
			same("failed", "", "", s.Failed(ctx, id, h))
		}
		_, _, err = s.ListDeliveries(ctx, store.DeliveryFilter{State: controlplane.DeliveryState(h)}, store.Page{})
		same("state", "", "", err)

		rid, _, err := s.Start(ctx, controlplane.Run{Key: "k" + h, Kind: controlplane.RunKind(h), Project: controlplane.Name(h), Queue: h, Supersedes: true})
		same("started", "", "", err)
		if err == nil {
			r, err := s.Run(ctx, rid)
			same("key", r.Key, "k"+h, err)
			same("queue", r.Queue, h, err)
			_, err = s.Once(ctx, rid, h, func(context.Context) ([]byte, error) { return nil, nil })
			same("step", "", "", err)
			same("artefact", "", "", s.PutArtefact(ctx, rid, h, h, []byte(h)))
			a, content, err := s.Artefact(ctx, rid, h)
			same("artefact", a.Name+string(content), h+h, err)
			same("cancelled", "", "", s.Cancel(ctx, rid, h))
		}
		_, _, err = s.ListRuns(ctx, store.RunFilter{Project: controlplane.Name(h), Task: controlplane.Name(h), State: controlplane.RunState(h)}, store.Page{})
		same("filter", "", "", err)
		_, err = s.Run(ctx, controlplane.RunID(h))
		same("run", "", "", err)

		same("topic", "", "", s.Publish(ctx, controlplane.Event{Topic: h, Type: h}))
		events, err := s.Since(ctx, []string{h}, 0, 0)
		if err == nil && len(events) > 0 {
			same("event", events[0].Type, h, err)
		}
		preview, err := s.PutPreview(ctx, controlplane.Preview{
			Project: name, Number: 1, Commit: controlplane.Commit(h), Stacks: []string{h}, Hosts: []string{h}, Expires: time.Now(),
		})
		if err == nil {
			same("stack", preview.Stacks[0]+preview.Hosts[0]+string(preview.Commit), h+h+h, err)
		}
		task, err := s.PutTask(ctx, controlplane.Task{Name: name, TaskSpec: controlplane.TaskSpec{
			Image: h, Command: []string{h}, Inputs: map[string]string{h: h},
		}})
		if err == nil {
			same("task", task.Image+task.Command[0]+task.Inputs[h], h+h+h, err)
		}
		sched, err := s.PutSchedule(ctx, controlplane.Schedule{Name: name, Task: name, Cron: h, Zone: h})
		if err == nil {
			same("schedule", sched.Cron+sched.Zone, h+h, err)
		}
		_, err = s.Task(ctx, controlplane.Name(h))
		same("task", "", "", err)
		_, err = s.Schedule(ctx, controlplane.Name(h))
		same("schedule", "", "", err)
	}
	if taken < 150 {
		t.Errorf("%d strings were taken: the test shows little", taken)
	}
	if after := query[string](t, dsn, "SELECT tablename::text FROM pg_tables WHERE schemaname = 'skep' ORDER BY 1"); strings.Join(after, " ") != strings.Join(before, " ") {
		t.Errorf("the tables are %v, and were %v", after, before)
	}
}
