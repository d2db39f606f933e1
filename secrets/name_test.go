package secrets

import (
	"strings"
	"testing"
)

func TestSlug(t *testing.T) {
	for ref, want := range map[string]string{
		"op://homelab/postgres-shared/password":      "postgres-shared-password",
		"op://homelab/Postgres Shared/admin/Api.Key": "postgres-shared-api-key",
		"op://v/a  b/c_d?attr=otp":                   "a-b-c_d",
		"op://v/_/._":                                "secret",
	} {
		if got := mustReference(t, ref).Slug(); got != want {
			t.Errorf("Slug(%s) = %q, want %q", ref, got, want)
		}
	}
}

func TestSecretName(t *testing.T) {
	long := strings.Repeat("long-", 20)
	for _, test := range []struct{ stack, base, version, want string }{
		{"media", "postgres-password", "", "media_postgres-password"},
		{"media", "postgres-password", "3", "media_postgres-password_v3"},
		{"media", long, "3", "media_long-long-long-long-long-long-long-long-long-long_7f9c1180"},
		{"media", long, "4", "media_long-long-long-long-long-long-long-long-long-long_4e1c554f"},
		{"media", "a b", "", "media_a-b_92e207e0"},
		{"media", "tail_", "", "media_tail_78279499"},
		{"_", "ß", "", "8cbbe18d"},
	} {
		got := SecretName(test.stack, test.base, test.version)
		if got != test.want {
			t.Errorf("SecretName(%q, %q, %q) = %q, want %q", test.stack, test.base, test.version, got, test.want)
		}
		if len(got) > maxSwarmName || !swarmName.MatchString(got) {
			t.Errorf("Swarm refuses %q", got)
		}
	}
	if got := SecretName("s", strings.Repeat("b", maxSwarmName-1), ""); len(got) != maxSwarmName || got[:maxSwarmName-9] != "s_"+strings.Repeat("b", maxSwarmName-11) {
		t.Errorf("a name of 65 characters became %q", got)
	}
	exact := SecretName("s", strings.Repeat("b", maxSwarmName-2), "")
	if exact != "s_"+strings.Repeat("b", maxSwarmName-2) {
		t.Errorf("a name of 64 characters was changed to %q", exact)
	}
}
