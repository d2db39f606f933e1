package deploy

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/moby/moby/api/types/mount"
	"github.com/moby/moby/api/types/swarm"
)

// A docker proxy that hides values must not make a deploy write them.
func TestHiddenValuesAreRefused(t *testing.T) {
	for what, hide := range map[string]func(f *fakeSwarm){
		"variable": func(f *fakeSwarm) {
			c := f.state.Services[0].Spec.TaskTemplate.ContainerSpec
			c.Env = append(c.Env, "DB_PASSWORD=[redacted]")
		},
		"label": func(f *fakeSwarm) { f.state.Services[0].Spec.Labels["widget.key"] = "[redacted]" },
		"log option": func(f *fakeSwarm) {
			f.state.Services[0].Spec.TaskTemplate.LogDriver = &swarm.Driver{Name: "splunk", Options: map[string]string{"splunk-token": "[redacted]"}}
		},
		"mount option": func(f *fakeSwarm) {
			f.state.Services[0].Spec.TaskTemplate.ContainerSpec.Mounts = []mount.Mount{{VolumeOptions: &mount.VolumeOptions{
				DriverConfig: &mount.Driver{Options: map[string]string{"o": "[redacted]"}},
			}}}
		},
		"network option": func(f *fakeSwarm) { f.state.Networks[0].Options = map[string]string{"key": "[redacted]"} },
		"secret label": func(f *fakeSwarm) {
			f.state.Secrets = append(f.state.Secrets, swarm.Secret{Spec: swarm.SecretSpec{Annotations: swarm.Annotations{Labels: map[string]string{"skep.secret.version": "[redacted]"}}}})
		},
		"config label": func(f *fakeSwarm) { f.state.Configs[0].Spec.Labels["widget.key"] = "[redacted]" },
		"config data":  func(f *fakeSwarm) { f.state.Configs[0].Spec.Data = []byte("[redacted]") },
	} {
		t.Run(what, func(t *testing.T) {
			f := newFake()
			mustDeploy(t, f, project(t, appV1))
			hide(f)
			f.writes = nil
			_, err := Deploy(t.Context(), f, project(t, appV2), quick())
			if !errors.Is(err, ErrRedacted) || !strings.Contains(Hint(err), "ENV_VALUES=1") {
				t.Errorf("got %v, hint %q", err, Hint(err))
			}
			if len(f.writes) != 0 {
				t.Errorf("wrote %q", f.writes)
			}
		})
	}
	f := newFake()
	mustDeploy(t, f, project(t, appV1))
	f.byHand(t, []string{"env", "app_web", "NOTE=values_are_[redacted]_here"})
	if _, err := Read(t.Context(), f); err != nil {
		t.Errorf("a value that only mentions it: %v", err)
	}
}

func TestPlansShowNoPasswords(t *testing.T) {
	const before = `
services:
  web:
    image: web:1
    environment: {PLAIN: here}
    deploy: {update_config: {monitor: 1ms}}
`
	const after = `
services:
  web:
    image: web:1
    command: ["serve", "--db", "postgres://app:hunter2@db/app"]
    entrypoint: ["run", "--api-key", "hunter2"]
    environment: {PLAIN: there, DATABASE: "postgres://app:hunter2@db/app", DB_PWD: hunter2, PATHED_PASSWORD: /run/secrets/pw}
    labels: {homepage.widget.key: hunter2, kuma.web.keyword: fine, caddy.forward_auth: "sso:9000"}
    logging: {driver: splunk, options: {splunk-token: hunter2, splunk-url: "https://log:hunter2@log"}}
    volumes: [{type: volume, source: share, target: /share, volume: {}}]
    deploy: {update_config: {monitor: 1ms}, labels: {hook: "https://me:hunter2@hook", site: "https://site:8443/a@b"}}
volumes:
  share: {driver_opts: {type: cifs, o: "username=me,password=hunter2"}}
`
	f := newFake()
	mustDeploy(t, f, project(t, before))
	plan, err := Compare(project(t, after), f.state, Scope{})
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]string{}
	for _, field := range plan.Stacks[0].Changes[0].Fields {
		got[field.Path] = field.New
	}
	for path, value := range got {
		if strings.Contains(value, "hunter2") {
			t.Errorf("%s shows %s", path, value)
		}
	}
	for path, want := range map[string]string{
		"environment[PLAIN]": "there", "environment[PATHED_PASSWORD]": "/run/secrets/pw", "deploy.labels[site]": "https://site:8443/a@b",
		"environment[DATABASE]": redacted, "environment[DB_PWD]": redacted, "labels[homepage.widget.key]": redacted, "command": redacted, "entrypoint": redacted,
		"labels[kuma.web.keyword]": "fine", "labels[caddy.forward_auth]": "sso:9000",
		"logging.options[splunk-token]": redacted, "logging.options[splunk-url]": redacted, "deploy.labels[hook]": redacted,
	} {
		if got[path] != want {
			t.Errorf("%s is shown as %q, not %q", path, got[path], want)
		}
	}
	if !slices.ContainsFunc(plan.Stacks[0].Changes[0].Fields, func(f Field) bool { return strings.HasSuffix(f.Path, "[o]") && f.New == redacted }) {
		t.Errorf("the mount options are missing: %v", got)
	}
}

func TestHoldsSecret(t *testing.T) {
	for value, want := range map[string]bool{
		`["mysqld","--password","hunter2"]`:      true,
		`["mysqld","--password=hunter2"]`:        true,
		`["sh","-c","serve --apiToken hunter2"]`: true,
		`["sh","-c","DB_PWD='hunter2' serve"]`:   true,
		"Server=db;Password=hunter2":             true,
		"app:hunter2@tcp(db:3306)/app":           true,
		"https://:hunter2@example.com":           true,
		`Authorization "Basic YWxhZGRpbg=="`:     true,
		"bob $2a$14$x":                           true,
		"-----BEGIN EC PRIVATE KEY-----":         true,
		`["serve","--key","/run/secrets/key"]`:   false,
		`["serve","--key=/run/secrets/key"]`:     false,
		`["serve","--token","--verbose"]`:        false,
		`["serve","--bars=3","--author","x"]`:    false,
		"https://example.com:8443/user@host":     false,
		"Basic features and a bearer of news":    false,
		"keyword=up, bypass=/api/*":              false,
	} {
		if holdsSecret(value) != want {
			t.Errorf("%s: got %v", value, !want)
		}
	}
}
