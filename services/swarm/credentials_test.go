package swarm

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/moby/moby/api/pkg/authconfig"
	"github.com/moby/moby/api/types/swarm"
	"github.com/moby/moby/client"
)

// Logins come from the configuration file and from a helper, and go with the
// services whose registry they are for, and nowhere else.
func TestCredentialsGoWithServices(t *testing.T) {
	dir := t.TempDir()
	config := `{
		"auths": {"file.example.com": {"auth": "bWU6aHVudGVyMg=="}, "https://index.docker.io/v1/": {"auth": "aHViOmh1bnRlcjI="}},
		"credHelpers": {"helper.example.com": "skeptest"}
	}`
	helper := "#!/bin/sh\nread server\necho \"$server\" >>" + filepath.Join(dir, "asked") + "\n" +
		`echo '{"ServerURL":"'"$server"'","Username":"helped","Secret":"hunter2"}'` + "\n"
	for name, text := range map[string]string{"config.json": config, "docker-credential-skeptest": helper} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))

	users := map[string]string{} // by path
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, path, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/") // without the API's version
		users[path] = ""
		if header := r.Header.Get("X-Registry-Auth"); header != "" {
			login, err := authconfig.Decode(header)
			if err != nil || login.Password != "hunter2" {
				t.Errorf("%s: %v", path, err)
			}
			users[path] = login.Username
		}
		json.NewEncoder(w).Encode(map[string]string{"ID": "id"})
	}))
	defer server.Close()
	c, err := New(client.WithHost("tcp://"+server.Listener.Addr().String()), client.WithAPIVersion("1.44"))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	write := func(image string) (created, updated string) {
		spec := swarm.ServiceSpec{TaskTemplate: swarm.TaskSpec{ContainerSpec: &swarm.ContainerSpec{Image: image}}}
		if _, err := c.CreateService(t.Context(), spec, false); err != nil {
			t.Fatal(err)
		}
		if err := c.UpdateService(t.Context(), "id", swarm.Version{}, spec, false); err != nil {
			t.Fatal(err)
		}
		return users["services/create"], users["services/id/update"]
	}
	if created, updated := write("file.example.com/app:1"); created+updated != "" {
		t.Errorf("it sent the login of %s%s, which nobody asked for", created, updated)
	}
	if c.Credentials, err = LoadCredentials(dir); err != nil {
		t.Fatal(err)
	}
	for image, want := range map[string]string{
		"file.example.com/app:1": "me", "helper.example.com/app:1": "helped", "helper.example.com/other:1": "helped",
		"app:1": "hub", "other.example.com/app:1": "", "file.example.com/app@sha256:" + strings.Repeat("a", 64): "me",
	} {
		if created, updated := write(image); created != want || updated != want {
			t.Errorf("%s: created as %q, updated as %q, want %q", image, created, updated, want)
		}
	}
	asked, err := os.ReadFile(filepath.Join(dir, "asked"))
	if err != nil || string(asked) != "helper.example.com\n" {
		t.Errorf("the helper was asked for %q, %v", asked, err)
	}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s"} {
		if text := fmt.Sprintf(verb, c.Credentials); text != "[redacted]" {
			t.Errorf("%s prints %s", verb, text)
		}
	}
}

// A helper that fails stops the change; it would pull nothing.
func TestCredentialsOfAHelperThatFails(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{
		"config.json":                `{"credHelpers": {"helper.example.com": "skeptest"}}`,
		"docker-credential-skeptest": "#!/bin/sh\necho 'the keyring is locked'\nexit 1\n",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
	credentials, err := LoadCredentials(dir)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := credentials.header("helper.example.com/app:1"); err == nil || !strings.Contains(err.Error(), "helper.example.com") || !strings.Contains(err.Error(), "keyring is locked") {
		t.Errorf("got %v", err)
	}
}
