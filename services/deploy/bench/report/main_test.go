package main

import (
	"strings"
	"testing"
)

func TestRender(t *testing.T) {
	deploys, err := parse([]byte("goos: linux\nBenchmarkDeploy/services=50/stacks=5-2 \t 5\t 3000000000 ns/op\t 900000000 unchanged-docker-ns\t 100000000 unchanged-skep-ns\nPASS\n"))
	if err != nil {
		t.Fatal(err)
	}
	plans, err := parse([]byte("BenchmarkCompare/services=1000-2 3 700000000 ns/op\n"))
	if err != nil {
		t.Fatal(err)
	}
	got := render(deploys, plans)
	for _, want := range []string{"| unchanged | 50 | 5 | 100ms |  | 900ms | 9.0 |", "| 1000 | 700ms |"} {
		if !strings.Contains(got, want) {
			t.Errorf("it lacks %q:\n%s", want, got)
		}
	}
	if _, err := parse([]byte("ok\n")); err == nil {
		t.Error("no result is no error")
	}
}
