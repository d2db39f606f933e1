package process

import (
	"debug/elf"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"skep/secrets"
	"skep/services/worker"
	"skep/services/worker/output"
)

// binary finds what a job's command names. Jobs run skep, and what an operator
// allowed by its path.
func (l Launcher) binary(j worker.Job) (string, error) {
	if len(j.Command) == 0 {
		return "", fmt.Errorf("%w: the job has no command", worker.ErrRefused)
	}
	name, path := j.Command[0], l.Skep
	if name != "skep" {
		i := slices.IndexFunc(l.Commands, func(c string) bool { return filepath.Base(c) == name })
		if i < 0 {
			return "", fmt.Errorf("%w: this worker runs no containers, and %q is none of the commands that it may run on its own machine: %v",
				worker.ErrRefused, name, l.names())
		}
		path = l.Commands[i]
	}
	binary, err := elf.Open(path)
	if err != nil {
		return "", fmt.Errorf("%w: %s is no program: %w", worker.ErrRefused, path, err)
	}
	defer binary.Close()
	if slices.ContainsFunc(binary.Progs, func(p *elf.Prog) bool { return p.Type == elf.PT_INTERP }) {
		return "", fmt.Errorf("%w: %s needs libraries, which a job's file system has not: build it as a static binary, with CGO_ENABLED=0", worker.ErrRefused, path)
	}
	return path, nil
}

func (l Launcher) names() []string {
	names := []string{"skep"}
	for _, c := range l.Commands {
		names = append(names, filepath.Base(c))
	}
	return names
}

// place is a job's file system.
type place struct {
	root  string
	owner bool // files are given to nobody
	exec  string
	relay *relay
	env   []string
	mask  *output.Mask
}

func (p *place) path(name string) string { return filepath.Join(p.root, name) }

func (p *place) furnish(binary string, j worker.Job) error {
	p.exec = "/bin/" + filepath.Base(j.Command[0])
	for _, dir := range []string{"bin", "tmp", "home", "run/secrets", "etc/ssl/certs"} {
		if err := os.MkdirAll(p.path(dir), 0o755); err != nil {
			return err
		}
	}
	if err := p.copy(binary, p.exec, 0o755); err != nil {
		return err
	}
	env := map[string]string{"HOME": "/home", "PATH": "/bin", "TMPDIR": "/tmp"}
	maps.Copy(env, j.Env)
	if j.Swarm {
		for _, name := range []string{"etc/resolv.conf", "etc/hosts", "etc/ssl/certs/ca-certificates.crt"} {
			if err := p.copy("/"+name, name, 0o644); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return err
			}
		}
		if err := p.relayDocker(env); err != nil {
			return fmt.Errorf("relay the Docker API to the job: %w", err)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(env)) {
		p.env = append(p.env, name+"="+env[name])
	}
	if err := p.writeSecrets(j.Secrets); err != nil {
		return err
	}
	if err := p.writeFiles(j.Files); err != nil {
		return err
	}
	for _, dir := range []string{"tmp", "home", "run"} {
		if err := p.hand(dir); err != nil {
			return err
		}
	}
	return nil
}

// hand gives a folder and all in it to the job.
func (p *place) hand(dir string) error {
	if !p.owner {
		return nil
	}
	return filepath.WalkDir(p.path(dir), func(path string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		return os.Lchown(path, nobody, nobody)
	})
}

// writeSecrets puts secrets into files, and makes what hides them in output.
func (p *place) writeSecrets(values map[string]secrets.Value) error {
	var hide [][]byte
	for name, value := range values {
		if name != filepath.Base(name) || !filepath.IsLocal(name) {
			return fmt.Errorf("%w: %q is no name of a secret", worker.ErrRefused, name)
		}
		content, err := value.Bytes()
		if err == nil {
			err = os.WriteFile(p.path("run/secrets/"+name), content, 0o400)
		}
		if err != nil {
			return fmt.Errorf("hand over secret %s: %w", name, err)
		}
		hide = append(hide, content)
	}
	p.mask = output.NewMask(hide...)
	return nil
}

func (p *place) writeFiles(files map[string][]byte) error {
	if len(files) == 0 {
		return nil
	}
	if err := os.MkdirAll(p.path(worker.EventFolder), 0o755); err != nil {
		return err
	}
	for name, content := range files {
		if name != filepath.Base(name) || !filepath.IsLocal(name) {
			return fmt.Errorf("%w: %q is no name of a file", worker.ErrRefused, name)
		}
		if err := os.WriteFile(p.path(filepath.Join(worker.EventFolder, name)), content, 0o400); err != nil {
			return err
		}
	}
	return nil
}

// copy lets nobody fork meanwhile: a child would have the file open for writing
// until it runs its own program, and a binary that is open cannot be run
// (golang.org/issue/22315).
func (p *place) copy(from, to string, mode os.FileMode) (err error) {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	syscall.ForkLock.RLock()
	defer syscall.ForkLock.RUnlock()
	out, err := os.OpenFile(p.path(to), os.O_CREATE|os.O_EXCL|os.O_WRONLY, mode)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, out.Close()) }()
	_, err = io.Copy(out, in)
	return err
}

func (p *place) close() {
	if p.relay != nil {
		p.relay.close()
	}
}

// hostFile is where a unix:// address points to.
func hostFile(address string) (string, bool) { return strings.CutPrefix(address, "unix://") }
