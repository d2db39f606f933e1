package controller

import (
	"fmt"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"

	"skep/services/ingress/dockertest"
)

// thousand are services like those that the generator writes.
func (h *harness) thousand(n int) {
	var services []dockertest.Service
	for i := range n {
		services = append(services, h.service(fmt.Sprintf("s%04d_web", i), fmt.Sprintf("s%04d", i), nil, fmt.Sprintf(`
			caddy: http://s%04d.example.com
			caddy.@denied.not: client_ip 10.0.0.0/8 127.0.0.0/8
			caddy.error: @denied 403
			caddy.header.X-Service: %d
			caddy.reverse_proxy: {{upstreams PORT}}`, i, i)))
	}
	h.engine.Put(services...)
}

func TestManyServices(t *testing.T) {
	h := newHarness(t)
	h.settings.TaskPoll = caddy.Duration(time.Hour)
	h.thousand(many)
	h.start()
	h.want(fmt.Sprintf("s%04d.example.com", many-1), "/", 200, "127.0.0.1")
	h.now("s0000.example.com", "/", 200, "127.0.0.1")
	if n := h.engine.Calls("/tasks"); n > 5 {
		t.Errorf("%d listings of tasks", n)
	}
	h.updated()
	loaded := caddy.ActiveContext().Context
	h.put("s0100_web", "s0100", nil, site("s0100.example.com", "changed"))
	h.want("s0100.example.com", "/", 200, "changed")
	if caddy.ActiveContext().Context != loaded {
		t.Error("one change made Caddy load everything")
	}
}

func BenchmarkFirst(b *testing.B) {
	for _, n := range []int{0, 200, 1000} {
		b.Run(fmt.Sprintf("services=%d", n), func(b *testing.B) {
			for b.Loop() {
				b.StopTimer()
				h := newHarness(b)
				h.thousand(n)
				h.put("last_web", "last", nil, site("last.example.com", "last"))
				b.StartTimer()
				h.start()
				h.want("last.example.com", "/", 200, "last")
				b.StopTimer()
				h.stop()
				b.StartTimer()
			}
		})
	}
}

func BenchmarkChange(b *testing.B) {
	for _, n := range []int{0, 200, 1000} {
		b.Run(fmt.Sprintf("services=%d", n), func(b *testing.B) {
			h := newHarness(b)
			h.settings.TaskPoll = 0
			h.thousand(n)
			h.put("last_web", "last", nil, site("last.example.com", "first"))
			h.start()
			h.want("last.example.com", "/", 200, "first")
			i := 0
			for b.Loop() {
				i++
				text := fmt.Sprintf("change %d", i)
				h.put("last_web", "last", nil, site("last.example.com", text))
				h.want("last.example.com", "/", 200, text)
			}
		})
	}
}
