package swarmtest

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"time"
)

// Import makes an image from a static binary: the binary, an empty /tmp, and
// an entrypoint. Without an entrypoint it is the binary alone.
func (n *Node) Import(name, binary string, entrypoint ...string) error {
	content, err := os.ReadFile(binary)
	if err != nil {
		return err
	}
	base := filepath.Base(binary)
	if len(entrypoint) == 0 {
		entrypoint = []string{"/" + base}
	}
	var image bytes.Buffer
	w := tar.NewWriter(&image)
	for _, h := range []*tar.Header{
		{Typeflag: tar.TypeDir, Name: "tmp/", Mode: 0o1777},
		{Typeflag: tar.TypeReg, Name: base, Mode: 0o755, Size: int64(len(content))},
	} {
		if err := w.WriteHeader(h); err != nil {
			return err
		}
	}
	if _, err := w.Write(content); err != nil {
		return err
	}
	if err := w.Close(); err != nil {
		return err
	}
	words, err := json.Marshal(entrypoint)
	if err != nil {
		return err
	}
	_, err = n.docker(context.Background(), image.Bytes(), "import", "-c", "ENTRYPOINT "+string(words), "-", name)
	return err
}

// Deploy hands a Compose file to Swarm.
func (n *Node) Deploy(file, stack string) error {
	_, err := n.Docker("stack", "deploy", "--resolve-image", "never", "-c", file, stack)
	return err
}

// WaitRunning waits until every service of a stack has all its tasks running,
// and every job has completed.
func (n *Node) WaitRunning(stack string, timeout time.Duration) error {
	err := Poll(timeout, func() error {
		services, err := n.Docker("stack", "services", "--format", "{{.Name}} {{.Replicas}}", stack)
		if err != nil {
			return err
		}
		return converged(services)
	})
	if err == nil {
		return nil
	}
	tasks, _ := n.Docker("stack", "ps", "--no-trunc", "--format", "{{.Name}} {{.CurrentState}} {{.Error}}", stack)
	return fmt.Errorf("wait for stack %s: %w\n%s", stack, err, tasks)
}

// replicas is "2/3", or for a job "0/1 (1/1 completed)".
var replicas = regexp.MustCompile(`^(\d+)/(\d+)(?: \((\d+)/(\d+) completed\))?`)

// converged reads lines "name replicas".
func converged(services string) error {
	services = strings.TrimSpace(services)
	if services == "" {
		return fmt.Errorf("there is no service")
	}
	for line := range strings.SplitSeq(services, "\n") {
		name, counts, _ := strings.Cut(line, " ")
		m := replicas.FindStringSubmatch(counts)
		switch {
		case m == nil:
			return fmt.Errorf("%s: cannot read %q", name, counts)
		case m[3] != "" && m[3] == m[4]:
		case m[3] == "" && m[1] == m[2]:
		default:
			return fmt.Errorf("%s is at %s", name, counts)
		}
	}
	return nil
}
