package watch

import (
	"context"
	"errors"
	"log/slog"
	"testing"
	"time"

	"skep/services/ingress/docker"
	"skep/services/ingress/dockertest"
	"skep/services/ingress/label"
)

// follow watches an engine until the test ends; what it publishes comes out.
func follow(t *testing.T, engine *dockertest.Engine, o Options) <-chan label.State {
	t.Helper()
	client, err := docker.New(engine.Host())
	if err != nil {
		t.Fatal(err)
	}
	states := make(chan label.State, 1000)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	w := &Watch{
		Engine: client, Options: o, Log: slog.New(slog.DiscardHandler),
		Publish: func(s label.State) { states <- s }, Connected: func(error) {},
	}
	go func() { done <- w.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
		client.Close()
	})
	return states
}

var slow = Options{Throttle: time.Millisecond, TaskPoll: time.Hour, Resync: time.Hour, Retry: 50 * time.Millisecond}

// until waits for a state.
func until(t *testing.T, states <-chan label.State, what string, is func(label.State) bool) {
	t.Helper()
	timeout := time.After(3 * time.Minute)
	for {
		select {
		case s := <-states:
			if is(s) {
				return
			}
		case <-timeout:
			t.Fatalf("no state with %s", what)
		}
	}
}

func named(n int) func(label.State) bool {
	return func(s label.State) bool { return len(s.Services) == n }
}

func TestEventsListWhatTheyName(t *testing.T) {
	engine := dockertest.New(t)
	for _, name := range []string{"a", "b", "c"} {
		engine.Put(dockertest.Service{Name: name, Tasks: []string{"10.0.0.1"}})
	}
	states := follow(t, engine, slow)
	until(t, states, "three services", named(3))
	if n := engine.Calls("/tasks"); n != 1 {
		t.Errorf("%d listings of tasks for three services, want one", n)
	}
	engine.Calls("/services")
	engine.Put(dockertest.Service{Name: "b", Labels: map[string]string{"x": "y"}, Tasks: []string{"10.0.0.9"}})
	until(t, states, "the change", func(s label.State) bool {
		for i := range s.Services {
			if s.Services[i].Spec.Labels["x"] == "y" {
				return len(s.Services) == 3 && len(s.Tasks) == 3
			}
		}
		return false
	})
	engine.Remove("a")
	until(t, states, "two services", func(s label.State) bool { return len(s.Services) == 2 && len(s.Tasks) == 2 })
}

func TestTasksOfOtherNodesArePolled(t *testing.T) {
	engine := dockertest.New(t)
	engine.Put(dockertest.Service{Name: "a", Tasks: []string{"10.0.0.1"}})
	o := slow
	o.TaskPoll = 10 * time.Millisecond
	states := follow(t, engine, o)
	until(t, states, "the service", named(1))
	engine.MoveTasks("a", "10.0.0.2")
	until(t, states, "the move", func(s label.State) bool {
		return len(s.Tasks) == 1 && s.Tasks[0].NetworksAttachments[0].Addresses[0].Addr().String() == "10.0.0.2"
	})
}

func TestLostConnectionIsTriedAgain(t *testing.T) {
	engine := dockertest.New(t)
	states := follow(t, engine, slow)
	until(t, states, "nothing", named(0))
	for i := range 3 {
		engine.Stop()
		engine.Put(dockertest.Service{Name: string(rune('a' + i))}) // no event of it is ever seen
		if err := engine.Start(); err != nil {
			t.Fatal(err)
		}
		until(t, states, "what happened meanwhile", named(i+1))
	}
}
