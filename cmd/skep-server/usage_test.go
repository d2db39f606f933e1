package main

import (
	"bytes"
	"context"
	"strings"
	"testing"
	"time"
)

// What is wrong with the settings is said before anything starts.
func TestUsage(t *testing.T) {
	for name, test := range map[string]struct {
		args []string
		env  map[string]string
		code int
		want string
	}{
		"help":            {[]string{"--help"}, nil, exitDone, "skep-server token create --scope admin laptop"},
		"no such command": {[]string{"dance"}, nil, exitUsage, `there is no command "dance"`},
		"no database":     {[]string{"serve"}, nil, exitUsage, "Set SKEP_DATABASE_URL"},
		"no key":          {[]string{"serve"}, map[string]string{"SKEP_DATABASE_URL": "postgres:///x"}, exitUsage, "openssl rand -hex 32"},
		"a key that is none": {[]string{"serve"}, map[string]string{"SKEP_DATABASE_URL": "postgres:///x", "SKEP_DATABASE_KEY": "hunter2"}, exitFailed,
			"64 hexadecimal digits"},
		"no engine": {[]string{"serve"}, map[string]string{"SKEP_DATABASE_URL": "postgres:///x", "SKEP_DATABASE_KEY": strings.Repeat("0a", 32)}, exitUsage,
			"--engine-database"},
		"no token of it": {[]string{"serve"}, map[string]string{"SKEP_DATABASE_URL": "postgres:///x", "SKEP_DATABASE_KEY": strings.Repeat("0a", 32), "SKEP_HATCHET_ADDRESS": "e:1"}, exitUsage,
			"SKEP_HATCHET_TOKEN_FILE"},
		"no scope":          {[]string{"token", "create", "x"}, nil, exitUsage, "scope"},
		"no life":           {[]string{"token", "create", "--scope", "admin", "--expires", "-1h", "x"}, nil, exitUsage, "-1h0m0s is of no use"},
		"no name":           {[]string{"token", "create", "--scope", "admin"}, nil, exitUsage, "see skep-server token create --help"},
		"bad scope":         {[]string{"token", "create", "--scope", "all", "x"}, nil, exitUsage, "there are"},
		"no token command":  {[]string{"token", "crate", "x"}, nil, exitUsage, `there is no command "crate": see skep-server token --help`},
		"a command too few": {[]string{"token"}, nil, exitUsage, "token needs a command"},
		"no such flag":      {[]string{"token", "create", "x", "--scpoe", "read"}, nil, exitUsage, "see skep-server token create --help"},
		"no global flag":    {[]string{"--nope"}, nil, exitUsage, "see skep-server --help"},
		"a collector's gRPC": {[]string{"serve"}, map[string]string{"SKEP_DATABASE_URL": "postgres:///x", "SKEP_DATABASE_KEY": strings.Repeat("0a", 32), "SKEP_HATCHET_DATABASE_URL": "postgres:///y",
			"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4317", "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}, exitUsage, "http/protobuf is spoken"},
		"options last": {[]string{"token", "create", "x", "--scope", "all"}, nil, exitUsage, `scope "all"`},
	} {
		t.Run(name, func(t *testing.T) {
			for _, v := range []string{"SKEP_DATABASE_URL", "SKEP_DATABASE_KEY", "SKEP_DATABASE_KEY_FILE", "SKEP_HATCHET_ADDRESS", "SKEP_HATCHET_DATABASE_URL",
				"OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_PROTOCOL"} {
				t.Setenv(v, test.env[v])
			}
			var out bytes.Buffer
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			if code := run(ctx, append([]string{"skep-server"}, test.args...), nil, &out, &out); code != test.code || !strings.Contains(out.String(), test.want) {
				t.Errorf("exit code %d, want %d and %q:\n%s", code, test.code, test.want, &out)
			}
			if strings.Contains(out.String(), "hunter2") {
				t.Error("it quotes the key")
			}
		})
	}
}
