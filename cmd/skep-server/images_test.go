//go:build stack

package main

import (
	"archive/tar"
	"bytes"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"

	"skep/internal/swarmtest"
)

// image is a tar of a container's files, made of this machine's.
type image struct {
	t    *testing.T
	tar  *tar.Writer
	out  bytes.Buffer
	done map[string]bool
}

func newImage(t *testing.T) *image {
	i := &image{t: t, done: map[string]bool{}}
	i.tar = tar.NewWriter(&i.out)
	i.entry(&tar.Header{Typeflag: tar.TypeDir, Name: "tmp/", Mode: 0o1777}, nil)
	return i
}

func (i *image) entry(h *tar.Header, content []byte) {
	i.t.Helper()
	if i.done[h.Name] {
		return
	}
	i.done[h.Name] = true
	h.Size = int64(len(content))
	if err := i.tar.WriteHeader(h); err != nil {
		i.t.Fatal(err)
	}
	if _, err := i.tar.Write(content); err != nil {
		i.t.Fatal(err)
	}
}

// file puts a file at a path; its content may be text.
func (i *image) file(to, content string, mode int64) {
	i.t.Helper()
	i.entry(&tar.Header{Typeflag: tar.TypeReg, Name: strings.TrimPrefix(to, "/"), Mode: mode}, []byte(content))
}

// from copies a file to a path, with the libraries that it is linked to.
func (i *image) from(to, file string) {
	i.t.Helper()
	content, err := os.ReadFile(file)
	if err != nil {
		i.t.Fatal(err)
	}
	i.file(to, string(content), 0o755)
	if bytes.HasPrefix(content, []byte("\x7fELF")) {
		out, err := exec.Command("ldd", file).Output()
		if err != nil { // a static one
			return
		}
		for _, m := range linked.FindAllStringSubmatch(string(out), -1) {
			library, err := os.ReadFile(m[1])
			if err != nil {
				i.t.Fatal(err)
			}
			i.file(m[1], string(library), 0o755)
		}
	}
}

// linked are the files in what ldd says.
var linked = regexp.MustCompile(`(/\S+) \(0x`)

// folder copies a folder to the same place.
func (i *image) folder(dir string) {
	i.t.Helper()
	err := filepath.WalkDir(dir, func(file string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || strings.HasSuffix(file, ".bc") || strings.Contains(file, "llvmjit") { // a compiler of its own
			return err
		}
		i.from(file, file)
		return nil
	})
	if err != nil {
		i.t.Fatal(err)
	}
}

// tools copies programs to /bin.
func (i *image) tools(names ...string) {
	i.t.Helper()
	for _, name := range names {
		file, err := exec.LookPath(name)
		if err != nil {
			i.t.Fatal(err)
		}
		i.from("/bin/"+name, file)
	}
}

// on imports it on nodes, with lines of a Dockerfile.
func (i *image) on(nodes []*swarmtest.Node, name string, settings ...string) {
	i.t.Helper()
	if err := i.tar.Close(); err != nil {
		i.t.Fatal(err)
	}
	file := filepath.Join(i.t.TempDir(), "image.tar")
	if err := os.WriteFile(file, i.out.Bytes(), 0o644); err != nil {
		i.t.Fatal(err)
	}
	var args []string
	for _, s := range settings {
		args = append(args, "--change", s)
	}
	var wait sync.WaitGroup
	errs := make([]error, len(nodes))
	for n, node := range nodes {
		wait.Go(func() { _, errs[n] = node.Docker(append(append([]string{"import"}, args...), file, name)...) })
	}
	wait.Wait()
	if err := errors.Join(errs...); err != nil {
		i.t.Fatal(err)
	}
}

// dockerfile makes an image of this repository as its Dockerfile says, but with
// certificates of the test's.
func dockerfile(t *testing.T, nodes []*swarmtest.Node, name string, certificates []byte) {
	t.Helper()
	content, err := os.ReadFile("../" + name + "/Dockerfile")
	if err != nil {
		t.Fatal(err)
	}
	i := newImage(t)
	var settings []string
	for line := range strings.Lines(string(content)) {
		line = strings.TrimSpace(line)
		for _, binary := range built.FindAllStringSubmatch(line, -1) {
			i.from("/"+binary[1], swarmtest.Binary(t, "skep/cmd/"+binary[1]))
		}
		if strings.Contains(line, "/ca-certificates.crt ") {
			i.file("/etc/ssl/certs/ca-certificates.crt", string(certificates), 0o644)
		}
		if word, _, _ := strings.Cut(line, " "); strings.Contains(" ENV EXPOSE USER HEALTHCHECK ENTRYPOINT ", " "+word+" ") && word != "" {
			settings = append(settings, line)
		}
	}
	i.on(nodes, "ghcr.io/skep-sh/"+name+":0.1.0", settings...)
}

// built are the binaries that a line of a Dockerfile copies.
var built = regexp.MustCompile(`\$TARGETPLATFORM/([a-z-]+)`)

// engineImage is Hatchet's engine, built from its module, as its own image has
// it: with a shell, and a wget for the health check.
func engineImage(t *testing.T, nodes []*swarmtest.Node) {
	t.Helper()
	i := newImage(t)
	i.from("/hatchet/hatchet-engine", swarmtest.Binary(t, "github.com/hatchet-dev/hatchet/cmd/hatchet-engine"))
	i.tools("sh", "cat", "curl")
	i.file("/bin/wget", "#!/bin/sh\nfor url; do :; done\nexec curl -fsS -o /dev/null \"$url\"\n", 0o755)
	i.on(nodes, "ghcr.io/hatchet-dev/hatchet/hatchet-engine:v0.104.7", `ENTRYPOINT ["/hatchet/hatchet-engine"]`, "ENV PATH=/bin")
}

// postgresImage is Debian's PostgreSQL with so much of the official image's
// entrypoint as the stack asks for.
func postgresImage(t *testing.T, nodes []*swarmtest.Node) {
	t.Helper()
	installed, err := filepath.Glob("/usr/lib/postgresql/*/bin/postgres")
	if err != nil || len(installed) == 0 {
		t.Fatalf("PostgreSQL is not installed: %v", err)
	}
	bin := path.Dir(installed[len(installed)-1])
	i := newImage(t)
	i.folder(path.Dir(bin))
	i.folder("/usr/share/postgresql/" + path.Base(path.Dir(bin)))
	i.tools("bash", "sh", "cat", "id", "mkdir", "chown", "grep", "setpriv", "env", "locale")
	i.from("/usr/share/zoneinfo/UTC", "/usr/share/zoneinfo/UTC")
	i.file("/etc/passwd", "root:x:0:0::/:/bin/sh\npostgres:x:999:999::/:/bin/sh\n", 0o644)
	i.file("/etc/group", "root:x:0:\npostgres:x:999:\n", 0o644)
	i.file("/entrypoint.sh", postgresEntrypoint, 0o755)
	i.on(nodes, "postgres:17.10", `ENTRYPOINT ["/entrypoint.sh"]`, `CMD ["postgres"]`, "ENV PATH="+bin+":/bin", "ENV PGDATA=/var/lib/postgresql/data")
}

const postgresEntrypoint = `#!/bin/bash
set -eu
if [ "$(id -u)" = 0 ]; then
	mkdir -p "$PGDATA" /var/run/postgresql
	chown 999:999 "$PGDATA" /var/run/postgresql
	exec setpriv --reuid=999 --regid=999 --clear-groups -- "$0" "$@"
fi
if [ ! -s "$PGDATA/PG_VERSION" ]; then
	initdb -D "$PGDATA" -U postgres -E UTF8 --locale=C --no-sync --auth-local=trust --auth-host=scram-sha-256 --pwfile="$POSTGRES_PASSWORD_FILE"
	echo 'host all all all scram-sha-256' >>"$PGDATA/pg_hba.conf"
	pg_ctl -D "$PGDATA" -w -o "-c listen_addresses=''" start
	for file in /docker-entrypoint-initdb.d/*; do
		case $file in
		*.sh) "$file" ;;
		*.sql) psql -v ON_ERROR_STOP=1 -U postgres -d postgres -f "$file" ;;
		esac
	done
	pg_ctl -D "$PGDATA" -m fast -w stop
fi
exec "$@" -c listen_addresses='*' -c timezone=UTC
`

// images makes all that the stack runs, on every node.
func (s *stackPlane) images(authority []byte) {
	s.Helper()
	nodes := s.cluster.Nodes
	for _, name := range []string{"skep-server", "skep-worker"} {
		dockerfile(s.T, nodes, name, authority)
	}
	engineImage(s.T, nodes)
	postgresImage(s.T, nodes)
	for name, command := range map[string]string{
		"ghcr.io/skep-sh/skep-ingress:0.1.0": "skep-ingress", "ghcr.io/skep-sh/skep-dockerproxy:0.1.0": "skep-dockerproxy",
		"ghcr.io/skep-sh/whoami:0.1.0": "whoami",
	} {
		if err := s.cluster.Import(name, swarmtest.Binary(s.T, "skep/cmd/"+command)); err != nil {
			s.Fatal(err)
		}
	}
}
