package storage

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/certmagic"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest"

	"skep/internal/logtest"
)

// testPace is quick, and leaves a busy machine time to renew a lease.
var testPace = pace{timeout: 10 * time.Second, retry: 20 * time.Millisecond, lease: 9 * time.Second, poll: 20 * time.Millisecond}

// alonePace is that of a store which asks nothing by itself: what it says comes
// of what the test does.
var alonePace = func() pace {
	p := testPace
	p.lease = time.Hour
	return p
}()

// newStore opens a store with a copy of its own.
func newStore(t *testing.T, dsn string) *store { return openStore(t, dsn, t.TempDir(), testPace) }

func openStore(t *testing.T, dsn, dir string, p pace) *store {
	t.Helper()
	logger := zaptest.NewLogger(t)
	s, err := open(t.Context(), dsn, dir, p, func() *zap.Logger { return logger })
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Destruct() })
	return s
}

// logger is where a store finds a log that goes to a buffer.
func logger(to *logtest.Buffer) func() *zap.Logger {
	log := zap.New(zapcore.NewCore(zapcore.NewJSONEncoder(zap.NewProductionEncoderConfig()), zapcore.AddSync(to), zap.DebugLevel))
	return func() *zap.Logger { return log }
}

// roleVariable makes a process of the test binary one of the ingresses below.
const roleVariable = "SKEP_STORAGE_TEST_ROLE"

func TestMain(m *testing.M) {
	role, ok := roles[os.Getenv(roleVariable)]
	if !ok {
		os.Exit(m.Run())
	}
	if err := role(context.Background(), os.Args[1:]); err != nil {
		fmt.Println("error:", err)
		os.Exit(1)
	}
}

// roles print a line when they are ready, and end with their standard input.
var roles = map[string]func(ctx context.Context, args []string) error{
	"hold": func(ctx context.Context, args []string) error {
		return withStore(ctx, args, func(s certmagic.Storage) error {
			if err := s.Lock(ctx, args[2]); err != nil {
				return err
			}
			fmt.Println("locked")
			_, err := io.Copy(io.Discard, os.Stdin)
			return errors.Join(err, s.Unlock(ctx, args[2]))
		})
	},
	"count": func(ctx context.Context, args []string) error {
		return withStore(ctx, args, func(s certmagic.Storage) error {
			for range rounds {
				if err := count(ctx, s); err != nil {
					return err
				}
			}
			fmt.Println("counted")
			return nil
		})
	},
	"caddy": func(_ context.Context, args []string) error {
		config, err := os.ReadFile(args[0])
		if err != nil {
			return err
		}
		if err := caddy.Load(config, true); err != nil {
			return err
		}
		fmt.Println("serving")
		_, err = io.Copy(io.Discard, os.Stdin)
		return errors.Join(err, caddy.Stop())
	},
}

func withStore(ctx context.Context, args []string, f func(certmagic.Storage) error) error {
	s, err := open(ctx, args[0], args[1], testPace, zap.NewNop)
	if err != nil {
		return err
	}
	return errors.Join(f(s), s.Destruct())
}

const rounds = 15

// count adds one to a number, which comes out wrong if two do it at once.
func count(ctx context.Context, s certmagic.Storage) error {
	if err := s.Lock(ctx, "count"); err != nil {
		return err
	}
	text, err := s.Load(ctx, "count")
	if err != nil {
		return err
	}
	n, err := strconv.Atoi(string(text))
	if err != nil {
		return err
	}
	if err := s.Store(ctx, "count", []byte(strconv.Itoa(n+1))); err != nil {
		return err
	}
	return s.Unlock(ctx, "count")
}

// process is a role that runs.
type process struct {
	cmd   *exec.Cmd
	stdin io.Closer
	lines chan string // of its standard output, which is read to the end
	err   *logtest.Buffer
}

// play starts a role in a process of its own.
func play(t *testing.T, role string, args ...string) *process {
	t.Helper()
	p := &process{cmd: exec.Command(os.Args[0], args...), lines: make(chan string, 100), err: &logtest.Buffer{}}
	home := t.TempDir()
	p.cmd.Env = append(os.Environ(), roleVariable+"="+role, "HOME="+home, "XDG_DATA_HOME="+home, "XDG_CONFIG_HOME="+home)
	p.cmd.Stderr = p.err
	stdin, err := p.cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	p.stdin = stdin
	stdout, err := p.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	read := make(chan struct{})
	go func() {
		defer close(read)
		defer close(p.lines)
		for lines := bufio.NewScanner(stdout); lines.Scan(); {
			p.lines <- lines.Text()
		}
	}()
	t.Cleanup(func() {
		p.cmd.Process.Kill()
		<-read
		p.cmd.Wait()
		if t.Failed() {
			t.Logf("%s said:\n%s", role, p.err)
		}
	})
	return p
}

// expect waits for a line.
func (p *process) expect(t *testing.T, want string) {
	t.Helper()
	select {
	case line, ok := <-p.lines:
		if !ok || line != want {
			t.Fatalf("got %q, want %q\n%s", line, want, p.err)
		}
	case <-time.After(3 * time.Minute):
		t.Fatalf("it does not say %q\n%s", want, p.err)
	}
}

// end lets it finish by itself.
func (p *process) end(t *testing.T) {
	t.Helper()
	p.stdin.Close()
	for line := range p.lines {
		t.Error(line)
	}
}
