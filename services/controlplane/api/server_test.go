package api

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"

	"skep/internal/logtest"
	"skep/services/controlplane"
)

func TestNotReady(t *testing.T) {
	s := serve(t, newFakeStore(), func(o *Options) {
		o.Ready = func(context.Context) error { return errors.New("planted-detail") }
	})
	a := s.call(t, "GET", "/readyz", "", nil)
	if a.problem(t); a.status != 503 || strings.Contains(a.body, "planted") || !strings.Contains(s.logged.String(), "planted-detail") {
		t.Errorf("got %d %s", a.status, a.body)
	}
	if a := s.call(t, "GET", "/healthz", "", nil); a.status != 200 {
		t.Errorf("the process lives: %d", a.status)
	}
}

func TestPanicIs500(t *testing.T) {
	f := newFakeStore() // most of its methods are missing
	s := serve(t, f)
	token := f.token("root", controlplane.ScopeAdmin)
	a := s.call(t, "DELETE", Prefix+"/projects/x", token, nil)
	if p := a.problem(t); p.Status != 500 || !strings.Contains(s.logged.String(), strings.TrimPrefix(p.Instance, "urn:uuid:")) {
		t.Errorf("got %d %s", a.status, a.body)
	}
	if rows := f.audited(); len(rows) != 1 || rows[0].Outcome != "failed" || rows[0].Target != "x" {
		t.Errorf("the audit log has %+v", rows)
	}
	if a := s.call(t, "GET", Prefix+"/version", token, nil); a.status != 200 {
		t.Errorf("the server is not well afterwards: %d", a.status)
	}
}

func TestLogHandlerAddsTheRequestOnce(t *testing.T) {
	var out logtest.Buffer
	h := LogHandler(LogHandler(slog.NewTextHandler(&out, nil)))
	ctx := withID(t.Context(), "r1")
	slog.New(h).With("a", 1).InfoContext(ctx, "x")
	if strings.Count(out.String(), "request=r1") != 1 {
		t.Errorf("the line is %s", out.String())
	}
}
