package swarm

import (
	"encoding/binary"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/moby/moby/api/types/swarm"
	"github.com/moby/moby/client"
)

// An engine frames the lines of a log, except those of a terminal.
func TestLogs(t *testing.T) {
	frame := func(stream byte, text string) string {
		header := []byte{stream, 0, 0, 0, 0, 0, 0, 0}
		binary.BigEndian.PutUint32(header[4:], uint32(len(text)))
		return string(header) + text
	}
	bodies := map[string]string{
		"/services/plain/logs": frame(1, "one\n") + frame(2, "two\n"),
		"/tasks/plain/logs":    frame(1, "one\n") + frame(2, "two\n"),
		"/services/tty/logs":   "one\r\ntwo\r\n",
		"/tasks/tty/logs":      "one\r\ntwo\r\n",
	}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, path, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/") // without the API's version
		io.WriteString(w, bodies["/"+path])
	}))
	defer server.Close()
	c, err := New(client.WithHost("tcp://"+server.Listener.Addr().String()), client.WithAPIVersion("1.44"))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	for name, tty := range map[string]bool{"plain": false, "tty": true} {
		spec := swarm.TaskSpec{ContainerSpec: &swarm.ContainerSpec{TTY: tty}}
		var service, task strings.Builder
		if err := c.ServiceLogs(t.Context(), swarm.Service{ID: name, Spec: swarm.ServiceSpec{TaskTemplate: spec}}, LogOptions{}, &service); err != nil {
			t.Error(err)
		}
		if err := c.TaskLog(t.Context(), swarm.Task{ID: name, Spec: spec}, 10, &task); err != nil {
			t.Error(err)
		}
		for _, got := range []string{service.String(), task.String()} {
			if strings.ReplaceAll(got, "\r", "") != "one\ntwo\n" {
				t.Errorf("%s: got %q", name, got)
			}
		}
	}
}
