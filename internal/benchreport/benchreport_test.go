package benchreport

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"io"
	"strings"
	"testing"
)

func TestRun(t *testing.T) {
	for name, c := range map[string]struct {
		args    []string
		failure error
		code    int
		stdout  string
		stderr  string // a part of it
	}{
		"a section":        {stdout: "5 rounds"},
		"a flag":           {args: []string{"-rounds", "2"}, stdout: "2 rounds"},
		"a failure":        {failure: errors.New("no HAProxy"), code: 1, stderr: "report: no HAProxy"},
		"no such flag":     {args: []string{"-nope"}, code: 2, stderr: "-nope"},
		"nothing measured": {args: []string{"-rounds", "0"}, code: 2, stderr: "at least 1"},
		"no number":        {args: []string{"-rounds", "x"}, code: 2, stderr: "at least 1"},
		"an argument":      {args: []string{"out.md"}, code: 2, stderr: `"out.md"`},
	} {
		t.Run(name, func(t *testing.T) {
			flags := flag.NewFlagSet("report", flag.ContinueOnError)
			rounds := Count(flags, "rounds", 5, "measure each `N` times")
			var stdout, stderr bytes.Buffer
			code := Run(t.Context(), flags, c.args, func(_ context.Context, progress io.Writer) ([]byte, error) {
				return []byte((&count{*rounds}).String() + " rounds"), c.failure
			}, &stdout, &stderr)
			if code != c.code || stdout.String() != c.stdout || !strings.Contains(stderr.String(), c.stderr) {
				t.Errorf("got %d, %q, %q", code, stdout.String(), stderr.String())
			}
		})
	}
}
