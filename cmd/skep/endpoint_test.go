package main

import (
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// overSSH stands in for ssh: whatever the host, it connects to the engine at
// ENGINE, as `docker system dial-stdio` does over there.
func overSSH() {
	if !slices.Contains(os.Args, "manager.example.com") || !strings.HasSuffix(strings.Join(os.Args, " "), "docker system dial-stdio") {
		fmt.Fprintf(os.Stderr, "what is asked for: %q\r\n", os.Args) // ssh ends its lines so
		os.Exit(1)
	}
	conn, err := net.Dial("tcp", os.Getenv("ENGINE"))
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	go io.Copy(conn, os.Stdin)
	io.Copy(os.Stdout, conn)
}

// Where docker would talk to another engine than skep, skep talks to none.
func TestDockerContext(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("DOCKER_CONFIG", dir)
	for name, c := range map[string]struct{ host, context, file, want string }{
		"nothing":             {},
		"none selected":       {file: `{"currentContext": "default"}`},
		"selected":            {file: `{"currentContext": "prod"}`, want: "prod"},
		"selected by name":    {file: `{"currentContext": "prod"}`, context: "lab", want: "lab"},
		"default by name":     {file: `{"currentContext": "prod"}`, context: "default"},
		"a host goes before":  {file: `{"currentContext": "prod"}`, context: "lab", host: "tcp://127.0.0.1:1"},
		"a file that is none": {file: `{`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Setenv("DOCKER_HOST", c.host)
			t.Setenv("DOCKER_CONTEXT", c.context)
			if err := os.WriteFile(filepath.Join(dir, "config.json"), []byte(c.file), 0o600); err != nil {
				t.Fatal(err)
			}
			_, err := endpoint()
			switch {
			case c.want == "" && err != nil:
				t.Error(err)
			case c.want != "" && (err == nil || !strings.Contains(err.Error(), `"`+c.want+`"`)):
				t.Errorf("got %v", err)
			}
		})
	}
}
