package storage_test

import (
	"net"
	"os"
	"path/filepath"
	"testing"

	"skep/generator/stack"
	"skep/services/ingress"
)

// The offline check of labels knows the module and asks no database.
func TestOfflineCheckDoesNotDial(t *testing.T) {
	dir, err := os.MkdirTemp("", "skep-offline-") // not t.TempDir: a socket's path is short
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	database, err := net.Listen("unix", filepath.Join(dir, ".s.PGSQL.5432"))
	if err != nil {
		t.Fatal(err)
	}
	dialled := make(chan bool)
	go func() {
		conn, err := database.Accept()
		if err == nil {
			conn.Close()
		}
		dialled <- err == nil
	}()

	check := func(option, value string) []stack.Refusal {
		return ingress.Offline{}.Refusals(t.Context(), []stack.LabelSet{
			{Service: stack.ServiceRef{Stack: "ingress", Service: "caddy"}, Labels: map[string]string{
				"caddy_100.storage": "postgres", "caddy_100.storage." + option: value,
			}},
			{Service: stack.ServiceRef{Stack: "a", Service: "web"}, Labels: map[string]string{
				"caddy": "a.example.com", "caddy.respond": "hello",
			}},
		})
	}
	for option, value := range map[string]string{"dsn": `"host=` + dir + ` user=bee"`, "dsn_file": "/run/secrets/not-here"} {
		if got := check(option, value); len(got) > 0 {
			t.Errorf("%s: %v", option, got)
		}
	}
	if got := check("hosts", "a"); len(got) == 0 {
		t.Error("an option that does not exist was accepted")
	}
	database.Close()
	if <-dialled {
		t.Error("the database was dialled")
	}
}
