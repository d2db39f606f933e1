package swarmjob

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"log/slog"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/client"

	"skep/services/controlplane"
	"skep/services/worker"
	"skep/services/worker/postscript"
)

// removedSwarm is a Swarm that a job's service was removed from, and whose
// engines deliver the log late. Everything else that is asked for is not there.
type removedSwarm struct {
	API
	log  []byte
	late time.Duration
}

func (s removedSwarm) ServiceLogs(ctx context.Context, _ string, o client.ServiceLogsOptions) (client.ServiceLogsResult, error) {
	if !o.Follow {
		return nil, errdefs.ErrNotFound
	}
	r, w := io.Pipe()
	go func() { // ends with the reader, or with the context
		select {
		case <-time.After(s.late):
			_, _ = w.Write(s.log) // nobody may read any more
			<-ctx.Done()
		case <-ctx.Done():
		}
		w.CloseWithError(ctx.Err())
	}()
	return r, nil
}

func (s removedSwarm) TaskList(_ context.Context, o client.TaskListOptions) (client.TaskListResult, error) {
	if len(o.Filters["service"]) > 0 {
		return client.TaskListResult{}, errdefs.ErrNotFound
	}
	return client.TaskListResult{}, nil
}

func (removedSwarm) NetworkList(context.Context, client.NetworkListOptions) (client.NetworkListResult, error) {
	return client.NetworkListResult{}, nil
}

func (removedSwarm) ConfigList(context.Context, client.ConfigListOptions) (client.ConfigListResult, error) {
	return client.ConfigListResult{}, nil
}

func (removedSwarm) SecretList(context.Context, client.SecretListOptions) (client.SecretListResult, error) {
	return client.SecretListResult{}, nil
}

func (removedSwarm) ServiceList(context.Context, client.ServiceListOptions) (client.ServiceListResult, error) {
	return client.ServiceListResult{}, nil
}

// The last words of a job that was removed are heard, also from an engine that
// takes its time; a job whose last word has come is not waited for.
func TestLastWordsComeLate(t *testing.T) {
	tree := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		var said []string
		job := worker.Job{
			Run: "01234567-89ab-7def-8123-456789abcdef", Step: "deploy", Tree: tree, Command: []string{"skep", "deploy"}, Deadline: time.Hour,
			Output: func(_, line string) { said = append(said, line) },
		}
		p, err := newPlan(Launcher{Image: "skep:1"}, job, "launch")
		if err != nil {
			t.Fatal(err)
		}
		var text, log bytes.Buffer
		text.WriteString("taken back\n")
		if err := postscript.Write(&text, p.key.Token(), "", postscript.Note{}); err != nil {
			t.Fatal(err)
		}
		header := binary.BigEndian.AppendUint32([]byte{1, 0, 0, 0}, uint32(text.Len())) // 1: standard output
		log.Write(header)
		log.Write(text.Bytes())

		const late = 10 * time.Second
		l := Launcher{API: removedSwarm{log: log.Bytes(), late: late}, Log: slog.New(slog.DiscardHandler)}
		began := time.Now() // of the bubble: exact
		if _, err := l.watch(t.Context(), p, "service"); !errors.Is(err, errRemoved) {
			t.Errorf("watch = %v", err)
		}
		if !slices.Contains(said, "taken back") {
			t.Errorf("the job said %q", said)
		}
		if took := time.Since(began); took != late {
			t.Errorf("it was listened to for %v", took)
		}
	})
}

// A line that makes this process panic breaks its own job, and no other.
func TestOutputPanics(t *testing.T) {
	tree := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		job := worker.Job{
			Run: "01234567-89ab-7def-8123-456789abcdef", Step: "deploy", Tree: tree, Command: []string{"skep", "deploy"}, Deadline: time.Hour,
			Output: func(string, string) { panic("planted") },
		}
		p, err := newPlan(Launcher{Image: "skep:1"}, job, "launch")
		if err != nil {
			t.Fatal(err)
		}
		log := append(binary.BigEndian.AppendUint32([]byte{1, 0, 0, 0}, 6), "hello\n"...) // 1: standard output
		l := Launcher{API: removedSwarm{log: log}, Log: slog.New(slog.DiscardHandler)}
		var broken *controlplane.Panic
		if _, err := l.watch(t.Context(), p, "service"); !errors.As(err, &broken) || broken.Kind != "string" {
			t.Errorf("watch = %v", err)
		}
	})
}
